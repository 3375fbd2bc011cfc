"""Two owners, three delegates, a broker and an SES that fails: what can be done there, and what must hold then."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.db import Role
from broker.grants import negotiate, sync
from broker.grants.hooks import Hooks
from broker.grants.lifecycle import Paper, State
from broker.grants.models import Grant, Offer
from broker.grants.present import grant_view, visible_to
from broker.grants.sync import Pace
from broker.grants.views import GrantView, Proposal
from broker.policies.plan import MAX_POLICIES, is_ours
from broker.policies.terms import Action, Terms
from tests.conftest import new_tenant
from tests.grants.conftest import connect_account, verified_identity
from tests.grants.model.clock import StillDatabase
from tests.grants.model.deals import AT_REST, GONE, Deal, lies
from tests.grants.model.hand import DRIFTED, UNSHUT, Hand, Owed
from tests.grants.model.ses import Trouble, UnreliableSes

LIFETIME = timedelta(days=2)  # of an offer
GAP = timedelta(seconds=1)
CHECK_EVERY = timedelta(minutes=15)
TICK = timedelta(milliseconds=1)
DENY_KEPT = timedelta(minutes=20)
PACE = Pace(readback_gap=GAP, check_every=CHECK_EVERY, deny_kept=DENY_KEPT)
MOST_RUNS = 15  # of syncs over one identity, until it is at rest

ADDRESSES = (("news@example.com",), ("*@example.com",), ("shop@example.com", "news@example.com"))


class Owner(msgspec.Struct, frozen=True):
    """An owner and its one identity."""

    caller: Caller
    account: str
    identity: UUID
    arn: str


class Delegate(msgspec.Struct, frozen=True):
    """A delegate and its one account."""

    caller: Caller
    account: str


async def _ignore(session: AsyncSession, grant: Grant) -> None:
    """Feedback has tests of its own."""


class World:
    """Everything that happens goes through use cases; what is expected is kept beside, in `deals` and `foreign`."""

    def __init__(self, still: StillDatabase) -> None:
        self.still = still
        self.db = still.api
        self.ses = UnreliableSes()
        self.owners: list[Owner] = []
        self.delegates: list[Delegate] = []
        self.deals: list[Deal] = []
        self.foreign: list[dict[str, str]] = []
        self.adopted: dict[tuple[int, str], str] = {}  # text as it was when a grant was proposed in its place
        self.changed: set[int] = set()  # by hand, since it was read
        self.landed: set[int] = set()
        self.protected: dict[UUID, str | None] = {}
        self.unsealed: set[UUID] = set()
        self.over: set[UUID] = set()  # the Deny was kept long enough
        self.residual: dict[UUID, tuple[datetime | None, set[str]]] = {}  # when it was proven, and what was left then
        self.hand = Hand(self.db)
        self.steady: list[Deal] = []
        self.away: list[UUID] = []
        self.ses.heard = self._heard

    async def begin(self, *, foreign: int) -> None:
        """The parties, proven and connected; so many foreign policies on each identity."""
        for number in range(2):
            caller = await new_tenant(self.db, "owner")
            connection, account = await connect_account(self.db, caller, "role")
            identity, arn = await verified_identity(self.db, caller, connection, account)
            self.owners.append(Owner(caller, account, identity, arn))
            self.foreign.append({f"foreign{each}": self.policy_of(number, "999999999999") for each in range(foreign)})
            self.ses.fake.hold(account, "example.com", **self.foreign[number])
        for _ in range(3):
            caller = await new_tenant(self.db, "delegate")
            self.delegates.append(Delegate(caller, (await connect_account(self.db, caller, "proof"))[1]))

    def held(self, owner: int) -> dict[str, str]:
        """What SES holds on an owner's identity."""
        return self.ses.fake.policies[f"{self.owners[owner].account}/example.com"]

    def caller(self, deal: Deal, *, as_owner: bool) -> Caller:
        """One of a grant's parties."""
        return self.owners[deal.owner].caller if as_owner else self.delegates[deal.delegate].caller

    def terms(self, delegate: int, *, addresses: int, hours: int, later: bool, guarded: bool) -> Terms:
        """Some that are valid now."""
        now = self.still.now.replace(microsecond=0)  # policies know whole seconds
        return Terms(
            principals=(self.delegates[delegate].account,),
            actions=(Action.send, Action.send_raw) if addresses else (Action.send,),
            from_addresses=ADDRESSES[addresses],
            recipients=("*@example.org",) if guarded else (),
            not_before=now + timedelta(hours=1) if later else None,
            expires_at=now + timedelta(hours=hours),
        )

    def policy_of(self, owner: int, account: str, address: str = "hand*@example.com") -> str:
        """What somebody writes without the broker."""
        statement = {
            "Sid": "ByHand",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
            "Action": "ses:SendEmail",
            "Resource": self.owners[owner].arn,
            "Condition": {"StringLike": {"ses:FromAddress": address}},
        }
        return msgspec.json.encode({"Version": "2012-10-17", "Statement": [statement]}).decode()

    async def propose(self, owner: int, delegate: int, terms: Terms, *, by_owner: bool) -> Deal:
        """A new grant."""
        wanted = Proposal(
            identity_arn=self.owners[owner].arn,
            terms=terms,
            delegate_id=self.delegates[delegate].caller.tenant if by_owner else None,
        )
        caller = self.owners[owner].caller if by_owner else self.delegates[delegate].caller
        view = await negotiate.propose(self.db, caller, wanted, lifetime=LIFETIME)
        return self.note(view, owner, delegate, terms, by_owner=by_owner)

    def note(self, view: GrantView, owner: int, delegate: int, terms: Terms, *, by_owner: bool) -> Deal:
        """Keeps a grant that was proposed."""
        deal = Deal(
            id=view.id,
            owner=owner,
            delegate=delegate,
            account=self.delegates[delegate].account,
            arn=self.owners[owner].arn,
            paper=Paper.OPEN,
            offered=terms,
            offer=view.latest_offer,
            by_owner=by_owner,
            is_open=True,
            lapses_at=self.still.now + LIFETIME,
        )
        self.deals.append(deal)
        return deal

    async def views(self, owner: int) -> Mapping[UUID, GrantView]:
        """All grants on an identity, as their owner sees them now."""
        caller = self.owners[owner].caller
        query = select(Grant, Offer).join(Offer, Offer.id == Grant.latest_offer_id).where(visible_to(caller))
        async with self.db.read(caller) as session:
            rows = (await session.execute(query)).all()
        self.protected |= {grant.id: grant.protected_by for grant, _ in rows}
        self.residual |= {grant.id: (grant.verified_at, set(grant.residual)) for grant, _ in rows}
        kept = self.still.now - DENY_KEPT
        self.over = {grant.id for grant, _ in rows if grant.removed_at is not None and grant.removed_at <= kept}
        self.unsealed = {grant.id for grant, _ in rows if grant.protected_by is not None and grant.sealed_at is None}
        return {grant.id: grant_view(grant, offer, caller, names={}, now=self.still.now) for grant, offer in rows}

    async def wake(self, owner: int) -> None:
        """The routine check is due."""
        async with self.db.begin(self.owners[owner].caller) as session:
            await session.execute(text("UPDATE identities SET due_at = now()"))

    async def sync(
        self,
        owner: int,
        *troubles: Trouble,
        meanwhile: tuple[int, Callable[[], Awaitable[object]]] | None = None,
    ) -> None:
        """One run of the worker over this identity; it dies where a call says so."""
        await self.still.move(TICK)
        self.ses.expect(*troubles, at=self.still.now)
        self.ses.meanwhile = dict([meanwhile] if meanwhile else [])
        async with self._watching(owner):
            run = asyncio.ensure_future(
                sync.run(
                    self.db.as_role(Role.WORKER),
                    self.ses,
                    PACE,
                    hooks=Hooks(activated=_ignore, ended=_ignore),
                    only=[self.owners[owner].identity],
                )
            )
            died = asyncio.ensure_future(self.ses.died.wait())
            await asyncio.wait({run, died}, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            if not run.done():
                run.cancel()
            await asyncio.gather(run, died, return_exceptions=True)
        if not run.cancelled():
            run.result()
        if await self._was_read(owner):
            await self._check_hand(owner)
            self.changed.discard(owner)
            if not self.ses.late:
                self.landed.discard(owner)

    async def by_hand(self, owner: int, change: Callable[[dict[str, str]], None], *, removes: bool) -> None:
        """Somebody changes policies of ours, or `removes` them."""
        views, held = await self.views(owner), self.held(owner)
        mine = [deal for deal in self.deals if deal.owner == owner]
        agreed = [
            deal
            for deal in mine
            if views[deal.id].state is State.ACTIVE and not views[deal.id].flags and deal.is_as_agreed(held)
        ]
        shut = [
            deal
            for deal in mine
            if views[deal.id].state in GONE and self.protected[deal.id] == "deny" and deal.id in self.unsealed
        ]
        shut = [deal for deal in shut if deal.id not in self.over and deal.is_shut(held)]
        change(held)
        self.changed.add(owner)
        for what, deals in ((DRIFTED, agreed), (UNSHUT, shut)):
            for deal in deals:
                gone = removes and not deal.is_there(held)
                await self.hand.moved(Owed(deal, what, self._parties(deal), gone=gone), held)

    def _parties(self, deal: Deal) -> Sequence[Caller]:
        return [self.caller(deal, as_owner=True), self.caller(deal, as_owner=False)]

    async def _check_hand(self, owner: int) -> None:
        views = await self.views(owner)
        for deal in [each for each in self.deals if each.owner == owner and views[each.id].state in GONE]:
            proven_at, residual = self.residual[deal.id]
            hidden = deal.left_by(self.held(owner), self.still.now) - residual
            assert proven_at != self.still.now or not hidden, (
                f"{deal.id}: {hidden} still let it send, and nobody says so"
            )
        self.hand.over(self.over, self.still.now)
        untold = await self.hand.settle(owner)
        assert [] == untold, untold

    def _heard(self, key: str, found: Mapping[str, str], at: datetime) -> None:
        for number, owner in enumerate(self.owners):
            if key == f"{owner.account}/example.com":
                self.hand.heard(number, found)
        for deal in self.deals:
            if key == f"{self.owners[deal.owner].account}/example.com":
                deal.read(found, at)

    async def _was_read(self, owner: int) -> bool:
        async with self.db.read(self.owners[owner].caller) as session:
            read_at: datetime | None = await session.scalar(text("SELECT read_at FROM identities"))
        return read_at == self.still.now

    @contextlib.asynccontextmanager
    async def _watching(self, owner: int) -> AsyncIterator[None]:
        """Notes who is locked out at any moment of a run though nobody meant that."""
        views = await self.views(owner)
        self.steady = [
            deal
            for deal in self.deals
            if deal.owner == owner
            and deal.paper is Paper.AGREED
            and views[deal.id].state is State.ACTIVE
            and not views[deal.id].flags
            and deal.may_send(self.held(owner), self.still.now)
        ]

        def look() -> None:
            if len(self.held(owner)) < MAX_POLICIES - 1:
                self.away += [deal.id for deal in self.steady if not deal.may_send(self.held(owner), self.still.now)]

        self.ses.watch = look
        yield
        self.ses.watch = lambda: None

    def unsettle(self, deals: Sequence[Deal], *, amended: bool = False) -> None:
        """Somebody decided something about these: they may lose what they had, and it counts from now what was read."""
        self.hand.decided(deals, amended=amended)
        for deal in deals:
            deal.clean.clear()
        self.steady = [deal for deal in self.steady if deal not in deals]

    async def check(self) -> None:
        """After every step."""
        for owner in range(len(self.owners)):
            views, held = await self.views(owner), dict(self.held(owner))
            found = [
                f"{deal.id.hex[:4]}…{deal.id.hex[-4:]}: {lie}"
                for deal in self.deals
                if deal.owner == owner
                for lie in lies(
                    deal,
                    views[deal.id],
                    held,
                    now=self.still.now,
                    changed=owner in self.changed,
                    landed=owner in self.landed,
                    denied=self.protected[deal.id] == "deny",
                    kept=deal.id in self.unsealed - self.over,
                )
            ]
            for deal in [each for each in self.deals if each.owner == owner]:
                found += [f"{deal.id}: {lie}" for lie in deal.prove(views[deal.id].state, GAP)]
            assert [] == found, found
            self._check_foreign(owner, views)
        assert [] == self.away, "a neighbour was locked out"

    def _check_foreign(self, owner: int, views: Mapping[UUID, GrantView]) -> None:
        held = {name: text for name, text in self.held(owner).items() if not is_ours(name)}
        expected = self.foreign[owner]
        for name in [name for name in expected if name not in held and (owner, name) in self.adopted]:
            takers = [deal for deal in self.deals if (deal.owner, deal.replaces) == (owner, name)]
            assert any(
                deal.agreed is not None and (swap := views[deal.id].replaces) and swap.state in {"removing", "removed"}
                for deal in takers
            ), f"{name} was taken away for nobody"
            assert expected[name] == self.adopted[owner, name], f"{name} was changed since"
            del expected[name]
        assert expected == held

    def land(self, *, before: datetime | None = None) -> None:
        """What was on its way to SES arrives; or only what would be older than a request can be, at that time."""
        if self.ses.land(before - DENY_KEPT if before else self.still.now):
            self.landed |= set(range(len(self.owners)))

    async def wait(self, time: timedelta) -> None:
        """Time passes; no request outlives the Deny."""
        self.land(before=self.still.now + time)
        await self.still.move(time)

    async def rest(self) -> None:
        """Everything works again: within a few runs, at the times that the broker chose itself, all is at rest."""
        self.ses.denied.clear()
        self.land()
        for owner in range(len(self.owners)):
            for _ in range(MOST_RUNS):
                if not await self._until_due(owner):
                    break
                await self.sync(owner)
                await self.check()
                if await self._at_rest(owner):
                    break
            restless = await self._restless(owner)
            assert [] == restless, restless
            await self._check_told(owner)

    async def _check_told(self, owner: int) -> None:
        """Nobody heard that a grant was active after its end was asked for, nor twice that it was gone."""
        async with self.db.read(self.owners[owner].caller) as session:
            rows = (await session.execute(text("SELECT grant_id, type FROM events ORDER BY id"))).all()
        for deal in [each for each in self.deals if each.owner == owner and each.paper is Paper.REVOKED]:
            told = [row.type for row in rows if row.grant_id == deal.id]
            after = told[told.index("grant.revocation_requested") :]
            assert "grant.activated" not in after, after
            assert 1 == after.count("grant.revoked"), after

    async def _until_due(self, owner: int) -> bool:
        async with self.db.read(self.owners[owner].caller) as session:
            query = "SELECT greatest(due_at, claimed_until) FROM identities"
            due_at: datetime | None = await session.scalar(text(query))
        if due_at is not None:
            await self.still.move(max(timedelta(0), due_at - self.still.now))
        return due_at is not None

    async def _at_rest(self, owner: int) -> bool:
        return owner not in self.changed | self.landed and not await self._restless(owner)

    async def _restless(self, owner: int) -> list[str]:
        """What is still under way, or still there though nobody may have it."""
        views, held = await self.views(owner), self.held(owner)
        found = []
        for deal in [each for each in self.deals if each.owner == owner]:
            seen = views[deal.id]
            if seen.state not in AT_REST and "drifted" not in seen.flags:
                found.append(f"{deal.id}: {seen.state} {seen.error}")
            if deal.id in self.unsealed and seen.state in GONE:
                found.append(f"{deal.id}: {seen.state}, and not sealed")
            if seen.state is not State.ACTIVE and any(deal.allowed(held, self.still.now)):
                found.append(f"{deal.id}: {seen.state}, and may send")
        return found
