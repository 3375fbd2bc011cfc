"""An owner with an identity and a topic, two delegates with a grant each, and an endpoint for everybody."""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import NOBODY, Caller
from broker.connections.models import Connection
from broker.db import Database, Role
from broker.feedback.envelope import Arrival, Envelope
from broker.feedback.models import Route, Topic
from broker.grants.lifecycle import Effect, Outcome, Paper
from broker.grants.models import Grant, Offer
from broker.identities.models import Identity
from broker.ids import new_id
from broker.policies.terms import FeedbackTerms
from broker.webhooks.models import EndpointRow, LaneRow
from tests.conftest import new_tenant
from tests.connections.aws import cloud, gateways  # noqa: F401 - fixtures
from tests.feedback import sns
from tests.feedback.examples import DELEGATE_ACCOUNT, OWNER_ACCOUNT

SECOND_ACCOUNT = "333333333333"


class World(msgspec.Struct, frozen=True):
    """Ids and callers of one little world of its own; ARNs are unique, so that committed worlds do not meet."""

    db: Database
    owner: Caller
    delegate: Caller
    second: Caller
    identity_id: UUID
    identity_arn: str
    topic_id: UUID
    topic_arn: str
    grant_id: UUID
    second_grant_id: UUID
    endpoints: dict[UUID, UUID]
    """By tenant."""

    def envelope(self, payload: dict[str, Any], **changes: Any) -> Envelope:
        """A notification from this world's topic; `payload` is about this world's identity unless it says otherwise."""
        mail = payload["mail"]
        if mail["sourceArn"] == _EXAMPLE_IDENTITY:
            payload = payload | {"mail": mail | {"sourceArn": self.identity_arn}}
        return as_envelope(sns.notification(payload, **({"TopicArn": self.topic_arn} | changes)))

    async def events(self, tenant: Caller) -> list[Any]:
        """What the tenant may read in `events`, oldest first."""
        async with self.db.read(tenant) as session:
            return list(await session.execute(text("SELECT * FROM events ORDER BY id")))

    async def deliveries(self) -> list[UUID]:
        """The tenants that get something, one entry per delivery, in order."""
        found: list[UUID] = []
        for tenant in (self.owner, self.delegate, self.second):
            async with self.db.read(tenant) as session:
                found += (await session.scalars(text("SELECT tenant_id FROM deliveries"))).all()
        return sorted(found)

    async def quarantined(self) -> list[str]:
        """The reasons of what is in quarantine for the owner."""
        async with self.db.read(self.owner) as session:
            return list((await session.scalars(text("SELECT reason FROM quarantine ORDER BY id"))).all())


_EXAMPLE_IDENTITY = f"arn:aws:ses:eu-west-1:{OWNER_ACCOUNT}:identity/example.com"


def as_envelope(fields: dict[str, Any]) -> Envelope:
    """The fields as a message that was verified."""
    return msgspec.json.decode(sns.body(sns.signed(fields)), type=Envelope)


def arrived(*envelopes: Envelope) -> list[Arrival]:
    """They have just come."""
    return [Arrival(envelope, sns.NOW, time.monotonic()) for envelope in envelopes]


def ingest_role(db: Database) -> Database:
    return db.as_role(Role.INGEST)


class Savepoint:
    """A line inside the transaction of a test, under the role of ingest."""

    def __init__(self, db: Database) -> None:
        self._db = ingest_role(db)

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._db.begin(NOBODY) as session:
            await session.execute(text("SELECT 1"))  # a transaction begins, with its role, at the first statement
            connection = await (await session.connection()).get_raw_connection()
            driver = connection.driver_connection
            assert isinstance(driver, asyncpg.Connection)
            found: list[asyncpg.Record] = await driver.fetch(statement, *arguments)
            return found


