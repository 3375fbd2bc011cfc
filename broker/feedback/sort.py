"""Sorts a batch of SNS messages: into events, what goes into quarantine, and what is only counted."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from broker.crypto import Keyring
from broker.feedback.attribution import Attributed, Candidate, Dropped, Quarantined, Source, attribute
from broker.feedback.envelope import Arrival, Envelope
from broker.feedback.events import NewEvent, events_of, storable
from broker.feedback.keys import Key
from broker.feedback.payloads import Feedback, Ignored, Parsed, Unreadable

# Events are partitioned by SNS's time; one far in the future would keep its day from ever being retired.
MOST_AHEAD = timedelta(minutes=15)


class Read(msgspec.Struct, frozen=True):
    """One message of the batch with what it says."""

    arrival: Arrival
    parsed: Parsed

    @property
    def envelope(self) -> Envelope:
        return self.arrival.envelope


class Known(msgspec.Struct, frozen=True):
    """What the database says about a batch: sources by the topic's ARN, candidates by the identity's."""

    sources: Mapping[str, Source]
    candidates: Mapping[str, Sequence[Candidate]]


class Aside(msgspec.Struct, frozen=True):
    """A message to be kept in quarantine."""

    tenant_id: UUID | None
    topic_arn: str
    reason: str
    payload: str


class Sorted(msgspec.Struct, frozen=True):
    """A batch by what is to be done with it; `attributed` are the messages behind the events.

    `heard`: grants whose feedback came through, with the topic's ARN. `unheard` messages are of a kind that the terms
    give to neither party, `dropped` ones are nobody's but the owner's own; both are counted and not stored.
    """

    events: list[NewEvent]
    asides: list[Aside]
    heard: set[tuple[UUID, str]]
    attributed: list[tuple[Read, Attributed]]
    ignored: int
    dropped: int
    unheard: int


def sort(batch: Sequence[Read], known: Known, keyring: Keyring, *, now: datetime) -> Sorted:
    """Each message on its own; of two that say the same, the first counts."""
    events: dict[Key, NewEvent] = {}
    asides: list[Aside] = []
    heard: set[tuple[UUID, str]] = set()
    attributed: list[tuple[Read, Attributed]] = []
    counted = {"ignored": 0, "dropped": 0, "unheard": 0}
    for read in batch:
        match _verdict(read, known, now=now):
            case Quarantined(reason):
                asides.append(_aside(read.envelope, known, reason))
            case Ignored():
                counted["ignored"] += 1
            case Dropped():
                counted["dropped"] += 1
            case Attributed() as found:
                attributed.append((read, found))
                heard.add((found.candidate.grant_id, read.envelope.topic_arn))
                made = _events(read, known, found, keyring)
                counted["unheard"] += not made
                for event in made:
                    events.setdefault(event.key, event)
    # In the order of their keys, so that of two batches at once one waits for the other and never each for each.
    return Sorted(sorted(events.values(), key=lambda event: event.key), asides, heard, attributed, **counted)


def _verdict(read: Read, known: Known, *, now: datetime) -> Attributed | Dropped | Quarantined | Ignored:
    source = known.sources.get(read.envelope.topic_arn)
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
            return attribute(source, known.candidates.get(mail.source_arn or "", ()), mail, kind)


def _aside(envelope: Envelope, known: Known, reason: str) -> Aside:
    source = known.sources.get(envelope.topic_arn)
    return Aside(source.tenant_id if source else None, storable(envelope.topic_arn), reason, storable(envelope.message))


def _events(read: Read, known: Known, found: Attributed, keyring: Keyring) -> list[NewEvent]:
    if not isinstance(read.parsed, Feedback) or (found.owner_view is None and found.delegate_view is None):
        return []
    return events_of(
        read.envelope,
        read.parsed,
        found,
        source=known.sources[read.envelope.topic_arn].source,
        hash_key=keyring.derive("recipient-hash", str(found.candidate.grant_id)),
    )
