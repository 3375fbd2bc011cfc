"""What each event counts as: by grant, day and name for people, by quarter of an hour for rates. Rules only.

A day is the UTC day on which it happened (`occurred_at`): a complaint about last week's mail is today's complaint, and
what was counted for a day long past does not change. What is said to happen before its mail was sent, or later than
now, happened then: whoever can make events up has no other days than those of its grant. Rates go by the same time, or
by now for what is said to happen later: so mail that was sent and bounced within the window is on both sides of the
rate.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from broker.feedback.breaker import WINDOW
from broker.feedback.events import BROKER_TOPIC, EVENT_TYPES
from broker.feedback.reckoned import Reckoned
from broker.policies.terms import FeedbackKind

# Mail that SES did not try to deliver, since the address was on a list of its own or the account's (SES Developer
# Guide, notification-contents, bounce types); SES does not count them in its own bounce rate either.
UNTRIED = frozenset(
    {
        "Suppressed",
        "OnAccountSuppressionList",
        "OnTenantSuppressionList",
        "EmailValidationSuppressed",
        "UnsubscribedRecipient",
    }
)
NO_COMPLAINT = "not-spam"  # somebody took it out of the spam folder (RFC 6430)

HARD, SOFT, SUPPRESSED = "bounced.hard", "bounced.soft", "bounced.suppressed"
COMPLAINED = "complained.counted"

Day = tuple[UUID, date, str]
Bucket = tuple[UUID, datetime, bool]
_Guess = tuple[UUID | None, str, datetime, int]


def by_day(events: Sequence[Reckoned], *, now: datetime) -> Counter[Day]:
    """How many of each name each grant had on each day, as the parties heard."""
    counted: Counter[Day] = Counter()
    for event, names in _named([event for event in events if event.heard]):
        if event.grant_id is not None:
            day = min(max(event.occurred_at, event.sent_at), now).astimezone(UTC).date()
            counted.update((event.grant_id, day, name) for name in names)
    return counted


def by_quarter(
    events: Sequence[Reckoned], resumed: Mapping[UUID, datetime | None], *, now: datetime
) -> dict[Bucket, Counter[str]]:
    """What rates are taken of, of the window before `now`; nothing about mail sent before its grant was resumed.

    Twice: of what topics of the broker's told, and (False) of all that the parties heard.
    """
    vouched = [event for event in events if event.source == BROKER_TOPIC]
    heard = [event for event in events if event.heard]
    return _of_side(vouched, True, resumed, now) | _of_side(heard, False, resumed, now)


def _of_side(
    events: Sequence[Reckoned], vouched: bool, resumed: Mapping[UUID, datetime | None], now: datetime
) -> dict[Bucket, Counter[str]]:
    found: dict[Bucket, Counter[str]] = {}
    for event, names in _named(events):
        at = min(event.occurred_at, now)
        since = resumed.get(event.grant_id) if event.grant_id else None
        if event.grant_id is None or at <= now - WINDOW or (since is not None and event.sent_at < since):
            continue
        begins_at = _quarter(at) if since is None else max(_quarter(at), since)
        bucket = found.setdefault((event.grant_id, begins_at, vouched), Counter())
        bucket.update(measure for name in names if (measure := _MEASURE_OF.get(name)))
    return {bucket: measures for bucket, measures in found.items() if measures}


_MEASURE_OF: Mapping[str, str] = {
    "email.sent": "sent",
    "email.delivered": "delivered",
    HARD: "bounced",
    COMPLAINED: "complained",
}


def _named(events: Sequence[Reckoned]) -> Iterator[tuple[Reckoned, list[str]]]:
    guessed: Counter[_Guess] = Counter()
    for event in events:
        names = [EVENT_TYPES[event.kind]]
        if event.kind is FeedbackKind.bounce:
            names.append(_bounce(event))
        if event.kind is FeedbackKind.complaint and _counts(event, guessed):
            names.append(COMPLAINED)
        yield event, names


def _bounce(event: Reckoned) -> str:
    if event.bounce_sub_type in UNTRIED:
        return SUPPRESSED
    return HARD if event.final else SOFT


def _counts(event: Reckoned, guessed: Counter[_Guess]) -> bool:
    """Mailbox providers redact who complained, and SES then names everybody of that domain: they count as one.

    Once for each message of SES, of which a batch never has a part: by the place among as many as each of them names.
    """
    if event.feedback_type == NO_COMPLAINT or event.complaint_sub_type in UNTRIED:
        return False
    if event.recipients <= 1:
        return True
    guess = (event.grant_id, event.message_id, event.occurred_at, event.recipients)
    guessed[guess] += 1
    return guessed[guess] % event.recipients == 1


def _quarter(at: datetime) -> datetime:
    at = at.astimezone(UTC)
    return at.replace(minute=at.minute - at.minute % 15, second=0, microsecond=0)
