"""Which feedback is the same feedback, and under which hash a party that may not see an address knows it."""

import hashlib
import hmac
from datetime import UTC, date
from functools import lru_cache
from uuid import UUID

import msgspec

from broker.feedback.occurrence import Mail, Occurrence
from broker.policies.terms import FeedbackKind

UNKNOWN = "unknown"
NO_COMPLAINT = "not-spam"  # somebody took it out of the spam folder (RFC 6430)
_EACH_TIME: frozenset[FeedbackKind | None] = frozenset(
    {FeedbackKind.delay, FeedbackKind.open, FeedbackKind.click, FeedbackKind.subscription}
)


class Key(msgspec.Struct, frozen=True, order=True):
    """Equal for the same occurrence on every route. `day` is the UTC day on which the mail was sent."""

    day: date
    digest: bytes


def key_of(mail: Mail, occurrence: Occurrence, secret: bytes) -> Key:
    """Identity, account, SES message id, kind and recipient; for what may happen often also its time and link.

    A permanent bounce is another than one that is not, which may come first (an out-of-office reply is a transient
    one); and `not-spam` is another than a complaint. Notifications and published events carry both the `bounceType` and
    the `complaintFeedbackType` (SES Developer Guide, notification-contents, event-publishing-retrieving-sns-contents).
    SES's `feedbackId` is left out: nothing says that two routes carry the same one. A kind that we do not know is told
    apart by all that it says. `secret`: the installation's own key, so that nobody can try addresses on what is stored.
    """
    kind = occurrence.kind
    parts = [mail.source_arn, mail.sending_account, mail.message_id, kind.value if kind else UNKNOWN]
    parts.append(comparable(occurrence.recipient) if occurrence.recipient else None)
    if kind in _EACH_TIME:
        parts += [occurrence.occurred_at.astimezone(UTC).isoformat(), occurrence.link]
    elif kind is None:
        parts += [occurrence.ses_type, occurrence.told_apart_by]
    elif apart := _apart(occurrence):
        parts.append(apart)
    return _key(mail, parts, secret)


def _apart(occurrence: Occurrence) -> str | None:
    """What sets this apart from others of its kind."""
    match occurrence.kind:
        case FeedbackKind.bounce if occurrence.bounce_type == "Permanent":
            return "permanent"
        case FeedbackKind.complaint if occurrence.feedback_type == NO_COMPLAINT:
            return NO_COMPLAINT
        case _:
            return None


def key_after_end(mail: Mail, grant_id: UUID, secret: bytes) -> Key:
    """Of the news that this mail was sent although the grant was seen to be gone: once, whatever else is said of it."""
    return _key(mail, ["sent_after_end", str(grant_id), mail.message_id], secret)


def _key(mail: Mail, parts: list[str | None], secret: bytes) -> Key:
    digest = _keyed(secret).copy()
    digest.update(msgspec.json.encode(parts))
    return Key(mail.sent_at.astimezone(UTC).date(), digest.digest())


@lru_cache(maxsize=8)
def _keyed(secret: bytes) -> hashlib.blake2b:
    """BLAKE2b as a keyed hash (RFC 7693, section 2.9); its first block is the key's, and hashed once for all."""
    return hashlib.blake2b(key=secret, digest_size=32)


def recipient_hash(key: bytes, address: str) -> str:
    """HMAC-SHA-256, in hex, of the trimmed, lower-cased address; `key` is the grant's own."""
    return hmac.digest(key, comparable(address).encode(), hashlib.sha256).hex()


def pair_context(owner_id: UUID, delegate_id: UUID | None, identity_arn: str) -> str:
    """Names the key of a pair's recipients on one identity, the same under all their grants; own mail: owner twice."""
    return f"{owner_id}\n{delegate_id or owner_id}\n{identity_arn}"


def comparable(address: str) -> str:
    """An address as it is compared: trimmed, in lower case."""
    return address.strip().lower()
