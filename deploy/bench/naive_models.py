"""The tables of the naive system, in a schema of their own, with the tenants' set-up copied from the broker's."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ForeignKey, Index, func, insert, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import Text, Uuid

from broker.crypto import Keyring
from broker.roundtrips import ROUND_TRIPS
from broker.settings import Settings
from broker.webhooks.models import SecretRow

SCHEMA = "naive"
POOL = 20


class Base(DeclarativeBase):
    """Its own registry: nothing here is a table of the broker."""

    type_annotation_map = {  # noqa: RUF012 — SQLAlchemy's own hook, read once
        str: Text(),
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
        list[UUID]: ARRAY(Uuid()),
    }


class TopicRow(Base):
    """An SNS topic and whose it is."""

    __tablename__ = "topics"
    __table_args__ = ({"schema": SCHEMA},)

    arn: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    accounts: Mapped[list[str]]
    source: Mapped[str]


class GrantRow(Base):
    """A grant that was ever active, as far as attribution needs it."""

    __tablename__ = "grants"
    __table_args__ = (Index("naive_grants_identity_arn", "identity_arn"), {"schema": SCHEMA})

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    delegate_id: Mapped[UUID]
    identity_arn: Mapped[str]
    accounts: Mapped[list[str]]
    feedback: Mapped[dict[str, Any]]
    activated_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]


class EndpointRow(Base):
    """A webhook. Its signing secret is stored as it is, which spares the naive system the decryption."""

    __tablename__ = "endpoints"
    __table_args__ = (Index("naive_endpoints_tenant_id", "tenant_id"), {"schema": SCHEMA})

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    url: Mapped[str]
    secret: Mapped[bytes]
    event_types: Mapped[list[str] | None]
    grant_ids: Mapped[list[UUID] | None]
    identity_arns: Mapped[list[str] | None]


class EventRow(Base):
    """One event; `key` keeps what comes twice from being stored twice."""

    __tablename__ = "events"
    __table_args__ = ({"schema": SCHEMA},)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(unique=True)
    at: Mapped[datetime]
    type: Mapped[str]
    owner_id: Mapped[UUID | None]
    delegate_id: Mapped[UUID | None]
    grant_id: Mapped[UUID | None]
    source: Mapped[str]
    owner_view: Mapped[str | None]
    delegate_view: Mapped[str | None]
    recipient_hash: Mapped[str | None]
    data: Mapped[dict[str, Any]]
    payload: Mapped[str | None]


class DeliveryRow(Base):
    """One event that one endpoint must still get."""

    __tablename__ = "deliveries"
    __table_args__ = ({"schema": SCHEMA},)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(ForeignKey(EventRow.id))
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey(EndpointRow.id))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    event: Mapped[EventRow] = relationship(lazy="raise")
    endpoint: Mapped[EndpointRow] = relationship(lazy="raise")


class AttemptRow(Base):
    """One HTTP try of one delivery."""

    __tablename__ = "attempts"
    __table_args__ = ({"schema": SCHEMA},)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    event_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    number: Mapped[int]
    status: Mapped[int | None]
    latency_ms: Mapped[int]
    error: Mapped[str | None]


# What the broker holds already: the same tenants, topics, grants and endpoints for both systems of one run.
_TOPICS = text(
    "INSERT INTO naive.topics (arn, tenant_id, accounts, source)"
    " SELECT arn, tenant_id, accounts, source FROM public.topics WHERE arn IS NOT NULL"
)
_GRANTS = text(
    "INSERT INTO naive.grants (id, owner_id, delegate_id, identity_arn, accounts, feedback, activated_at, ended_at,"
    " verified_at) SELECT id, owner_id, delegate_id, identity_arn, accounts, coalesce(feedback, '{}'), activated_at,"
    " ended_at, verified_at FROM public.grants WHERE activated_at IS NOT NULL"
)
_ENDPOINTS = text(
    "SELECT id, tenant_id, url, event_types, grant_ids, identity_arns FROM public.endpoints WHERE state = 'active'"
)


def pool(settings: Settings) -> AsyncEngine:
    """A pool that is as quick as SQLAlchemy's can be: connections are not asked whether they live when they are taken.

    Statements are counted as those of the broker are.
    """
    engine = create_async_engine(
        settings.database_url,
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=60,
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
    )
    ROUND_TRIPS.watch(engine)
    return engine


async def prepare(connection: AsyncConnection, keyring: Keyring, *, login: str) -> None:
    """Makes the schema anew and copies the set-up; `connection` is that of the tables' owner.

    `login` is the service's own login, which the naive system runs under. For later connections of the owner a table's
    bare name means the naive one, so that `bench.run` counts the rows of this system.
    """
    await connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
    await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    await connection.run_sync(Base.metadata.create_all)
    await connection.execute(_TOPICS)
    await connection.execute(_GRANTS)
    await _copy_endpoints(connection, keyring)
    await connection.execute(text(f'GRANT USAGE ON SCHEMA {SCHEMA} TO "{login}"'))
    rights = "SELECT, INSERT, UPDATE, DELETE"
    await connection.execute(text(f'GRANT {rights} ON ALL TABLES IN SCHEMA {SCHEMA} TO "{login}"'))
    await connection.execute(text(f"ALTER ROLE CURRENT_USER SET search_path = {SCHEMA}, public"))


async def _copy_endpoints(connection: AsyncConnection, keyring: Keyring) -> None:
    current = select(SecretRow.endpoint_id, SecretRow.sealed).where(SecretRow.expires_at.is_(None))
    secrets = {row.endpoint_id: keyring.open(row.sealed) for row in await connection.execute(current)}
    found = (await connection.execute(_ENDPOINTS)).mappings()
    rows = [{**row, "secret": secrets[row["id"]]} for row in found]
    if rows:
        await connection.execute(insert(EndpointRow), rows)
