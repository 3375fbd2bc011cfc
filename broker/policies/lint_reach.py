"""Finds statements that never apply, no longer apply, or end at another moment than their writer thought."""

from collections.abc import Iterator
from datetime import UTC, datetime

from broker.policies.document import Condition
from broker.policies.findings import Code, Finding, Subject, found
from broker.policies.operators import as_date
from broker.policies.witness import contradictory, open_until
from broker.policies.wording import when

_TIMES = ("aws:currenttime", "aws:epochtime")
_LAST = datetime(9999, 12, 31, tzinfo=UTC)


def reach(subject: Subject) -> Iterator[Finding]:
    """Everything about when, and whether at all, one statement applies."""
    dates = subject.on(*_TIMES)
    ever, ahead = open_until(dates, subject.now)
    if dates and not ever:
        yield found(
            Code.never_matches,
            subject.at(dates[0]),
            "No moment satisfies the conditions on the time: the window ends before it begins.",
            "Exchange the two bounds, or correct them.",
        )
    elif dates and not ahead:
        yield _ended(subject, dates)
    elif subject.statement.allow and (not dates or open_until(dates, _LAST)[1]):
        yield found(
            Code.no_end_date,
            subject.place,
            "The permission never ends.",
            'Add "DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"} with the day on which it shall end.',
        )
    yield from _contradictions(subject)
    yield from _edges(subject, dates)


def _ended(subject: Subject, dates: tuple[Condition, ...]) -> Finding:
    last = max(date for each in dates for value in each.values if (date := as_date(value)) is not None)
    return found(
        Code.ended,
        subject.at(dates[0]),
        f"The window is over: the last moment it names is {when(last)}.",
        "Take the statement out, or set another end.",
    )


def _contradictions(subject: Subject) -> Iterator[Finding]:
    by_key: dict[str, list[Condition]] = {}
    for condition in subject.statement.conditions:
        by_key.setdefault(condition.key.lower(), []).append(condition)
    for key, conditions in by_key.items():
        if key not in _TIMES and len(conditions) > 1 and contradictory(conditions):
            yield found(
                Code.never_matches,
                subject.at(conditions[0]),
                f"No request satisfies all conditions on {conditions[0].key[:80]}: the statement never applies.",
                "Keep the one that is meant; several keys and operators of one statement must hold together.",
            )


def _edges(subject: Subject, dates: tuple[Condition, ...]) -> Iterator[Finding]:
    """DateLessThan and DateGreaterThan are strict, and a day alone means its beginning
    (IAM User Guide, reference_policies_elements_condition_operators)."""
    lower = [(each, value) for each in dates if "greaterthan" in each.operator for value in each.values]
    upper = [(each, value) for each in dates if "lessthan" in each.operator for value in each.values]
    for condition, value in upper:
        date = as_date(value)
        if date is not None and _is(date, 0):
            yield found(
                Code.ends_before_the_day,
                subject.at(condition),
                f"{value[:40]} is the beginning of that day: on {date:%-d %b %Y} itself it is over already.",
                "Name the day after the last one.",
            )
    for condition, value in lower:
        date = as_date(value)
        if date is not None and date.hour == 23 and date.minute == 59:
            yield found(
                Code.begins_after_the_day,
                subject.at(condition),
                f"{value[:40]} is the end of that day.",
                "Name the first moment that is meant, with DateGreaterThanEquals.",
            )
    yield from _noon(subject, lower, upper)


def _noon(
    subject: Subject, lower: list[tuple[Condition, str]], upper: list[tuple[Condition, str]]
) -> Iterator[Finding]:
    begins = [date for _, value in lower if (date := as_date(value)) is not None and _is(date, 12)]
    ends = [date for _, value in upper if (date := as_date(value)) is not None and _is(date, 12)]
    if begins and ends:
        yield found(
            Code.noon_window,
            subject.at(lower[0][0]),
            f"The window runs from noon to noon: the afternoon of {begins[0]:%-d %b} and the morning of "
            f"{ends[0]:%-d %b} are inside.",
            "Begin and end at 00:00 of the days that are meant.",
        )


def _is(date: datetime, hour: int) -> bool:
    return (date.hour, date.minute, date.second, date.microsecond) == (hour, 0, 0, 0)
