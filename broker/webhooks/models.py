"""Tables of the webhooks: endpoints and their lanes, events, deliveries and the attempts made at them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

import broker.tenants.models  # noqa: F401 - the tenants that foreign keys point to
from broker.db import Base
from broker.due import Due


class EndpointRow(Base):
    """A webhook of one tenant. `headers` is sealed JSON; `failing_since` is the first failure after the last success.

    `secret` is no longer read (see `SecretRow`); the column goes with a later migration.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'paused', 'disabled', 'deleted')", name="state"),
        UniqueConstraint("tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    url: Mapped[str]
    description: Mapped[str | None]
    event_types: Mapped[list[str] | None]
    grant_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid()))
    identity_arns: Mapped[list[str] | None]
    headers: Mapped[bytes | None]
    header_names: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    secret: Mapped[bytes | None]
    state: Mapped[str]
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    failing_since: Mapped[datetime | None]


class SecretRow(Base):
    """A signing secret, sealed. One without `expires_at` is the current one; another signs beside it until then."""

    __tablename__ = "endpoint_secrets"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),
        Index("endpoint_secrets_endpoint_id_idx", "endpoint_id"),
        Index("endpoint_secrets_current_key", "endpoint_id", unique=True, postgresql_where=text("expires_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class LaneRow(Due, Base):
    """The due row of an endpoint, under the endpoint's id; nothing is sent before `quiet_until`."""

    __tablename__ = "lanes"
    __table_args__ = (Index("lanes_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),)

    id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    quiet_until: Mapped[datetime | None]


class EventRow(Base):
    """One event with both its parties and what each may see; partitioned by the day of `at`."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("owner_view IN ('full', 'hashed', 'none')", name="owner_view"),
        CheckConstraint("delegate_view IN ('full', 'hashed', 'none')", name="delegate_view"),
        CheckConstraint("owner_id IS NOT NULL OR delegate_id IS NOT NULL", name="party"),
        Index("events_owner_id_idx", "owner_id", "xact", "id"),
        Index("events_delegate_id_idx", "delegate_id", "xact", "id"),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    at: Mapped[datetime] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
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
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    xact: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id()::text::bigint)"))


class DeliveryRow(Base):
    """One event that one endpoint must still get. `attempts` counts those of the running schedule."""

    __tablename__ = "deliveries"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),
        Index("deliveries_endpoint_id_priority_next_at_event_id_idx", "endpoint_id", "priority", "next_at", "event_id"),
    )

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_at: Mapped[datetime]
    tenant_id: Mapped[UUID]
    priority: Mapped[int] = mapped_column(SmallInteger)
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))


class DeadDeliveryRow(Base):
    """One event that one endpoint did not take within the whole schedule; kept until it is replayed."""

    __tablename__ = "dead_deliveries"
    __table_args__ = (ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),)

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_at: Mapped[datetime]
    tenant_id: Mapped[UUID]
    attempts: Mapped[int] = mapped_column(SmallInteger)
    reason: Mapped[str]
    died_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AttemptRow(Base):
    """One HTTP try of one delivery, append-only; partitioned by the day of `at`. No `status`: there was no answer."""

    __tablename__ = "attempts"
    __table_args__ = (
        Index("attempts_endpoint_id_event_id_idx", "endpoint_id", "event_id", "at"),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    at: Mapped[datetime] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    event_id: Mapped[UUID]
    event_at: Mapped[datetime]
    number: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[int | None] = mapped_column(SmallInteger)
    latency_ms: Mapped[int]
    error: Mapped[str | None]
    answer: Mapped[str | None]
