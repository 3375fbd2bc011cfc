"""Owners, delegates and faults at random: what SES holds is what the paper says, or what is shown admits it is not.

The same in every run, unless it is a long one: `TEST_MODEL_EXAMPLES=2000` makes one of it.
"""

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.errors import BrokerError
from broker.grants import end, negotiate, service, suspend
from broker.grants.adopting.service import adopt_policy
from broker.grants.adopting.views import Adopting
from broker.grants.lifecycle import Paper
from broker.grants.revoking import revoke_matching
from broker.grants.views import Counter, GrantView, Matching, OfferView, Reason
from broker.policies.plan import PREFIX
from tests.grants.model.clock import StillDatabase
from tests.grants.model.deals import Deal
from tests.grants.model.ses import Trouble
from tests.grants.model.world import CHECK_EVERY, GAP, LIFETIME, TICK, World

EXAMPLES = int(os.environ.get("TEST_MODEL_EXAMPLES", "12"))
STEPS = 25

which = st.integers(0, 9)  # one of what there is, counted round
owners, delegates = st.integers(0, 1), st.integers(0, 2)
wishes = st.fixed_dictionaries(
    {
        "addresses": st.integers(0, 2),
        "hours": st.sampled_from([3, 3, 500]),
        "later": st.sampled_from([False, False, False, True]),
        "guarded": st.booleans(),
    }
)
troubles: st.SearchStrategy[list[Trouble]] = st.one_of(
    st.just([]),
    st.lists(st.sampled_from(list(Trouble)), max_size=6),
    st.sampled_from(list(Trouble)).map(lambda trouble: [trouble] * 6),  # it stays so for a while
)
WAITS = (GAP, GAP, timedelta(seconds=31), timedelta(seconds=70), CHECK_EVERY, timedelta(hours=1), timedelta(hours=3))


