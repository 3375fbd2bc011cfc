"""Makes events of a batch of verified SNS messages, in one transaction, whatever the way they came in."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from broker import log
from broker.caller import NOBODY
from broker.crypto import Keyring
from broker.db import Database
from broker.feedback import store
from broker.feedback.envelope import Envelope
from broker.feedback.payloads import Feedback, parse
from broker.feedback.sort import Known, Read, sort

logger = log.get(__name__)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: events by recipient (`stored`, `repeated`), the rest by message."""

    stored: int = 0
    repeated: int = 0
    quarantined: int = 0
    ignored: int = 0
    dropped: int = 0
    unheard: int = 0


async def ingest(db: Database, batch: Sequence[Envelope], keyring: Keyring, *, now: datetime) -> Tally:
    """Stores what is new, with its deliveries; once this returns, all of it is durable and the senders may be told so.

    `db` has the role broker_ingest. The batch is looked up in two statements and stored in one, with two more where
    something is quarantined or a route is heard for the first time. A batch that came before changes nothing.
    """
    read = [Read(envelope, parse(envelope.message)) for envelope in batch]
    topics = sorted({each.envelope.topic_arn for each in read})
    identities = sorted({arn for each in read if (arn := _identity(each))})
    async with db.begin(NOBODY) as session:
        known = Known(await store.sources(session, topics), await store.candidates(session, identities))
        found = sort(read, known, keyring, now=now)
        stored = await store.save(session, found.events)
        await store.quarantine(session, found.asides)
        await store.mark_heard(session, found.heard)
    tally = Tally(
        stored=stored,
        repeated=len(found.events) - stored,
        quarantined=len(found.asides),
        ignored=found.ignored,
        dropped=found.dropped,
        unheard=found.unheard,
    )
    logger.debug("feedback stored", **msgspec.structs.asdict(tally))
    for aside in found.asides:
        logger.warning("feedback quarantined", topic_arn=aside.topic_arn, reason=aside.reason)
    return tally


def _identity(read: Read) -> str | None:
    return read.parsed.mail.source_arn if isinstance(read.parsed, Feedback) else None
