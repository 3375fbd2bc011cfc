"""Accounts that go away while grants about them are agreed and ended: nobody waits in a ring, nothing is agreed on what
is gone."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from broker.connections import service as connections
from broker.connections.binding import hold
from broker.connections.displace import displace, release_account
from broker.db import Database, Role
from broker.errors import Conflict, NotFound, PreconditionFailed
from broker.grants import end, negotiate, sync
from broker.grants.hooks import Hooks
from broker.grants.lifecycle import ENDED, LIVE, Effect, Paper, State
from broker.grants.models import Grant
from broker.grants.release import release
from broker.grants.views import GrantView, Proposal, Reason
from broker.identities.models import Identity
from broker.identities.room import lock
from tests.conftest import new_tenant
from tests.grants.conftest import LIFETIME, Parties, make_parties, terms_for
from tests.grants.fake_ses import FakeSes
from tests.grants.test_release import connection_of
from tests.grants.test_sync import PACE

DEADLINE = 30.0
DEADLOCK = "40P01"  # PostgreSQL, errcodes-appendix
ROUNDS = 6
_BLOCKED = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")


@pytest.fixture
def deadlocks(engine: AsyncEngine) -> Iterator[list[str]]:
    """What Postgres ended because it was waiting for itself, in use cases and in workers, which try again and go on."""
    found: list[str] = []

    def note(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == DEADLOCK:
            found.append(str(context.statement))

    event.listen(engine.sync_engine, "handle_error", note)
    yield found
    event.remove(engine.sync_engine, "handle_error", note)


async def _until_blocked(session: AsyncSession, number: int) -> None:
    """So many others wait for a lock."""
    async with asyncio.timeout(DEADLINE):
        while (await session.execute(_BLOCKED)).scalar_one() < number:  # noqa: ASYNC110 - other backends' doing
            await asyncio.sleep(0.01)


async def _proposed(db: Database, parties: Parties, **terms: Any) -> GrantView:
    wanted = Proposal(identity_arn=parties.arn, terms=terms_for(parties, **terms))
    return await negotiate.propose(db, parties.delegate, wanted, lifetime=LIFETIME)


async def _parties(db: Database) -> Parties:
    return await make_parties(db, await new_tenant(db, "owner"), await new_tenant(db, "delegate"))


async def test_a_connection_stays_for_a_grant_that_is_just_being_agreed(committed_db: Database) -> None:
    """Else there would be a live grant on an identity that nobody looks at any more."""
    db = committed_db
    parties = await _parties(db)
    grant = await _proposed(db, parties)
    connection = await connection_of(db, parties.owner)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(db.begin(parties.owner))
        await lock(session, parties.identity_id)
        approving = asyncio.create_task(
            negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)  # has the grant locked
        )
        await _until_blocked(session, 1)
        removing = asyncio.create_task(connections.remove(db, parties.owner, connection, release=release))
        await _until_blocked(session, 2)

    approved = await approving
    with pytest.raises(Conflict, match="1 grant needs this connection"):
        await removing
    assert State.ACTIVATING is approved.state


async def test_nothing_is_agreed_about_an_identity_that_goes_meanwhile(committed_db: Database) -> None:
    """Who approves has to wait for whoever retires the identity, and then finds it gone."""
    db = committed_db
    parties = await _parties(db)
    grant = await _proposed(db, parties)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(db.begin(parties.owner))
        gone = select(Identity).where(Identity.id == parties.identity_id).with_for_update(key_share=True)
        identity = (await session.scalars(gone)).one()
        approving = asyncio.create_task(negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer))
        await _until_blocked(session, 1)
        identity.removed_at = (await session.execute(text("SELECT now()"))).scalar_one()

    with pytest.raises(Conflict, match="not connected any more"):
        await approving


async def test_an_offer_to_the_owners_own_account_does_not_deadlock_its_removal(
    committed_db: Database, deadlocks: list[str]
) -> None:
    """The removal holds the account and wants the grant; who approves the grant wants the account."""
    db = committed_db
    parties = await _parties(db)
    first = "0" * 12  # accounts are held in the order of their ids
    grant = await _proposed(db, parties, principals=(first, parties.account))
    connection = await connection_of(db, parties.owner)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(db.begin(parties.owner))
        await hold(session, first)
        approving = asyncio.create_task(negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer))
        await _until_blocked(session, 1)
        removing = asyncio.create_task(connections.remove(db, parties.owner, connection, release=release))
        await _until_waiting_or_done(session, removing)

    with pytest.raises((Conflict, PreconditionFailed)):
        await approving
    await removing

    assert [] == deadlocks


async def _until_waiting_or_done(session: AsyncSession, task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(DEADLINE):
        while not task.done() and (await session.execute(_BLOCKED)).scalar_one() < 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


class Crowd:
    """Two owners, each with an identity, and two delegates; every grant is about the same identities and accounts."""

    def __init__(self, db: Database, pairs: Sequence[Parties]) -> None:
        self.db = db
        self.worker = db.as_role(Role.WORKER)
        self.pairs = pairs
        self.ses = FakeSes()
        self.grants: list[GrantView] = []
        for each in pairs:
            self.ses.hold(each.account, "example.com")

    async def meet(self) -> None:
        """Everybody proposes to everybody, some of it to the owners' own accounts, and half is agreed."""
        for owner in self.pairs:
            for delegate in self.pairs:
                for principals in ((delegate.delegate_account,), (delegate.delegate_account, owner.account)):
                    wanted = Proposal(identity_arn=owner.arn, terms=terms_for(delegate, principals=principals))
                    made = await negotiate.propose(self.db, delegate.delegate, wanted, lifetime=LIFETIME)
                    self.grants.append(made)
                agreed = self.grants[-2]
                await negotiate.approve(self.db, owner.owner, agreed.id, expected=agreed.latest_offer)

    def deeds(self) -> list[Callable[[], Awaitable[object]]]:
        """All that anybody may do now, at once."""
        db, why = self.db, Reason()
        found: list[Callable[[], Awaitable[object]]] = [self.sync, self.sync]
        for each in self.grants:
            owner = next(pair.owner for pair in self.pairs if pair.arn == each.identity_arn)
            delegate = next(pair.delegate for pair in self.pairs if pair.delegate.tenant == each.delegate.id)
            found += [
                partial(negotiate.approve, db, owner, each.id, expected=each.latest_offer),
                partial(end.revoke, db, owner, each.id, why),
                partial(end.relinquish, db, delegate, each.id, why),
                partial(negotiate.withdraw, db, delegate, each.id, why),
            ]
        for pair, other in (self.pairs, reversed(self.pairs)):
            for account in (pair.account, pair.delegate_account):
                found += [
                    partial(release_account, self.worker, account, why="sold", release=release),
                    partial(displace, self.worker, account, other.owner.tenant, release=release),
                ]
        return found

    async def sync(self) -> None:
        """The worker's turn."""
        hooks = Hooks(activated=_nothing, ended=_nothing)
        only = [pair.identity_id for pair in self.pairs]
        await sync.run(self.worker, self.ses, PACE, hooks=hooks, only=only)

    async def unsettled(self) -> list[str]:
        """Grants that are neither in force on an identity that is there, nor gone."""
        found = []
        for pair in self.pairs:
            async with self.db.read(pair.owner) as session:
                query = select(Grant, Identity.removed_at).join(Identity, Identity.id == Grant.identity_id)
                for grant, removed_at in (await session.execute(query)).all():
                    settled = {Paper.AGREED: Effect.APPLIED}.get(grant.paper, Effect.REMOVED)
                    if grant.paper in LIVE | ENDED and (
                        grant.effect is not settled or (grant.paper in LIVE and removed_at)
                    ):
                        found.append(f"{grant.id} is {grant.paper} and {grant.effect}, {removed_at}")
        return found


async def _nothing(session: AsyncSession, grant: Grant) -> None:
    """Feedback has tests of its own."""


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_all_at_once_settles_and_nobody_waits_in_a_ring(
    committed_db: Database, deadlocks: list[str], seed: int
) -> None:
    """Approved, revoked, handed back, withdrawn, released by the operator, displaced, and synced meanwhile."""
    crowd = Crowd(committed_db, [await _parties(committed_db), await _parties(committed_db)])
    await crowd.meet()
    deeds = crowd.deeds()
    random.Random(seed).shuffle(deeds)  # noqa: S311 - an order

    async with asyncio.timeout(DEADLINE):
        outcomes = await asyncio.gather(*(deed() for deed in deeds), return_exceptions=True)
        while await crowd.unsettled():
            await crowd.sync()

    refusals = (Conflict, NotFound, PreconditionFailed)
    odd = [each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, refusals)]
    assert [] == odd
    assert [] == deadlocks
    assert any(not isinstance(each, BaseException) for each in outcomes)
