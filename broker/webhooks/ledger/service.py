"""Reading the books: how many deliveries became what, and how long events took."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import select

from broker.caller import Caller
from broker.db import Database
from broker.errors import BadRequest
from broker.webhooks import counts
from broker.webhooks.counts import Day
from broker.webhooks.ledger.ledger import Stage, Sums, add_up, percentiles
from broker.webhooks.ledger.models import LatencyRow
from broker.webhooks.ledger.views import Latencies, Latency, LatencyHour, StageLatency, Totals, Usage, UsageDay

MOST_DAYS = 366
KEPT = timedelta(days=14)


async def usage(db: Database, caller: Caller, *, first: date, last: date) -> Usage:
    """One's deliveries of the events of these days (UTC), exact at one moment; `BadRequest` for more than 366."""
    if not timedelta(0) <= last - first < timedelta(days=MOST_DAYS):
        raise BadRequest(f"from must not be after until, and there may be {MOST_DAYS} days at most.")
    async with db.read(caller) as session:
        days = await counts.days(session, caller.tenant, first=first, last=last)
    return Usage(first=first, last=last, total=_total(days), days=[_day(day) for day in days])


def _day(day: Day) -> UsageDay:
    return UsageDay(
        day=day.day,
        created=day.created,
        delivered=day.delivered,
        pending=day.pending,
        dead=day.dead,
        cancelled=day.cancelled,
        missing=day.missing,
    )


def _total(days: Sequence[Day]) -> Totals:
    return Totals(
        created=sum(day.created for day in days),
        delivered=sum(day.delivered for day in days),
        pending=sum(day.pending for day in days),
        dead=sum(day.dead for day in days),
        cancelled=sum(day.cancelled for day in days),
        missing=sum(abs(day.missing) for day in days),
    )


async def latencies(db: Database, caller: Caller, *, since: datetime, until: datetime) -> Latencies:
    """How long one's events took, by the hour in which it was noted; `BadRequest` for more than 14 days.

    `since` and `until` are aware; the hours that they lie in belong to the answer.
    """
    first, last = _hour_of(since), _hour_of(until)
    if not timedelta(0) <= last - first <= KEPT:
        raise BadRequest(f"from must not be after until, and there may be {KEPT.days} days at most.")
    mine = (LatencyRow.tenant_id == caller.tenant, LatencyRow.hour.between(first, last))
    query = select(LatencyRow).where(*mine).order_by(LatencyRow.hour)
    async with db.read(caller) as session:
        found = [(row.hour, row.sums) for row in await session.scalars(query)]
    return Latencies(
        first=first,
        last=last,
        stages=_latency(add_up([sums for _, sums in found])),
        hours=[LatencyHour(hour=hour, stages=_latency(sums)) for hour, sums in found],
    )


def _hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _latency(sums: Sums) -> Latency:
    return Latency(
        ses_to_received=_stage(sums, Stage.SES_TO_RECEIVED),
        received_to_committed=_stage(sums, Stage.RECEIVED_TO_COMMITTED),
        committed_to_attempted=_stage(sums, Stage.COMMITTED_TO_ATTEMPTED),
        attempted_to_accepted=_stage(sums, Stage.ATTEMPTED_TO_ACCEPTED),
    )


def _stage(sums: Sums, stage: Stage) -> StageLatency:
    found = percentiles(sums, stage)
    return StageLatency(
        count=found.count,
        negative=found.negative,
        mean_ms=_ms(found.mean),
        p50_ms=_ms(found.p50),
        p95_ms=_ms(found.p95),
        p99_ms=_ms(found.p99),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
