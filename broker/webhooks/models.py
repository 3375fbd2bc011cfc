"""Tables of the webhooks: endpoints and their lanes, events, deliveries and the attempts made at them."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
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
from broker.tables import Base, EnumText
from broker.webhooks.events import Shape


class EndpointRow(Base):
    """A webhook of one tenant. `headers` is sealed JSON; `failing_since` is the first failure after the last success.

    `rate_limit`: deliveries per second, None for no limit. `disabled_xact`: no event stored by an earlier transaction
    was fanned out without it because it was disabled.

    `secret` is no longer read (see `SecretRow`); the column goes with a later migration.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'paused', 'disabled', 'deleted')", name="state"),
        CheckConstraint("rate_limit BETWEEN 1 AND 1000", name="rate_limit"),
        CheckConstraint("shape IN ('standard', 'cloudevents')", name="shape"),
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
    disabled_at: Mapped[datetime | None]
    disabled_xact: Mapped[int | None] = mapped_column(BigInteger)
    filters_changed_at: Mapped[datetime | None]
    rate_limit: Mapped[int | None]
    shape: Mapped[Shape] = mapped_column(EnumText(Shape), server_default=text("'standard'"))


class SecretRow(Base):
    """A signing secret, sealed. One without `expires_at` is the current one; another signs beside it until then."""

    __tablename__ = "endpoint_secrets"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),
        Index("endpoint_secrets_endpoint_id_idx", "endpoint_id"),
        Index("endpoint_secrets_current_key", "endpoint_id", unique=True, postgresql_where=text("expires_at IS NULL")),
        Index("endpoint_secrets_expires_at_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class LaneRow(Base):
    """Who delivers for an endpoint, under the endpoint's id: the pump `owner`, until `claimed_until`, under `fence`.

    What is due are its deliveries; nothing is sent before `quiet_until`. `recalls`: how often whoever holds it was
    asked to forget what it has in memory, and to read it again. `due_at` and `attempts` are no longer read;
    the columns go with a later migration.
    """

    __tablename__ = "lanes"

    id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    owner: Mapped[int | None]
    claimed_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    quiet_until: Mapped[datetime | None]
    recalls: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    due_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class DeltaRow(Base):
    """How one batch changed the number of a tenant's deliveries of events of `day` (UTC); rows are only added."""

    __tablename__ = "delivery_deltas"
    __table_args__ = (Index("delivery_deltas_tenant_id_idx", "tenant_id", "day"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[UUID]
    day: Mapped[date]
    created: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    delivered: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    dead: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    cancelled: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class CountRow(Base):
    """The sum of deltas that were taken away; the whole is this and the deltas that are still there."""

    __tablename__ = "delivery_counts"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    created: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    delivered: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    dead: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    cancelled: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)


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
    """One event that one endpoint must still get. `attempts` counts those of the running schedule.

    `first_at`: when the first of them failed, by the clock of the database; None before that.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),
        Index("deliveries_endpoint_id_priority_next_at_event_id_idx", "endpoint_id", "priority", "next_at", "event_id"),
        Index("deliveries_replay_id_idx", "replay_id", postgresql_where=text("replay_id IS NOT NULL")),
    )

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_at: Mapped[datetime]
    tenant_id: Mapped[UUID]
    priority: Mapped[int] = mapped_column(SmallInteger)
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    replay_id: Mapped[UUID | None]
    first_at: Mapped[datetime | None]


class DeadDeliveryRow(Base):
    """One event that one endpoint did not take within the whole schedule; kept until it is replayed."""

    __tablename__ = "dead_deliveries"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),
        Index("dead_deliveries_replay_id_idx", "replay_id", postgresql_where=text("replay_id IS NOT NULL")),
    )

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_at: Mapped[datetime]
    tenant_id: Mapped[UUID]
    attempts: Mapped[int] = mapped_column(SmallInteger)
    reason: Mapped[str]
    died_at: Mapped[datetime] = mapped_column(server_default=func.now())
    replay_id: Mapped[UUID | None]


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