class Machine(RuleBasedStateMachine):
    """One rule for each thing that somebody can do, or that can happen to SES."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    still: ClassVar[StillDatabase]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.still)

    def run(self, deed: Awaitable[object]) -> None:
        self.loop.run_until_complete(_done(deed))

    def tries(self, deed: Awaitable[object]) -> bool:
        """Whether the broker let somebody do it."""
        self.run(self.still.move(TICK))
        try:
            self.run(deed)
        except BrokerError:
            return False
        return True

    def deal(self, number: int) -> Deal:
        return self.world.deals[number % len(self.world.deals)]

    @initialize(foreign=st.sampled_from([0, 16, 17]), agreed=st.lists(st.tuples(owners, delegates, wishes), max_size=4))
    def begin(self, foreign: int, agreed: list[tuple[int, int, Mapping[str, Any]]]) -> None:
        self.run(self.world.begin(foreign=foreign))
        for owner, delegate, wished in agreed:
            self.propose(owner, delegate, wished, by_owner=True, agreed=True)
        for owner in {owner for owner, _, _ in agreed}:
            self.run(self.world.sync(owner))

    @rule(owner=owners, delegate=delegates, wished=wishes, by_owner=st.booleans(), agreed=st.booleans())
    def propose(self, owner: int, delegate: int, wished: Mapping[str, Any], by_owner: bool, agreed: bool) -> None:
        terms = self.world.terms(delegate, **wished)
        before = len(self.world.deals)
        self.tries(self.world.propose(owner, delegate, terms, by_owner=by_owner))
        if agreed and len(self.world.deals) > before:
            self.approve(before)

    @precondition(lambda self: self.world.deals)
    @rule(number=which)
    def approve(self, number: int) -> None:
        self.tries(self.approve_now(self.deal(number)))

    async def approve_now(self, deal: Deal) -> None:
        """By the party that did not make the offer."""
        caller = self.world.caller(deal, as_owner=not deal.by_owner)
        await negotiate.approve(self.world.db, caller, deal.id, expected=deal.offer)
        assert deal.is_open
        assert deal.at(self.still.now) in {Paper.OPEN, Paper.AGREED, Paper.PAUSED}
        deal.is_open, deal.agreed = False, deal.offered
        deal.ever.append(deal.offered)
        deal.paper = Paper.AGREED if deal.paper is Paper.OPEN else deal.paper
        self.world.unsettle([deal], amended=True)

    @precondition(lambda self: self.world.deals)
    @rule(number=which, wished=wishes, by_owner=st.booleans())
    def amend(self, number: int, wished: Mapping[str, Any], by_owner: bool) -> None:
        """An amendment where no offer is open, an answer with other terms where one is."""
        deal, make = self.deal(number), negotiate.amend
        if deal.awaits(self.still.now):
            by_owner, make = not deal.by_owner, negotiate.counter
        terms = self.world.terms(deal.delegate, **wished)
        caller = self.world.caller(deal, as_owner=by_owner)
        made = make(self.world.db, caller, deal.id, Counter(terms=terms), expected=deal.offer, lifetime=LIFETIME)
        if self.tries(self._keep(deal, made)):
            deal.offered, deal.by_owner, deal.is_open = terms, by_owner, True
            deal.lapses_at = self.still.now + LIFETIME

    async def _keep(self, deal: Deal, made: Awaitable[GrantView]) -> None:
        deal.offer = (await made).latest_offer

    @precondition(lambda self: self.world.deals)
    @rule(number=which, by_maker=st.booleans())
    def close(self, number: int, by_maker: bool) -> None:
        deal = self.deal(number)
        make, paper = (negotiate.withdraw, Paper.WITHDRAWN) if by_maker else (negotiate.decline, Paper.DECLINED)
        caller = self.world.caller(deal, as_owner=deal.by_owner is by_maker)
        if self.tries(make(self.world.db, caller, deal.id, Reason())):
            deal.is_open = False
            deal.paper = paper if deal.paper is Paper.OPEN else deal.paper

    def ends(self, deal: Deal, paper: Paper) -> None:
        """One that was suspended was read to be gone already, and is not read again."""
        clean = list(deal.clean) if deal.paper is Paper.PAUSED else []
        deal.paper, deal.is_open = paper, False
        self.world.unsettle([deal])
        deal.clean = clean

    async def revoke_now(self, deal: Deal) -> None:
        """The owner may at any moment."""
        live = deal.is_live(self.still.now)
        try:
            await end.revoke(self.world.db, self.world.caller(deal, as_owner=True), deal.id, Reason())
        except BrokerError:
            assert not live
        else:
            assert live
            self.ends(deal, Paper.REVOKED)

    async def suspend_now(self, deal: Deal) -> None:
        """By the owner."""
        await suspend.suspend(self.world.db, self.world.caller(deal, as_owner=True), deal.id, Reason())
        deal.paper = Paper.PAUSED
        self.world.unsettle([deal])

    async def relinquish_now(self, deal: Deal) -> None:
        """By the delegate."""
        await end.relinquish(self.world.db, self.world.caller(deal, as_owner=False), deal.id, Reason())
        self.ends(deal, Paper.RELINQUISHED)

    async def resume_now(self, deal: Deal) -> None:
        """By the owner."""
        await suspend.resume(self.world.db, self.world.caller(deal, as_owner=True), deal.id, Reason())
        deal.paper = Paper.AGREED

    @precondition(lambda self: self.world.deals)
    @rule(number=which)
    def revoke(self, number: int) -> None:
        self.tries(self.revoke_now(self.deal(number)))

    @precondition(lambda self: self.world.deals)
    @rule(number=which)
    def relinquish(self, number: int) -> None:
        self.tries(self.relinquish_now(self.deal(number)))

    @precondition(lambda self: self.world.deals)
    @rule(number=which)
    def suspend(self, number: int) -> None:
        self.tries(self.suspend_now(self.deal(number)))

    @precondition(lambda self: self.world.deals)
    @rule(number=which)
    def resume(self, number: int) -> None:
        self.tries(self.resume_now(self.deal(number)))

    @precondition(lambda self: self.world.deals)
    @rule(number=which)
    def restore(self, number: int) -> None:
        deal = self.deal(number)
        self.tries(end.restore(self.world.db, self.world.caller(deal, as_owner=True), deal.id))

    @rule(owner=owners, delegate=delegates)
    def revoke_matching(self, owner: int, delegate: int) -> None:
        wanted = Matching(delegate_id=self.world.delegates[delegate].caller.tenant)
        caller = self.world.owners[owner].caller
        self.run(self.still.move(TICK))
        self.run(revoke_matching(self.world.db, caller, wanted, last_used=_never_used, gap=GAP))
        for deal in self.world.deals:
            if (deal.owner, deal.delegate) == (owner, delegate) and deal.is_live(self.still.now):
                self.ends(deal, Paper.REVOKED)

    @rule(owner=owners, delegate=delegates, number=st.integers(0, 1), address=st.sampled_from(["hand@*", "*"]))
    def somebody_writes_a_policy(self, owner: int, delegate: int, number: int, address: str) -> None:
        text = self.world.policy_of(owner, self.world.delegates[delegate].account, address)
        self._change_foreign(owner, f"ByHand{number}", text)

    @rule(owner=owners, number=st.integers(0, 1))
    def somebody_removes_a_policy(self, owner: int, number: int) -> None:
        self._change_foreign(owner, f"ByHand{number}", None)

    def _change_foreign(self, owner: int, name: str, text: str | None) -> None:
        for held in (self.world.held(owner), self.world.foreign[owner]):
            held.pop(name, None)
            if text is not None:
                held[name] = text

    @rule(owner=owners, delegate=delegates, number=st.integers(0, 1), agreed=st.booleans())
    def adopt(self, owner: int, delegate: int, number: int, agreed: bool) -> None:
        self.run(self.world.sync(owner))
        before, name = len(self.world.deals), f"ByHand{number}"
        if self.tries(self._adopt(owner, delegate, name)) and agreed:
            self.approve(before)

    async def _adopt(self, owner: int, delegate: int, name: str) -> None:
        world, party = self.world, self.world.owners[owner]
        wanted = Adopting(
            delegate_id=world.delegates[delegate].caller.tenant, expires_at=self.still.now + timedelta(hours=5)
        )
        view = await adopt_policy(world.db, party.caller, party.identity, name, wanted, lifetime=LIFETIME)
        (offer,) = await _offers(world, party.caller, view.id)
        deal = world.note(view, owner, delegate, offer.terms, by_owner=True)
        deal.replaces = name
        world.adopted[owner, name] = world.held(owner).get(name, "")

    @precondition(lambda self: self.world.deals)
    @rule(owner=owners, number=which, how=st.sampled_from(["remove", "widen", "narrow", "overwrite"]))
    def somebody_changes_ours(self, owner: int, number: int, how: str) -> None:
        self._change_ours(owner, number, how, of=PREFIX)

    @precondition(lambda self: self.world.deals)
    @rule(owner=owners, how=st.sampled_from(["remove", "overwrite"]))
    def somebody_changes_a_deny(self, owner: int, how: str) -> None:
        """While access is being taken back."""
        self._change_ours(owner, 0, how, of=f"{PREFIX}deny-")

    def _change_ours(self, owner: int, number: int, how: str, *, of: str) -> None:
        names = sorted(name for name in self.world.held(owner) if name.startswith(of))
        if not names:
            return
        name = names[number % len(names)]

        def change(held: dict[str, str]) -> None:
            text = held.pop(name)
            match how:
                case "widen":
                    held[name] = text.replace('example.com"', '*"')
                case "narrow":
                    held[name] = text.replace('@example.com"', '-nobody@example.com"')
                case "overwrite":
                    held[name] = self.world.policy_of(owner, "999999999999")

        self.run(self.world.by_hand(owner, change, removes=how == "remove"))

    @rule(owner=owners, wake=st.booleans(), store=troubles)
    def sync(self, owner: int, wake: bool, store: list[Trouble]) -> None:
        if wake:
            self.run(self.world.wake(owner))
        self.run(self.world.sync(owner, *store))

    @precondition(lambda self: self.world.deals)
    @rule(
        number=which,
        call=st.integers(1, 5),
        deed=st.sampled_from(["revoke_now", "suspend_now", "relinquish_now", "resume_now", "approve_now", "land"]),
        store=troubles,
    )
    def sync_while_somebody_decides(self, number: int, call: int, deed: str, store: list[Trouble]) -> None:
        deal = self.deal(number)

        async def decide() -> None:
            try:
                await getattr(self, deed)(deal)
            except BrokerError:
                return

        self.run(self.world.sync(deal.owner, *store, meanwhile=(call, decide)))

    async def land(self, _deal: Deal | None = None) -> None:
        """What was on its way arrives."""
        self.world.land()

    @rule(wait=st.sampled_from(WAITS), owner=owners, store=troubles)
    def time_passes(self, wait: timedelta, owner: int, store: list[Trouble]) -> None:
        """And what is too old to be on its way has arrived."""
        self.run(self.world.wait(wait))
        self.run(self.world.sync(owner, *store))

    @rule(owner=owners, operations=st.sampled_from(["create", "delete", "read create delete", ""]))
    def rights(self, owner: int, operations: str) -> None:
        """The owner takes rights from our role, or all with the role itself, or gives them back."""
        account, denied = self.world.owners[owner].account, self.world.ses.denied
        denied -= {each for each in denied if each[0] == account}
        denied |= {(account, operation) for operation in operations.split()}

    @invariant()
    def nothing_lies(self) -> None:
        self.run(self.world.check())

    def teardown(self) -> None:
        if self.world.owners:
            self.run(self.world.rest())


async def _done(deed: Awaitable[object]) -> None:
    await deed


async def _never_used(_session: AsyncSession, _ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
    return {}


async def _offers(world: World, caller: Caller, grant_id: UUID) -> Sequence[OfferView]:
    return await service.list_offers(world.db, caller, grant_id)


def test_what_is_said_is_what_ses_holds(still: tuple[asyncio.AbstractEventLoop, StillDatabase]) -> None:
    """I3, I5, I6 and I7, whoever decides what in which order and whatever happens to calls and workers."""

    Machine.loop, Machine.still = still
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="TEST_MODEL_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