async def make_world(
    db: Database,
    *,
    owner_account: str = OWNER_ACCOUNT,
    delegate_account: str = DELEGATE_ACCOUNT,
    external_id: str = "external",
    terms: dict[str, Any] | None = None,
) -> World:
    """Everything that comes before the first bounce; `terms`: of the first grant, empty ones unless given."""
    owner, delegate, second = [await new_tenant(db, role) for role in ("owner", "delegate", "delegate")]
    identity_id, topic_id = new_id(), new_id()
    name = f"d{identity_id.hex}.example.com"
    identity_arn = f"arn:aws:ses:eu-west-1:{owner_account}:identity/{name}"
    topic_arn = f"arn:aws:sns:eu-west-1:999999999999:ses-delegation-broker-{owner.tenant.hex}"
    async with db.begin(owner) as session:
        connection = Connection(
            id=new_id(),
            tenant_id=owner.tenant,
            kind="role",
            account_id=owner_account,
            regions=["eu-west-1"],
            external_id=external_id,
            role_arn=f"arn:aws:iam::{owner_account}:role/SesDelegationBroker",
            state="verified",
        )
        session.add(connection)
        await session.flush()
        session.add(
            Identity(
                id=identity_id,
                tenant_id=owner.tenant,
                connection_id=connection.id,
                account_id=owner_account,
                region="eu-west-1",
                name=name,
                kind="domain",
                arn=identity_arn,
                verified=True,
                attributes={},
                policies={},
            )
        )
        session.add(
            Topic(
                id=topic_id,
                tenant_id=owner.tenant,
                connection_id=connection.id,
                arn=topic_arn,
                region="eu-west-1",
                accounts=[owner_account],
                source="broker_topic",
                state="confirmed",
                subscription_arn=f"{topic_arn}:1",
            )
        )
        await session.flush()
        parties = (owner.tenant, identity_id, identity_arn)
        first = await add_grant(session, parties, delegate.tenant, delegate_account, terms=terms)
        other = await add_grant(session, parties, second.tenant, SECOND_ACCOUNT)
        for grant_id, hearer in ((first, delegate), (other, second)):
            session.add(
                Route(
                    id=new_id(),
                    tenant_id=owner.tenant,
                    delegate_id=hearer.tenant,
                    grant_id=grant_id,
                    identity_id=identity_id,
                    kind="identity_topic",
                    topic_id=topic_id,
                    state="configured",
                )
            )
    endpoints = {caller.tenant: await _endpoint(db, caller) for caller in (owner, delegate, second)}
    return World(db, owner, delegate, second, identity_id, identity_arn, topic_id, topic_arn, first, other, endpoints)


async def add_grant(
    session: AsyncSession,
    parties: tuple[UUID, UUID, str],
    delegate_id: UUID,
    account: str,
    *,
    terms: dict[str, Any] | None = None,
) -> UUID:
    """An active grant with default terms between the owner of an identity (owner, identity, ARN) and a delegate."""
    owner_id, identity_id, identity_arn = parties
    grant_id, offer_id = new_id(), new_id()
    agreed = terms or {"principals": [account], "actions": ["send"], "expires_at": "2100-01-01T00:00:00Z"}
    session.add(
        Grant(
            id=grant_id,
            owner_id=owner_id,
            delegate_id=delegate_id,
            identity_id=identity_id,
            identity_arn=identity_arn,
            paper=Paper.AGREED,
            effect=Effect.APPLIED,
            latest_offer_id=offer_id,
            agreed_offer_id=offer_id,
            terms=agreed,
            accounts=[account],
            feedback=msgspec.to_builtins(FeedbackTerms()),
            activated_at=sns.NOW - timedelta(days=1),
        )
    )
    await session.flush()
    session.add(
        Offer(
            id=offer_id,
            grant_id=grant_id,
            owner_id=owner_id,
            delegate_id=delegate_id,
            number=1,
            made_by="delegate",
            terms=agreed,
            outcome=Outcome.APPROVED,
            decided_at=sns.NOW - timedelta(days=1),
            lapses_at=sns.NOW,
        )
    )
    await session.flush()
    return grant_id


async def _endpoint(db: Database, caller: Caller) -> UUID:
    endpoint_id = new_id()
    async with db.begin(caller) as session:
        session.add(
            EndpointRow(
                id=endpoint_id, tenant_id=caller.tenant, url="https://hooks.example.org", secret=b"s", state="active"
            )
        )
        await session.flush()
        session.add(LaneRow(id=endpoint_id, tenant_id=caller.tenant))
    return endpoint_id


ChangeGrant = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def world(db: Database) -> World:
    """A world that is rolled back at the end of the test."""
    return await make_world(db)


@pytest.fixture
def change_grant(world: World) -> ChangeGrant:
    """`await change_grant(ended_at=…)` changes the first grant."""

    async def change(**values: Any) -> None:
        async with world.db.begin(world.owner) as session:
            await session.execute(update(Grant).where(Grant.id == world.grant_id).values(**values))

    return change


async def route_of(world: World, grant_id: UUID) -> Route:
    """The route of a grant as the owner sees it."""
    async with world.db.read(world.owner) as session:
        return (await session.scalars(select(Route).where(Route.grant_id == grant_id))).one()


async def database_time(db: Database, caller: Caller) -> datetime:
    """Now, as rows are stamped."""
    async with db.read(caller) as session:
        return (await session.scalars(select(func.now()))).one()
