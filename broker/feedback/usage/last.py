"""When mail was last sent under a grant, as far as feedback tells."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.feedback.models import Route
from broker.feedback.usage.models import UsageDayRow, UsageWindowRow


async def last_used(session: AsyncSession, grant_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
    """A `LastUsed`: to the quarter of an hour for the last day, then to when its routes were heard, or to the day.

    Three round trips.
    """
    quarters = select(UsageWindowRow.grant_id, func.max(UsageWindowRow.begins_at)).group_by(UsageWindowRow.grant_id)
    heard = select(Route.grant_id, func.max(Route.heard_at)).where(Route.heard_at.is_not(None)).group_by(Route.grant_id)
    days = select(UsageDayRow.grant_id, func.max(UsageDayRow.day)).group_by(UsageDayRow.grant_id)
    found: dict[UUID, datetime] = {}
    for grant_id, day in await session.execute(days.where(UsageDayRow.grant_id.in_(grant_ids))):
        found[grant_id] = datetime.combine(day, time.min, UTC)
    for query in (
        quarters.where(UsageWindowRow.grant_id.in_(grant_ids)),
        heard.where(Route.grant_id.in_(grant_ids)),
    ):
        for grant_id, at in await session.execute(query):
            if at is not None:
                found[grant_id] = max(at, found.get(grant_id, at))
    return found
