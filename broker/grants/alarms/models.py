"""Mails about what is stuck, as due rows."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.due import Due
from broker.grants.lifecycle import Party
from broker.tables import Base, EnumText


class Fate(StrEnum):
    """What became of a mail.

    `sent`: a mail server took it. `refused`: it never will. `unaddressed`: the party names no address. `over`: nothing
    was stuck any more. `off`: this installation sends no mail.
    """

    SENT = "sent"
    REFUSED = "refused"
    UNADDRESSED = "unaddressed"
    OVER = "over"
    OFF = "off"


class Alarm(Due, Base):
    """One mail to one party of a grant that cannot be taken away. `tenant_id` is the owner, whoever it goes to.

    `error` is what SES said, `commands` what the owner can do without us; `reason` is why the mail could not be sent.
    """

    __tablename__ = "alarms"
    __table_args__ = (
        CheckConstraint("party IN ('owner', 'delegate')", name="party"),
        CheckConstraint("outcome IN ('sent', 'refused', 'unaddressed', 'over', 'off')", name="outcome"),
        Index("alarms_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("alarms_grant_id_idx", "grant_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"))
    party: Mapped[Party] = mapped_column(EnumText(Party))
    error: Mapped[str]
    commands: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    outcome: Mapped[Fate | None] = mapped_column(EnumText(Fate))
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    done_at: Mapped[datetime | None]
