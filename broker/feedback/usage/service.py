"""Reading what a grant's mail came to."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.db import Database
from broker.errors import BadRequest, NotFound
from broker.feedback.breaker import WINDOW, State, judge, why_unmeasured
from broker.feedback.events import EVENT_TYPES
from broker.feedback.usage.folding import before_of, last_said, limits_of, windows_of
from broker.feedback.usage.models import UsageDayRow
from broker.feedback.usage.views import Breaker, GrantUsage, GrantUsageDay
from broker.grants.lifecycle import Paper, Party
from broker.grants.models import Grant
from broker.grants.present import party_of, visible_to
from broker.policies.terms import FeedbackTerms

MOST_DAYS = 366
_FAMILY = {"bounced": "email.bounced", "complained": "email.complained"}


async def usage(db: Database, caller: Caller, grant_id: UUID, *, first: date, last: date) -> GrantUsage:
    """A grant's events by day, and its breaker; `BadRequest` for more than 366 days."""
    if not timedelta(0) <= last - first < timedelta(days=MOST_DAYS):
        raise BadRequest(f"from must not be after until, and there may be {MOST_DAYS} days at most.")
    async with db.read(caller) as session:
        row = (
            await session.execute(select(Grant, func.now()).where(Grant.id == grant_id, visible_to(caller)))
        ).one_or_none()
        if row is None:
            raise NotFound("There is no grant with this id.")
        grant, now = row
        days = await _days(session, grant, caller, first=first, last=last)
        breaker = await _breaker(session, grant, now=now)
    return GrantUsage(grant_id=grant.id, first=first, last=last, days=days, breaker=breaker)


async def _days(
    session: AsyncSession, grant: Grant, caller: Caller, *, first: date, last: date
) -> Sequence[GrantUsageDay]:
    query = (
        select(UsageDayRow.day, UsageDayRow.name, UsageDayRow.number)
        .where(UsageDayRow.grant_id == grant.id, UsageDayRow.day.between(first, last))
        .order_by(UsageDayRow.day, UsageDayRow.name)
    )
    heard = _heard(grant, party_of(grant, caller.tenant))
    found: dict[date, dict[str, int]] = {}
    for day, name, number in await session.execute(query):
        if _FAMILY.get(name.partition(".")[0], name) in heard:
            found.setdefault(day, {})[name] = number
    return [GrantUsageDay(day=day, counts=counts) for day, counts in found.items()]


def _heard(grant: Grant, party: Party) -> set[str]:
    terms = msgspec.convert(grant.feedback or {}, FeedbackTerms)
    kinds = terms.owner_events if party is Party.OWNER else terms.delegate_events
    return {EVENT_TYPES[kind] for kind in kinds}


async def _breaker(session: AsyncSession, grant: Grant, *, now: datetime) -> Breaker:
    windows = await windows_of(session, [grant], now=now)
    said = (await last_said(session, [grant.id])).get(grant.id)
    before = before_of(grant, said)
    window = windows[grant.id]
    verdict = judge(window, limits_of(grant), before=before)
    state = _state(grant, before, verdict.state)
    since = now - WINDOW
    return Breaker(
        state=state,
        reason=why_unmeasured(window) if state is State.UNMEASURED else None,
        figures=verdict.figures,
        since=max(since, grant.resumed_at) if grant.resumed_at else since,
        changed_at=said.changed_at if said else None,
    )


def _state(grant: Grant, before: State, now: State) -> State:
    """A suspended grant whose breaker tripped says so until it is resumed; of others that are not in force, `off`."""
    if grant.paper is Paper.PAUSED and before is State.TRIPPED:
        return State.TRIPPED
    return now if grant.paper is Paper.AGREED else State.OFF
