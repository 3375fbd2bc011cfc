"""Which feedback is the same feedback, and under which hash a party that may not see an address knows it."""

import hashlib
import hmac
from datetime import UTC, date
from uuid import UUID

import msgspec

from broker.feedback.occurrence import Mail, Occurrence
from broker.policies.terms import FeedbackKind

UNKNOWN = "unknown"
_EACH_TIME: frozenset[FeedbackKind | None] = frozenset(
    {FeedbackKind.delay, FeedbackKind.open, FeedbackKind.click, FeedbackKind.subscription}
)


class Key(msgspec.Struct, frozen=True, order=True):
    """Equal for the same occurrence on every route. `day` is the UTC day on which the mail was sent."""

    day: date
    digest: bytes


def key_of(mail: Mail, occurrence: Occurrence) -> Key:
    """Identity, account, SES message id, kind and recipient; for what may happen often also its time and link.

    SES's `feedbackId` is left out: nothing says that two routes carry the same one. A kind that we do not know is told
    apart by all that it says.
    """
    kind = occurrence.kind
    parts = [mail.source_arn, mail.sending_account, mail.message_id, kind.value if kind else UNKNOWN]
    parts.append(comparable(occurrence.recipient) if occurrence.recipient else None)
    if kind in _EACH_TIME:
        parts += [occurrence.occurred_at.astimezone(UTC).isoformat(), occurrence.link]
    elif kind is None:
        parts += [occurrence.ses_type, occurrence.told_apart_by]
    return _key(mail, parts)


def key_after_end(mail: Mail, grant_id: UUID) -> Key:
    """Of the news that this mail was sent although the grant was seen to be gone: once, whatever else is said of it."""
    return _key(mail, ["sent_after_end", str(grant_id), mail.message_id])


def _key(mail: Mail, parts: list[str | None]) -> Key:
    return Key(mail.sent_at.astimezone(UTC).date(), hashlib.sha256(msgspec.json.encode(parts)).digest())


def recipient_hash(key: bytes, address: str) -> str:
    """HMAC-SHA-256, in hex, of the trimmed, lower-cased address; `key` is the grant's own."""
    return hmac.digest(key, comparable(address).encode(), hashlib.sha256).hex()


def comparable(address: str) -> str:
    """An address as it is compared: trimmed, in lower case."""
    return address.strip().lower()
