"""The tables of erasures and of what terms say about forgetting."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from broker.due import Due
from broker.tables import Base, EnumText

NIL = UUID(int=0)
_NIL = text("'00000000-0000-0000-0000-000000000000'")


class State(StrEnum):
    """Of an erasure."""

    RUNNING = "running"
    DONE = "done"


class Stage(StrEnum):
    """What an erasure goes through, in this order: events as owner, as delegate, attempts, and the rest.

    `in_flight`: waits until nothing of it can be on its way to a receiver any more.
    """

    OWNED = "owned"
    LENT = "lent"
    IN_FLIGHT = "in_flight"
    ATTEMPTS = "attempts"
    QUARANTINE = "quarantine"
    ANSWERS = "answers"
    RECIPIENTS = "recipients"


class ErasureRow(Due, Base):
    """One recipient being erased from what a tenant is a party to. `address` is encrypted, and gone once it is done.

    The position within the stage: (`after_xact`, `after_id`) among events, (`after_endpoint`, `after_id`) among
    attempts, `after_id` alone otherwise. Events of transactions from `until_xact` on are new facts, and not its own.

    `lanes`: those that had a delivery of what was blanked; `recalled_at`: when whoever held them was told.
    """

    __tablename__ = "erasures"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'done')", name="state"),
        CheckConstraint(
            "stage IN ('owned', 'lent', 'in_flight', 'attempts', 'quarantine', 'answers', 'recipients')", name="stage"
        ),
        CheckConstraint("(address IS NULL) = (state = 'done')", name="address"),
        Index("erasures_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("erasures_tenant_id_idx", "tenant_id", "id"),
        Index(
            "erasures_running_key",
            "tenant_id",
            "recipient_hash",
            unique=True,
            postgresql_where=text("state = 'running'"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    recipient_hash: Mapped[bytes]
    address: Mapped[bytes | None]
    state: Mapped[State] = mapped_column(EnumText(State))
    stage: Mapped[Stage | None] = mapped_column(EnumText(Stage))
    after_xact: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    after_endpoint: Mapped[UUID] = mapped_column(server_default=_NIL, default=NIL)
    after_id: Mapped[UUID] = mapped_column(server_default=_NIL, default=NIL)
    until_xact: Mapped[int | None] = mapped_column(BigInteger)
    lanes: Mapped[list[UUID]] = mapped_column(ARRAY(PG_UUID(as_uuid=True)), server_default=text("'{}'"), default=list)
    recalled_at: Mapped[datetime | None]
    erased: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    key_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class RetentionRow(Due, Base):
    """How far the events of one grant (its id) are forgotten, `days` after they were stored."""

    __tablename__ = "retentions"
    __table_args__ = (Index("retentions_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),)

    id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    days: Mapped[int]
    after_xact: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    after_id: Mapped[UUID] = mapped_column(server_default=_NIL, default=NIL)
