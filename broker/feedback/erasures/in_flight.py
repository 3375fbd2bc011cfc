"""The stage of an erasure that waits until no pump can send what it read before the events were blank."""

from datetime import datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.feedback.erasures.models import ErasureRow
from broker.feedback.erasures.stages import Step
from broker.webhooks.engine import TIMEOUT
from broker.webhooks.leases import LEASE

GRACE = LEASE + TIMEOUT + timedelta(seconds=5)
"""After the recall. A pump hears of it with its lease, and begins nothing once that is over; an attempt that has begun
ends with its deadline, and what came of it is written soon after."""

_RECALL = text("SELECT recall_lanes(:ids)")


async def wait(session: AsyncSession, job: ErasureRow) -> Step:
    """Recalls the lanes, after the commit that blanked; waits then. Nothing is waited for where nothing was pending.

    In this order: whoever claims or reads a lane from then on reads what is blank.
    """
    if not job.lanes:
        return Step(ended=True)
    if job.recalled_at is None:
        await session.execute(_RECALL, {"ids": job.lanes})
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    job.recalled_at = job.recalled_at or now
    left = job.recalled_at + GRACE - now
    return Step(ended=left <= timedelta(0), waits=left if left > timedelta(0) else None)
