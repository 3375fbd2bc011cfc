"""Adds a batch to the counts of each grant, and asks the breakers of the grants that it is about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.bulk import as_arrays, from_arrays
from broker.caller import Caller
from broker.feedback.breaker import WINDOW, Counts, Figure, State, Verdict, Window, judge
from broker.feedback.reckoned import Reckoned
from broker.feedback.usage.by_route import deliveries_of
from broker.feedback.usage.counting import Bucket, Day, by_day, by_quarter
from broker.feedback.usage.models import BreakerRow, UsageWindowRow
from broker.grants.events import announce
from broker.grants.lifecycle import Paper
from broker.grants.models import Grant
from broker.grants.present import terms_of
from broker.grants.suspend import trip
from broker.policies.terms import Limits
from broker.tables import Base

_MEASURES = ("sent", "delivered", "bounced", "complained")
_PARTIES = ("grant_id", "owner_id", "delegate_id")
_DAY_COLUMNS = (*_PARTIES, "day", "name", "number")
_WINDOW_COLUMNS = (*_PARTIES, "begins_at", "vouched", *_MEASURES)


def _adding(table: str, columns: Sequence[str], sums: Sequence[str]) -> Insert:
    """New rows; of those that are there already these columns grow."""
    there = Base.metadata.tables[table]
    new = from_arrays(there, columns)
    totals = {name: there.c[name] + new.excluded[name] for name in sums}
    return new.on_conflict_do_update(constraint=f"{table}_pkey", set_=totals)


_DAYS = _adding("usage_days", _DAY_COLUMNS, ("number",))
_WINDOWS = _adding("usage_windows", _WINDOW_COLUMNS, _MEASURES)


class Judged(msgspec.Struct, frozen=True):
    """What a grant's breaker says now, and what it said before."""

    grant: Grant
    before: State
    verdict: Verdict


async def fold(session: AsyncSession, events: Sequence[Reckoned], *, now: datetime) -> None:
    """A `Fold`: about six statements for any number of events, and those of a grant that is warned or suspended."""
    ids = sorted({event.grant_id for event in events if event.grant_id is not None})
    if not ids:
        return
    grants = {grant.id: grant for grant in await session.scalars(select(Grant).where(Grant.id.in_(ids)))}
    known = [event for event in events if event.grant_id in grants]
    await _add_days(session, grants, by_day(known, now=now))
    resumed = {grant.id: grant.resumed_at for grant in grants.values()}
    await _add_windows(session, grants, by_quarter(known, resumed, now=now), now=now)
    await _ask(session, [grant for grant in grants.values() if grant.paper is Paper.AGREED], now=now)


async def _add_days(session: AsyncSession, grants: Mapping[UUID, Grant], counted: Counter[Day]) -> None:
    rows = [
        {**_parties(grants[grant_id]), "day": day, "name": name, "number": number}
        for (grant_id, day, name), number in sorted(counted.items())
    ]
    if rows:
        await session.execute(_DAYS, as_arrays(rows, _DAY_COLUMNS))


async def _add_windows(
    session: AsyncSession, grants: Mapping[UUID, Grant], counted: Mapping[Bucket, Counter[str]], *, now: datetime
) -> None:
    rows = [
        {
            **_parties(grants[grant_id]),
            "begins_at": begins_at,
            "vouched": vouched,
            **{name: measures[name] for name in _MEASURES},
        }
        for (grant_id, begins_at, vouched), measures in sorted(counted.items())
    ]
    if rows:
        await session.execute(_WINDOWS, as_arrays(rows, _WINDOW_COLUMNS))
    old = (UsageWindowRow.grant_id.in_(list(grants)), UsageWindowRow.begins_at < now - 2 * WINDOW)
    await session.execute(delete(UsageWindowRow).where(*old))


async def _ask(session: AsyncSession, grants: Sequence[Grant], *, now: datetime) -> None:
    said = await last_said(session, [grant.id for grant in grants])
    windows = await windows_of(session, grants, now=now)
    judged = []
    for grant in grants:
        before = before_of(grant, said.get(grant.id))
        judged.append(Judged(grant, before, judge(windows[grant.id], limits_of(grant), before=before)))
    tripped = [each for each in judged if each.verdict.state is State.TRIPPED]
    suspended = {grant.id for grant in await _suspend(session, tripped)}
    for each in judged:
        to = each.verdict.state if each.verdict.state is not State.UNMEASURED else State.OK
        if to is not each.before and (to is not State.TRIPPED or each.grant.id in suspended):
            await _say(session, each, to, now=now)


