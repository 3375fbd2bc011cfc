"""Tables of what is added up: how far each owner's events were, what each grant's mail came to, and its breaker."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

import broker.grants.models  # noqa: F401 - the grants that foreign keys point to
from broker.due import Due
from broker.feedback.breaker import State
from broker.tables import Base, EnumText


class ReckoningRow(Due, Base):
    """Under the owner's id: its events up to (`after_xact`, `after_id`) in the order of its feed are added up.

    `asleep`: whoever stores an event has to wake it.
    """

    __tablename__ = "reckonings"
    __table_args__ = (
        CheckConstraint("tenant_id = id", name="tenant_id"),
        Index("reckonings_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    after_xact: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    after_id: Mapped[UUID] = mapped_column(server_default=text("'00000000-0000-0000-0000-000000000000'"))
    asleep: Mapped[bool] = mapped_column(server_default=text("false"))


class UsageDayRow(Base):
    """How many events of a name a grant had on a day (UTC). A name is a type or a part of it, as `bounced.hard`."""

    __tablename__ = "usage_days"

    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    delegate_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(BigInteger)


class UsageWindowRow(Base):
    """What rates are taken of, by quarter of an hour, or from the grant's resumption on; kept for a day.

    `vouched`: what topics of the broker's told. Otherwise all that the parties heard, each occurrence once, whoever
    told of it first. Most is in both.
    """

    __tablename__ = "usage_windows"

    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), primary_key=True)
    begins_at: Mapped[datetime] = mapped_column(primary_key=True)
    vouched: Mapped[bool] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    delegate_id: Mapped[UUID]
    sent: Mapped[int] = mapped_column(BigInteger)
    delivered: Mapped[int] = mapped_column(BigInteger)
    bounced: Mapped[int] = mapped_column(BigInteger)
    complained: Mapped[int] = mapped_column(BigInteger)


class BreakerRow(Base):
    """What a grant's breaker said last, when that changed, and the figures behind it."""

    __tablename__ = "breakers"
    __table_args__ = (CheckConstraint("state IN ('ok', 'warned', 'tripped')", name="state"),)

    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"), primary_key=True)
    owner_id: Mapped[UUID]
    delegate_id: Mapped[UUID]
    state: Mapped[State] = mapped_column(EnumText(State))
    why: Mapped[list[dict[str, Any]]]
    changed_at: Mapped[datetime]
