"""Sorts a batch of SNS messages: into events, what goes into quarantine, and what is only counted."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from broker.crypto import Keyring
from broker.feedback.attribution import Attributed, Dropped, Quarantined, Source, Standing, attribute
from broker.feedback.envelope import Arrival, Envelope
from broker.feedback.events import BROKER_TOPIC, NewEvent, after_end, events_of, storable
from broker.feedback.keys import Key
from broker.feedback.payloads import Feedback, Ignored, Parsed, Unreadable
from broker.feedback.reasons import Reason

# Events are partitioned by SNS's time; one far in the future would keep its day from ever being retired.
MOST_AHEAD = timedelta(minutes=15)
_NOTHING_KNOWN = Standing()
_UNNAMED: Mapping[str, None] = dict.fromkeys(
    (
        "recipient", "recipient_hash", "diagnostic_code", "remote_mta", "user_agent", "smtp_response", "from_",
        "subject", "tags",
    )
)  # fmt: skip


class Read(msgspec.Struct, frozen=True):
    """One message of the batch with what it says."""

    arrival: Arrival
    parsed: Parsed

    @property
    def envelope(self) -> Envelope:
        return self.arrival.envelope


class Known(msgspec.Struct, frozen=True):
    """What the database says about a batch: of topics and of identities, by ARN."""

    sources: Mapping[str, Source]
    standings: Mapping[str, Standing]


class Aside(msgspec.Struct, frozen=True):
    """A message to be kept in quarantine."""

    tenant_id: UUID | None
    topic_arn: str
    reason: Reason
    payload: str


class Sorted(msgspec.Struct, frozen=True, kw_only=True):
    """A batch by what is to be done with it; `attributed` are the messages behind the events.

    `heard`: grants whose feedback came through, with the topic's ARN. `unheard` messages are of a kind that the terms
    give to neither party and no breaker counts, `own` ones are the owner's own mail, `dropped` ones are nobody's
    business here; all are counted and not stored.
    """

    events: list[NewEvent]
    asides: list[Aside]
    heard: set[tuple[UUID, str]]
    attributed: list[tuple[Read, Attributed]]
    ignored: int = 0
    dropped: int = 0
    own: int = 0
    unheard: int = 0


def sort(batch: Sequence[Read], known: Known, keyring: Keyring, *, now: datetime) -> Sorted:
    """Each message on its own; of two that say the same, the first counts, or the first of a topic of the broker's."""
    events: dict[Key, NewEvent] = {}
    asides: list[Aside] = []
    heard: set[tuple[UUID, str]] = set()
    attributed: list[tuple[Read, Attributed]] = []
    counted = {"ignored": 0, "dropped": 0, "own": 0, "unheard": 0}
    for read in batch:
        match _verdict(read, known, now=now):
            case Quarantined(reason):
                asides.append(_aside(read.envelope, known, reason))
            case Ignored():
                counted["ignored"] += 1
            case Dropped(own):
                counted["own" if own else "dropped"] += 1
            case Attributed() as found:
                attributed.append((read, found))
                if found.grant_id is not None:
                    heard.add((found.grant_id, read.envelope.topic_arn))
                made = _events(read, known, found, keyring)
                counted["unheard"] += not made
                for event in made:
                    first = events.setdefault(event.key, event)
                    if event.source == BROKER_TOPIC != first.source:
                        events[event.key] = event
    # In the order of their keys, so that of two batches at once one waits for the other and never each for each.
    in_order = sorted(events.values(), key=lambda event: event.key)
    return Sorted(events=in_order, asides=asides, heard=heard, attributed=attributed, **counted)


def _verdict(read: Read, known: Known, *, now: datetime) -> Attributed | Dropped | Quarantined | Ignored:
    if read.arrival.distrust is not None:
        return Quarantined(read.arrival.distrust)
    source = known.sources.get(read.envelope.topic_arn)
    if source is None:
        return Quarantined(Reason.unknown_topic)
    sent_at = read.envelope.sent_at
    if sent_at > now + MOST_AHEAD:
        return Quarantined(Reason.future_message)
    match read.parsed:
        case Ignored() as ignored:
            return ignored
        case Unreadable(reason):
            return Quarantined(reason)
        case Feedback(mail, kind):
            if mail.sent_at > sent_at + MOST_AHEAD:
                return Quarantined(Reason.future_mail)
            return attribute(source, known.standings.get(mail.source_arn or "", _NOTHING_KNOWN), mail, kind)


def _aside(envelope: Envelope, known: Known, reason: Reason) -> Aside:
    source = known.sources.get(envelope.topic_arn)
    return Aside(source.tenant_id if source else None, storable(envelope.topic_arn), reason, storable(envelope.message))


def _events(read: Read, known: Known, found: Attributed, keyring: Keyring) -> list[NewEvent]:
    """What is made of one message; nothing where the terms give it to neither party and no breaker counts it."""
    if not isinstance(read.parsed, Feedback):
        return []
    source = known.sources[read.envelope.topic_arn].source
    secret = keyring.derive("event-keys", "")
    made: list[NewEvent] = []
    heard = found.owner_view is not None or found.delegate_view is not None
    if heard or found.counted:
        hash_key = keyring.derive("recipient-hash", str(found.grant_id or found.owner_id))
        made += events_of(read.envelope, read.parsed, found, source=source, hash_key=hash_key, secret=secret)
    if not heard:
        made = [_of_nobody(event) for event in made]
    if found.gone_since is not None:
        news = after_end(read.envelope, read.parsed, found, source=source, secret=secret)
        made += [news] if news is not None else []
    return made


def _of_nobody(event: NewEvent) -> NewEvent:
    """An event that is only counted, without what could name a recipient or quote the mail.

    No view lets anybody see it: it is in no feed, and there are no deliveries of it. So nobody asked for what it says,
    and it leads to no state of its recipient.
    """
    return msgspec.structs.replace(
        event, recipient_hash=None, payload=None, data=msgspec.structs.replace(event.data, **_UNNAMED)
    )
