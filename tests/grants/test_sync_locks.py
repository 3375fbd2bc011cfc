"""The order of locks: whoever settles a sync and whoever decides on a grant must not wait for each other in a ring."""

import asyncio
from contextlib import AsyncExitStack

import pytest_asyncio
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.crypto import Keyring
from broker.db import Database
from broker.grants.events import announce
from broker.grants.lifecycle import State
from broker.grants.models import Grant
from broker.grants.moves import wake_identity
from broker.grants.views import GrantView
from broker.webhooks import endpoints
from broker.webhooks.views import NewEndpoint
from tests.conftest import new_tenant
from tests.grants.conftest import connect_account, make_parties, terms_for
from tests.grants.test_sync import DEADLINE, Stage

WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")


@pytest_asyncio.fixture
async def two(committed_db: Database, keyring: Keyring) -> tuple[Stage, GrantView, GrantView]:
    """Two agreed grants on one identity, of two delegates, and an endpoint of the owner's that hears of both."""
    db = committed_db
    owner, delegate, other = [await new_tenant(db, role) for role in ("owner", "delegate", "delegate")]
    stage = Stage(db, await make_parties(db, owner, delegate), keyring)
    _, account = await connect_account(db, other, "proof")
    await endpoints.create(db, owner, NewEndpoint(url="http://127.0.0.1:9/hook"), keyring=keyring, allow_loopback=True)
    first = await stage.agreed()
    return stage, first, await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)


async def test_a_decision_during_a_settle_does_not_deadlock(two: tuple[Stage, GrantView, GrantView]) -> None:
    """The settle waits for the second grant before it has told anybody of the first, or touched the identity."""
    stage, first, second = two
    async with AsyncExitStack() as deciding:
        session = await deciding.enter_async_context(stage.db.begin(stage.parties.owner))

        async def hold() -> None:
            stage.ses.after_create = None
            await session.execute(select(Grant.id).where(Grant.id == second.id).with_for_update())

        stage.ses.after_create = hold
        settling = asyncio.create_task(stage.sync())
        await _wait_until_blocked(session)
        await session.execute(text("SET LOCAL lock_timeout = '1s'"))
        await wake_identity(session, stage.parties.identity_id)
        await announce(session, "grant.approved", await session.get_one(Grant, second.id))

    await settling
    assert [State.ACTIVE, State.ACTIVE] == [(await stage.until(each, State.ACTIVE)).state for each in (first, second)]


async def _wait_until_blocked(session: AsyncSession) -> None:
    async with asyncio.timeout(DEADLINE):
        while not (await session.execute(WAITING)).scalar_one():  # noqa: ASYNC110 - another backend's doing
            await asyncio.sleep(0.01)
