"""When a failed delivery is tried again, and when it or its endpoint is given up. Pure."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

import msgspec

SCHEDULE = (
    timedelta(0), timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2),
    timedelta(hours=5), timedelta(hours=10), timedelta(hours=14), timedelta(hours=20), timedelta(hours=24),
)  # fmt: skip
"""The wait before each attempt, the first one at once; the jitter is a fifth, either way."""

JITTER = 0.2
LONGEST_RETRY_AFTER = timedelta(hours=24)
FAILING_FOR = timedelta(days=5)
SLOW_DOWN = frozenset({429, 502, 503, 504})


class Verdict(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


class Next(msgspec.Struct, frozen=True):
    """What follows from one attempt.

    `again_in`: wait before the next attempt (for `RETRY`). `quiet_for`: how long the receiver wants to be left alone
    altogether. `gone`: it answered 410, and wants nothing ever again. `ours`: the receiver was not even asked.
    """

    verdict: Verdict
    again_in: timedelta | None = None
    quiet_for: timedelta | None = None
    gone: bool = False
    ours: bool = False


def decide(number: int, status: int | None, *, retry_after: timedelta | None, chance: float) -> Next:
    """What follows from attempt `number` (from 1) with this answer (None: there was none).

    `chance` is a random number from 0 to 1, for the jitter. Any 2xx is success, all else is failure, redirects too.
    """
    if status is not None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Next(Verdict.DELIVERED)
    quiet = retry_after if status in SLOW_DOWN else None
    gone = status == HTTPStatus.GONE
    if number >= len(SCHEDULE):
        return Next(Verdict.DEAD, quiet_for=quiet, gone=gone)
    wait = max(delay_after(number, chance=chance), quiet or timedelta(0))
    return Next(Verdict.RETRY, again_in=wait, quiet_for=quiet, gone=gone)


def delay_after(number: int, *, chance: float) -> timedelta:
    """The wait between attempt `number` (from 1, not the last) and the next."""
    return SCHEDULE[number] * (1 + JITTER * (2 * chance - 1))


def read_retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """`Retry-After` as seconds or as a date (RFC 9110, 10.2.3), at most a day; None when missing or unreadable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text.lstrip("0")[:9] or 0)), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year or an offset that no integer holds
        return None
    wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)


def why_disabled(failing_for: timedelta | None, *, gone: bool) -> str | None:
    """Why the endpoint gets nothing any more, as a sentence, or None. `failing_for`: since the last success."""
    if gone:
        return "The endpoint answered 410 Gone."
    if failing_for is not None and failing_for >= FAILING_FOR:
        return "Nothing but failures for five days."
    return None
