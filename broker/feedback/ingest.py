"""Makes events of a batch of verified SNS messages, in one statement, whatever the way they came in."""

import time
from collections.abc import Sequence
from datetime import datetime

import msgspec

from broker import log
from broker.bell import Bell, SilentBell
from broker.crypto import Keyring
from broker.db import Line
from broker.errors import Unavailable
from broker.feedback import store
from broker.feedback.envelope import Arrival
from broker.feedback.memory import Memory
from broker.feedback.payloads import Feedback, parse
from broker.feedback.sort import Read, Sorted, sort
from broker.feedback.store import Saved
from broker.points import reach
from broker.webhooks.ledger import notes
from broker.webhooks.ledger.ledger import Count, Ledger

TRIES = 5

logger = log.get(__name__)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: events by recipient (`stored`, `repeated`), the rest by message."""

    stored: int = 0
    repeated: int = 0
    quarantined: int = 0
    ignored: int = 0
    dropped: int = 0
    own: int = 0
    unheard: int = 0


class Ingest:
    """Stores batches over a line of its own, under the role broker_ingest; one batch at a time."""

    def __init__(self, line: Line, keyring: Keyring, *, bell: Bell | None = None, ledger: Ledger | None = None) -> None:
        self._line = line
        self._keyring = keyring
        self._bell = bell or SilentBell()
        self._ledger = ledger or Ledger()
        self._memory = Memory(line)

    async def take(self, batch: Sequence[Arrival], *, now: datetime) -> Tally:
        """Stores what is new, with its deliveries; once this returns, all of it is durable and senders may be told so.

        One round trip where the batch's topics and identities are known and unchanged. A batch that came before
        changes nothing. `Unavailable` when it could not be stored.
        """
        read = [Read(arrival, parse(arrival.envelope.message)) for arrival in batch]
        reach("feedback.parsed")
        found, saved = await self._save(read, now=now)
        reach("feedback.stored")
        self._note(len(batch), found, tally := _tally(found, saved))
        await self._bell.ring("lanes", saved.endpoints)
        reach("feedback.rung")
        await self._bell.ring("routes", saved.routes)
        await self._bell.ring("reckonings", saved.reckonings)
        logger.debug("feedback stored", **msgspec.structs.asdict(tally))
        for aside in found.asides:
            logger.warning("feedback quarantined", topic_arn=aside.topic_arn, reason=aside.reason.value)
        return tally

    def _note(self, messages: int, found: Sorted, tally: Tally) -> None:
        """Writes into the ledger what was committed just now."""
        committed = time.monotonic()
        for read, whose in found.attributed:
            if isinstance(read.parsed, Feedback):
                owner = whose.owner_id if whose.owner_view else None
                delegate = whose.delegate_id if whose.delegate_view else None
                said, spent = read.parsed.occurrences[0].occurred_at, committed - read.arrival.began
                notes.stored(self._ledger, {owner, delegate}, said=said, came=read.arrival.came, spent=spent)
        self._ledger.count(Count.BATCHES)
        self._ledger.count(Count.MESSAGES, number=messages)
        for outcome, number in msgspec.structs.asdict(tally).items():
            self._ledger.count(Count.FEEDBACK, outcome, number=number)
        for aside in found.asides:
            self._ledger.count(Count.QUARANTINED, aside.reason.name)

    async def _save(self, read: Sequence[Read], *, now: datetime) -> tuple[Sorted, Saved]:
        topics = sorted({each.envelope.topic_arn for each in read})
        identities = sorted({arn for each in read if (arn := _identity(each))})
        for _ in range(TRIES):
            known, stamps = await self._memory.recall(topics, identities)
            found = sort(read, known, self._keyring, now=now)
            heard = self._memory.not_heard_lately(found.heard, now=now)
            saved = await store.save(self._line, found, heard, topics=stamps.topics, identities=stamps.identities)
            if saved is not None:
                self._memory.heard(heard, now=now)
                return found, saved
            self._memory.forget(topics, identities)
        raise Unavailable("The grants of this feedback change faster than it can be stored.")


def _tally(found: Sorted, saved: Saved) -> Tally:
    """What the breaker alone counts is heard by nobody, new or not."""
    heard = sum(event.owner_view is not None or event.delegate_view is not None for event in found.events)
    return Tally(
        stored=saved.number,
        repeated=heard - saved.number,
        quarantined=len(found.asides),
        ignored=found.ignored,
        dropped=found.dropped,
        own=found.own,
        unheard=found.unheard + len(found.events) - heard,
    )


def _identity(read: Read) -> str | None:
    return read.parsed.mail.source_arn if isinstance(read.parsed, Feedback) else None
