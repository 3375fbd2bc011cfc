"""Topics and routes, the keys of what was seen, and what could not be trusted."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.db import Base
from broker.due import Due


class Topic(Due, Base):
    """An SNS topic that feedback comes through. `accounts` are those whose identities may publish to it."""

    __tablename__ = "topics"
    __table_args__ = (
        CheckConstraint("source IN ('broker_topic', 'tenant_topic')", name="source"),
        CheckConstraint("state IN ('pending', 'confirmed', 'lost')", name="state"),
        UniqueConstraint("arn", name="topics_arn_key"),
        UniqueConstraint("tenant_id", "region", "source", name="topics_tenant_id_region_source_key"),
        Index("topics_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    arn: Mapped[str | None]
    region: Mapped[str]
    accounts: Mapped[list[str]] = mapped_column(server_default="{}")
    source: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str | None]
    subscription_arn: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Route(Due, Base):
    """How feedback about one grant reaches us. `tenant_id` is the owner; `previous` what was set before we came."""

    __tablename__ = "routes"
    __table_args__ = (
        CheckConstraint("kind IN ('identity_topic', 'configuration_set', 'foreign_topic', 'legacy')", name="kind"),
        CheckConstraint(
            "state IN ('requested', 'configured', 'live', 'quiet', 'pending', 'broken', 'removed')", name="state"
        ),
        UniqueConstraint("grant_id", "kind", name="routes_grant_id_kind_key"),
        Index("routes_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("routes_tenant_id_idx", "tenant_id", "id"),
        Index("routes_delegate_id_idx", "delegate_id", "id"),
        Index("routes_identity_id_idx", "identity_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    delegate_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"))
    identity_id: Mapped[UUID] = mapped_column(ForeignKey("identities.id"))
    kind: Mapped[str]
    topic_id: Mapped[UUID | None] = mapped_column(ForeignKey("topics.id"))
    state: Mapped[str]
    reason: Mapped[str | None]
    previous: Mapped[dict[str, Any] | None]
    live_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EventKey(Base):
    """Feedback that was seen, by the day on which its mail was sent; partitioned by day."""

    __tablename__ = "event_keys"
    __table_args__ = {"postgresql_partition_by": "RANGE (day)"}  # noqa: RUF012 — SQLAlchemy's own hook, read once

    day: Mapped[date] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]


class QuarantinedMessage(Base):
    """A message that was not to be trusted or could not be read, as it came; `tenant_id` is the topic's."""

    __tablename__ = "quarantine"
    __table_args__ = (Index("quarantine_tenant_id_idx", "tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))
    topic_arn: Mapped[str]
    reason: Mapped[str]
    payload: Mapped[str]
