"""Two parties, a verified identity, proven accounts, and terms to negotiate about."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text

from broker.caller import Caller
from broker.db import Database
from broker.grants import negotiate
from broker.grants.views import GrantView, Proposal
from broker.ids import new_id
from broker.policies.terms import Action, Terms
from tests.conftest import MakeTenant
from tests.grants.model import clock
from tests.grants.model.clock import StillDatabase
from tests.servers import Postgres

LIFETIME = timedelta(days=7)
Propose = Callable[..., Awaitable[GrantView]]


class Parties(msgspec.Struct, frozen=True):
    """An owner with a verified domain, a delegate with a proven account, and their account ids."""

    owner: Caller
    delegate: Caller
    arn: str
    identity_id: UUID
    account: str
    delegate_account: str


def account_id() -> str:
    """An account id that no other test uses."""
    return f"{new_id().int % 10**12:012d}"


async def connect_account(db: Database, caller: Caller, kind: str) -> tuple[UUID, str]:
    """A verified connection and the account bound to its tenant."""
    connection, account = new_id(), account_id()
    named = {
        "id": connection,
        "tenant": caller.tenant,
        "kind": kind,
        "account": account,
        "role": f"arn:aws:iam::{account}:role/SesDelegationBroker" if kind == "role" else None,
    }
    async with db.begin(caller) as session:
        await session.execute(
            text(
                "INSERT INTO connections (id, tenant_id, kind, account_id, regions, external_id, role_arn, state)"
                " VALUES (:id, :tenant, :kind, :account, '{eu-west-1}', 'external', :role, 'verified')"
            ),
            named,
        )
        await session.execute(
            text("INSERT INTO accounts (account_id, tenant_id, connection_id) VALUES (:account, :tenant, :id)"), named
        )
    return connection, account


async def verified_identity(db: Database, caller: Caller, connection: UUID, account: str) -> tuple[UUID, str]:
    """The domain example.com, verified, in this account."""
    identity, arn = new_id(), f"arn:aws:ses:eu-west-1:{account}:identity/example.com"
    async with db.begin(caller) as session:
        await session.execute(
            text(
                "INSERT INTO identities (id, tenant_id, connection_id, account_id, region, name, kind, arn, verified,"
                " attributes, policies) VALUES (:id, :tenant, :connection, :account, 'eu-west-1', 'example.com',"
                " 'domain', :arn, true, '{}', '{}')"
            ),
            {"id": identity, "tenant": caller.tenant, "connection": connection, "account": account, "arn": arn},
        )
    return identity, arn


async def make_parties(db: Database, owner: Caller, delegate: Caller) -> Parties:
    """Everything that a negotiation needs."""
    connection, account = await connect_account(db, owner, "role")
    identity, arn = await verified_identity(db, owner, connection, account)
    _, delegate_account = await connect_account(db, delegate, "proof")
    return Parties(owner, delegate, arn, identity, account, delegate_account)


@pytest_asyncio.fixture
async def parties(db: Database, make_tenant: MakeTenant) -> Parties:
    """An owner and a delegate inside the test's transaction."""
    return await make_parties(db, await make_tenant("owner"), await make_tenant("delegate"))


def terms_for(parties: Parties, *, days: int = 90, **more: Any) -> Terms:
    """Terms that are valid for these parties."""
    given: dict[str, object] = {
        "principals": (parties.delegate_account,),
        "actions": (Action.send, Action.send_raw),
        "from_addresses": ("newsletter@example.com",),
        "expires_at": datetime.now(UTC).replace(microsecond=0) + timedelta(days=days),
        **more,
    }
    return msgspec.convert(msgspec.to_builtins(given), Terms)


@pytest.fixture
def propose(db: Database, parties: Parties) -> Propose:
    """The delegate proposes; keyword arguments change the terms."""

    async def make(**more: Any) -> GrantView:
        wanted = Proposal(identity_arn=parties.arn, terms=terms_for(parties, **more))
        return await negotiate.propose(db, parties.delegate, wanted, lifetime=LIFETIME)

    return make


@pytest.fixture
def still(postgres: Postgres) -> Iterator[tuple[asyncio.AbstractEventLoop, StillDatabase]]:
    """A database of its own, and a loop that nothing else uses."""
    name = f"still_{new_id().hex}"
    url = postgres.create_database(name)
    loop = asyncio.new_event_loop()
    database = StillDatabase(loop.run_until_complete(clock.make(postgres, url)))
    try:
        yield loop, database
    finally:
        loop.run_until_complete(database.close())
        loop.close()
        postgres.drop_database(name)