async def _suspend(session: AsyncSession, tripped: Sequence[Judged]) -> Sequence[Grant]:
    if not tripped:
        return ()
    caller = Caller.system(tripped[0].grant.owner_id, job="breaker")
    return await trip(session, caller, {each.grant.id: why(each.verdict.why) for each in tripped})


async def _say(session: AsyncSession, judged: Judged, to: State, *, now: datetime) -> None:
    """Writes down what the breaker says, and warns both parties; that it suspended is told once SES was read."""
    grant, figures = judged.grant, why(judged.verdict.why)
    said = insert(BreakerRow).values(**_parties(grant), state=to, why=figures["figures"], changed_at=now)
    changed = {name: said.excluded[name] for name in ("state", "why", "changed_at")}
    await session.execute(said.on_conflict_do_update(constraint="breakers_pkey", set_=changed))
    caller = Caller.system(grant.owner_id, job="breaker")
    what = {State.WARNED: "grant.limit_warned", State.OK: "grant.limit_calmed"}.get(to, "grant.breaker_tripped")
    await record(session, caller, what, subject=("grant", grant.id), counterpart_id=grant.delegate_id, **figures)
    if to is State.WARNED:
        await announce(session, what, grant, **figures)


def why(figures: Sequence[Figure]) -> dict[str, Any]:
    """The figures as both parties are told."""
    hours = WINDOW.total_seconds() / 3600
    return {
        "figures": [
            {
                "name": each.name,
                "count": each.count,
                "of": each.of,
                "rate": None if each.of is None else each.rate,
                "warn_at": each.warn_at,
                "suspend_at": each.suspend_at,
                "window_hours": int(hours),
            }
            for each in figures
        ]
    }


def limits_of(grant: Grant) -> Limits:
    """What the parties agreed."""
    return terms_of(grant.terms).limits if grant.terms else Limits()


def before_of(grant: Grant, said: BreakerRow | None) -> State:
    """What the breaker said before; what it said before the grant was resumed is forgotten."""
    if said is None or (grant.resumed_at is not None and said.changed_at <= grant.resumed_at):
        return State.OK
    return said.state


async def last_said(session: AsyncSession, grant_ids: Sequence[UUID]) -> dict[UUID, BreakerRow]:
    """By grant."""
    rows = await session.scalars(select(BreakerRow).where(BreakerRow.grant_id.in_(grant_ids)))
    return {row.grant_id: row for row in rows}


async def windows_of(session: AsyncSession, grants: Sequence[Grant], *, now: datetime) -> dict[UUID, Window]:
    """What rates are taken of, by each grant: the last 24 hours, to the quarter, and nothing before it was resumed."""
    sums = [func.sum(getattr(UsageWindowRow, name)) for name in _MEASURES]
    query = (
        select(UsageWindowRow.grant_id, UsageWindowRow.vouched, *sums)
        .join(Grant, Grant.id == UsageWindowRow.grant_id)
        .where(UsageWindowRow.grant_id.in_([grant.id for grant in grants]), UsageWindowRow.begins_at > now - WINDOW)
        .where(UsageWindowRow.begins_at >= func.coalesce(Grant.resumed_at, UsageWindowRow.begins_at))
        .group_by(UsageWindowRow.grant_id, UsageWindowRow.vouched)
    )
    found: dict[UUID, dict[bool, Counts]] = {}
    for grant_id, vouched, *totals in await session.execute(query):
        found.setdefault(grant_id, {})[vouched] = Counts(*(int(total) for total in totals))
    deliveries = await deliveries_of(session, grants)
    nothing: dict[bool, Counts] = {}
    return {
        grant.id: Window(counts.get(True, Counts()), counts.get(False, Counts()), deliveries[grant.id])
        for grant in grants
        for counts in [found.get(grant.id, nothing)]
    }


def _parties(grant: Grant) -> dict[str, UUID]:
    return {"grant_id": grant.id, "owner_id": grant.owner_id, "delegate_id": grant.delegate_id}
