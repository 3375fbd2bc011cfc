"""The tables of recipients, of suppressions, and of pushing them into a delegate's account."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

import broker.grants.models
import broker.tenants.models  # noqa: F401 - the tenants that foreign keys point to
from broker.due import Due
from broker.tables import Base

NIL = UUID(int=0)
_NIL = text("'00000000-0000-0000-0000-000000000000'")


class RecipientRow(Base):
    """What became of one recipient's mail, for one owner, delegate and identity; own mail: both are the owner.

    `recipient_hash` is HMAC-SHA-256 under the pair's own key (`keys.pair_key`), the same under all their grants.
    """

    __tablename__ = "recipients"
    __table_args__ = (
        CheckConstraint(
            "state IN ('sent', 'delivered', 'transient_bounce', 'permanent_bounce', 'complaint')", name="state"
        ),
        UniqueConstraint("owner_id", "delegate_id", "identity_arn", "recipient_hash", name="recipients_pair_key"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    delegate_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    identity_arn: Mapped[str]
    recipient_hash: Mapped[bytes]
    state: Mapped[str]
    state_at: Mapped[datetime]
    sends: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    deliveries: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    bounces: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    complaints: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    last_at: Mapped[datetime]


class SuppressionRow(Base):
    """One reason why a recipient must not be mailed again; stays as a hash when the recipient is erased.

    The views are the widest that were given; `grant_id` and `grant_hash` (under that grant's key) are of the last event
    that shows the owner as much. `vouched`: a topic of the broker's said it. `stamp`: a new id whenever there is
    something new to push.
    `address` is encrypted, and there only while one of the parties may see it. `active` false: an opt-out taken back.
    """

    __tablename__ = "suppressions"
    __table_args__ = (
        CheckConstraint("reason IN ('complaint', 'hard_bounce', 'opt_out')", name="reason"),
        CheckConstraint("owner_view IN ('full', 'hashed', 'none')", name="owner_view"),
        CheckConstraint("delegate_view IN ('full', 'hashed', 'none')", name="delegate_view"),
        UniqueConstraint(
            "owner_id", "delegate_id", "identity_arn", "recipient_hash", "reason", name="suppressions_pair_key"
        ),
        Index("suppressions_owner_id_idx", "owner_id", "id"),
        Index("suppressions_delegate_id_idx", "delegate_id", "id"),
        Index("suppressions_grant_id_idx", "grant_id", "id"),
        Index("suppressions_delegate_id_stamp_idx", "delegate_id", "stamp"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    delegate_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    grant_id: Mapped[UUID | None] = mapped_column(ForeignKey("grants.id"))
    identity_arn: Mapped[str]
    recipient_hash: Mapped[bytes]
    reason: Mapped[str]
    active: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    guessed: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    owner_view: Mapped[str | None]
    delegate_view: Mapped[str | None]
    grant_hash: Mapped[str | None]
    address: Mapped[bytes | None]
    since: Mapped[datetime]
    last_at: Mapped[datetime]
    last_event_id: Mapped[UUID]
    vouched: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    stamp: Mapped[UUID]


class PushRow(Due, Base):
    """The switch that puts suppressions into the suppression list of a delegate's own account, in one Region.

    `after_id`: the stamp of the last suppression that was put there; `reason`: why it waits.
    """

    __tablename__ = "suppression_pushes"
    __table_args__ = (
        UniqueConstraint("connection_id", "region", name="suppression_pushes_connection_id_region_key"),
        Index("suppression_pushes_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("suppression_pushes_tenant_id_idx", "tenant_id", "id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    connection_id: Mapped[UUID] = mapped_column(ForeignKey("connections.id"))
    region: Mapped[str]
    enabled: Mapped[bool]
    after_id: Mapped[UUID] = mapped_column(server_default=_NIL, default=NIL)
    pushed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
