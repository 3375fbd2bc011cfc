"""Sorts a batch of SNS messages: into events, what is to be quarantined, and what is only counted."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from broker.crypto import Keyring
from broker.feedback.attribution import Attributed, Candidate, Dropped, Quarantined, Source, attribute
from broker.feedback.envelope import Envelope
from broker.feedback.keys import Key, key_of, recipient_hash
from broker.feedback.payloads import Feedback, Ignored, Mail, Occurrence, Parsed, Unreadable
from broker.ids import new_id
from broker.policies.terms import FeedbackKind

# SNS's clock is the one that events are ordered by; a later time would keep a row from ever being retired.
MOST_AHEAD = timedelta(minutes=15)

EVENT_TYPES: Mapping[FeedbackKind, str] = {
    FeedbackKind.bounce: "email.bounced",
    FeedbackKind.complaint: "email.complained",
    FeedbackKind.delivery: "email.delivered",
    FeedbackKind.send: "email.sent",
    FeedbackKind.reject: "email.rejected",
    FeedbackKind.delay: "email.delayed",
    FeedbackKind.open: "email.opened",
    FeedbackKind.click: "email.clicked",
    FeedbackKind.rendering_failure: "email.rendering_failed",
    FeedbackKind.subscription: "email.subscription_changed",
}
_FROM_OCCURRENCE = (
    "recipient",
    "final",
    "bounce_type",
    "bounce_sub_type",
    "complaint_sub_type",
    "status",
    "action",
    "diagnostic_code",
    "reporting_mta",
    "remote_mta",
    "feedback_type",
    "user_agent",
    "smtp_response",
    "processing_ms",
)


class Read(msgspec.Struct, frozen=True):
    """One message of the batch with what it says."""

    envelope: Envelope
    parsed: Parsed


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `events` with its key; stored only where the key is new. `data` is the full form of the webhook's."""

    id: UUID
    key: Key
    at: datetime
    type: str
    owner_id: UUID
    delegate_id: UUID
    grant_id: UUID
    source: str
    owner_view: str | None
    delegate_view: str | None
    recipient_hash: str | None
    data: dict[str, Any]
    payload: str | None


class Aside(msgspec.Struct, frozen=True):
    """A message to be kept in quarantine."""

    tenant_id: UUID | None
    topic_arn: str
    reason: str
    payload: str


class Sorted(msgspec.Struct, frozen=True):
    """A batch by what is to be done with it. `heard`: grants whose feedback came through, with the topic's ARN."""

    events: list[NewEvent]
    asides: list[Aside]
    heard: set[tuple[UUID, str]]
    ignored: int
    dropped: int
    unheard: int


def sort(
    batch: Sequence[Read],
    sources: Mapping[str, Source],
    candidates: Mapping[str, Sequence[Candidate]],
    *,
    keyring: Keyring,
    now: datetime,
) -> Sorted:
    """`sources` by topic ARN, `candidates` by identity ARN. An event that both parties' terms leave out is `unheard`."""
    events: dict[Key, NewEvent] = {}
    asides: list[Aside] = []
    heard: set[tuple[UUID, str]] = set()
    counted = {"ignored": 0, "dropped": 0, "unheard": 0}
    for read in batch:
        source = sources.get(read.envelope.topic_arn)
        match _verdict(read, source, candidates, now=now):
            case Quarantined(reason):
                asides.append(_aside(read.envelope, source, reason))
            case Ignored():
                counted["ignored"] += 1
            case Dropped():
                counted["dropped"] += 1
            case Attributed() as found:
                heard.add((found.candidate.grant_id, read.envelope.topic_arn))
                made = _events(read, found, source.source if source else "", keyring)
                counted["unheard"] += 0 if made else 1
                for event in made:
                    events.setdefault(event.key, event)
    # In the order of their keys, so that two batches at once wait for each other and never in a ring.
    return Sorted(sorted(events.values(), key=lambda event: event.key), asides, heard, **counted)


def _verdict(
    read: Read, source: Source | None, candidates: Mapping[str, Sequence[Candidate]], *, now: datetime
) -> Attributed | Dropped | Quarantined | Ignored:
    if source is None:
        return Quarantined("The topic belongs to no route.")
    if read.envelope.sent_at > now + MOST_AHEAD:
        return Quarantined("The time of the message is more than 15 minutes in the future.")
    match read.parsed:
        case Ignored() as ignored:
            return ignored
        case Unreadable(reason):
            return Quarantined(reason)
        case Feedback(mail, kind):
            return attribute(source, candidates.get(mail.source_arn or "", ()), mail, kind)


def _aside(envelope: Envelope, source: Source | None, reason: str) -> Aside:
    tenant_id = source.tenant_id if source else None
    return Aside(tenant_id, storable(envelope.topic_arn), reason, storable(envelope.message))


def _events(read: Read, found: Attributed, source: str, keyring: Keyring) -> list[NewEvent]:
    """One event per recipient; the first one keeps the payload, which tells of all of them."""
    if not isinstance(read.parsed, Feedback) or (found.owner_view is None and found.delegate_view is None):
        return []
    hash_key = keyring.derive("recipient-hash", str(found.candidate.grant_id))
    made = [_event(read.envelope, read.parsed.mail, each, found, hash_key) for each in read.parsed.occurrences]
    return [
        msgspec.structs.replace(event, source=source, payload=None if number else storable(read.envelope.message))
        for number, event in enumerate(made)
    ]
