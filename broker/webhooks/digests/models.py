"""Tables of the digests: which day of each endpoint is to be cut next, and the digests that were made."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

import broker.webhooks.models  # noqa: F401 - the endpoints that foreign keys point to
from broker.due import Due
from broker.tables import Base

_OLDEST_OPEN = text("(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)")


class DigestDueRow(Due, Base):
    """Under the endpoint's id: `day` (UTC) is cut next, at `due_at`.

    No event of that day has a transaction below `since_xact`; none of a day that begins after `mark_at` has one below
    `mark_xact`. `closing_xact`: all transactions up to this one must have ended before the cut.
    """

    __tablename__ = "digests"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "id"], ["endpoints.tenant_id", "endpoints.id"]),
        Index("digests_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    day: Mapped[date] = mapped_column(
        server_default=text("(((now() + interval '1 minute') AT TIME ZONE 'UTC')::date + 1)")
    )
    since_xact: Mapped[int] = mapped_column(BigInteger, server_default=_OLDEST_OPEN)
    mark_xact: Mapped[int] = mapped_column(BigInteger, server_default=_OLDEST_OPEN)
    mark_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closing_xact: Mapped[int | None] = mapped_column(BigInteger)


class DigestRow(Base):
    """The digest of one endpoint and UTC day; `types` is {type: {count, sha256}}, `event_id` the event that tells it.

    `filters_changed_at`: the last change of the endpoint's filters, when it was not before the day.
    """

    __tablename__ = "endpoint_digests"
    __table_args__ = (ForeignKeyConstraint(["tenant_id", "endpoint_id"], ["endpoints.tenant_id", "endpoints.id"]),)

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    event_id: Mapped[UUID]
    count: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    types: Mapped[dict[str, Any]]
    cut_at: Mapped[datetime]
    filters_changed_at: Mapped[datetime | None]
