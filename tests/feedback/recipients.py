"""What the tests of recipients share: reckoned events of a world, and folding them as the reckoning does."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Role
from broker.feedback import recipients
from broker.feedback.keys import recipient_hash
from broker.feedback.reckoned import Reckoned
from broker.ids import new_id
from broker.policies.terms import FeedbackKind
from tests.feedback import sns
from tests.feedback.conftest import World

JANE = "jane@example.org"


def reckoned(world: World, keyring: Keyring, kind: FeedbackKind = FeedbackKind.bounce, **changes: Any) -> Reckoned:
    """A permanent bounce of Jane's under the first grant, unless changed."""
    recipient = changes.get("recipient", JANE)
    grant_id = changes.get("grant_id", world.grant_id)
    is_bounce = kind is FeedbackKind.bounce
    fields: dict[str, Any] = {
        "event_id": new_id(),
        "kind": kind,
        "owner_id": world.owner.tenant,
        "delegate_id": world.delegate.tenant,
        "grant_id": grant_id,
        "identity_arn": world.identity_arn,
        "source": "broker_topic",
        "message_id": "m",
        "sent_at": sns.NOW - timedelta(minutes=1),
        "occurred_at": sns.NOW,
        "recipient": recipient,
        "recipient_hash": grant_hash(keyring, grant_id, recipient) if recipient and grant_id else None,
        "recipients": 1,
        "final": True if is_bounce else None,
        "bounce_type": "Permanent" if is_bounce else None,
        "bounce_sub_type": None,
        "feedback_type": None,
    }
    return Reckoned(**{**fields, **changes})


def grant_hash(keyring: Keyring, grant_id: Any, address: str) -> str:
    """As a party may compute it with the grant's key."""
    return recipient_hash(keyring.derive("recipient-hash", str(grant_id)), address)


async def fold(
    world: World,
    keyring: Keyring,
    events: Sequence[Reckoned],
    *,
    owner: Caller | None = None,
    at: datetime | None = None,
) -> None:
    """As the reckoning does, a week later: for the owner, under the worker's role."""
    async with world.db.as_role(Role.WORKER).begin(owner or world.owner) as session:
        await recipients.fold(session, events, now=at or sns.NOW + timedelta(days=7), keyring=keyring)
