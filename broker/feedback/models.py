"""Topics and routes, the keys of what was seen, and what could not be trusted."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.due import Due
from broker.tables import Base


class Topic(Due, Base):
    """An SNS topic that feedback comes through. `accounts` are those whose identities may publish to it.

    A `broker_topic` is in our account and made for one connection of its owner. A `tenant_topic` is in the account of
    its tenant: of a delegate, for the route's `configuration_set`, or of an owner whose slot was taken (None).
    `protocol`: whether it is delivered to our API or to our queue. `durable`: SNS loses nothing while we are away.
    """

    __tablename__ = "topics"
    __table_args__ = (
        CheckConstraint("source IN ('broker_topic', 'tenant_topic')", name="source"),
        CheckConstraint("state IN ('pending', 'confirmed', 'lost')", name="state"),
        UniqueConstraint("arn", name="topics_arn_key"),
        CheckConstraint("protocol IN ('https', 'sqs')", name="protocol"),
        Index(
            "topics_connection_id_region_key",
            "connection_id",
            "region",
            unique=True,
            postgresql_where=text("source = 'broker_topic'"),
        ),
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
    connection_id: Mapped[UUID | None] = mapped_column(ForeignKey("connections.id"))
    configuration_set: Mapped[str | None]
    protocol: Mapped[str] = mapped_column(server_default="https")
    durable: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Route(Due, Base):
    """How feedback about one grant reaches us. `tenant_id` is the owner; `previous` what was set before we came.

    `settings` is what its maker asked for, `found` what the last check saw, `choices` what can be done about `reason`.
    `wanted` false: it is being removed. `configured_at` is since when it is set up without a break. `live_at` is when
    the first event of the delegate's account came through, `heard_at` about when the last one did. `durable`: none of
    its topics loses anything while we are away; None: nothing comes to us this way, or that is not known yet.
    """

    __tablename__ = "routes"
    __table_args__ = (
        CheckConstraint("kind IN ('identity_topic', 'configuration_set', 'foreign_topic', 'legacy')", name="kind"),
        CheckConstraint(
            "state IN ('requested', 'configured', 'live', 'quiet', 'pending', 'broken', 'removed')", name="state"
        ),
        CheckConstraint("made_by IN ('owner', 'delegate')", name="made_by"),
        Index("routes_grant_id_kind_key", "grant_id", "kind", unique=True, postgresql_where=text("state <> 'removed'")),
        Index("routes_grant_id_idx", "grant_id"),  # ingest looks routes up by their grant
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
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    found: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    choices: Mapped[list[str]] = mapped_column(server_default=text("'{}'"), default=list)
    wanted: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    made_by: Mapped[str] = mapped_column(server_default="owner", default="owner")
    heard_at: Mapped[datetime | None]
    configured_at: Mapped[datetime | None]
    durable: Mapped[bool | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EventKey(Base):
    """Feedback that was seen, by the day on which its mail was sent; partitioned by day.

    `event_id` is the event that the parties heard. `vouched`: a topic of the broker's told of it, first or later.
    """

    __tablename__ = "event_keys"
    __table_args__ = {"postgresql_partition_by": "RANGE (day)"}  # noqa: RUF012 — SQLAlchemy's own hook, read once

    day: Mapped[date] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    vouched: Mapped[bool] = mapped_column(server_default=text("true"))


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
