"""The table of replays: jobs that queue deliveries at a bounded rate."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.due import Due
from broker.tables import Base, EnumText

NIL = UUID(int=0)


class Kind(StrEnum):
    """`range`: every event of a stretch of time; `failed`: what died since a time; `catch_up`: an endpoint's gap."""

    RANGE = "range"
    FAILED = "failed"
    CATCH_UP = "catch_up"


class State(StrEnum):
    """Of a job. `done`: everything is queued, though not necessarily sent yet."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class ReplayRow(Due, Base):
    """One job. Its position is (`after_xact`, `after_id`) among events, or `after_id` alone among dead deliveries.

    `from_at` and `until_at` bound what it takes: the time of an event (`range`), of the death (`failed`), or of being
    stored (`catch_up`). Events of transactions from `until_xact` on are not its own; None: its first step will say.
    `total` is None while it is not known. `key_id`: who asked; None: the broker itself.
    """

    __tablename__ = "replays"
    __table_args__ = (
        CheckConstraint("kind IN ('range', 'failed', 'catch_up')", name="kind"),
        CheckConstraint("state IN ('running', 'done', 'cancelled')", name="state"),
        CheckConstraint("rate BETWEEN 1 AND 500", name="rate"),
        ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),
        Index("replays_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("replays_tenant_id_idx", "tenant_id", "id"),
        Index(
            "replays_running_key",
            "endpoint_id",
            unique=True,
            postgresql_where=text("state = 'running' AND kind <> 'catch_up'"),
        ),
        Index(
            "replays_catching_up_key",
            "endpoint_id",
            unique=True,
            postgresql_where=text("state = 'running' AND kind = 'catch_up'"),
        ),
    )

    endpoint_id: Mapped[UUID]
    kind: Mapped[Kind] = mapped_column(EnumText(Kind))
    state: Mapped[State] = mapped_column(EnumText(State))
    reason: Mapped[str | None]
    rate: Mapped[int]
    from_at: Mapped[datetime]
    until_at: Mapped[datetime]
    after_xact: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    after_id: Mapped[UUID] = mapped_column(server_default=text("'00000000-0000-0000-0000-000000000000'"), default=NIL)
    until_xact: Mapped[int | None] = mapped_column(BigInteger)
    total: Mapped[int | None] = mapped_column(BigInteger)
    queued: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    key_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
