"""Builds the event of each recipient from what SES said and whose it is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from broker.feedback.attribution import Attributed
from broker.feedback.envelope import Envelope
from broker.feedback.keys import Key, key_of, recipient_hash
from broker.feedback.payloads import Feedback, Mail, Occurrence
from broker.ids import new_id
from broker.policies.terms import FeedbackKind

EVENT_TYPES: Mapping[FeedbackKind, str] = MappingProxyType(
    {
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
)
_AS_IN_OCCURRENCE = (
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


def events_of(
    envelope: Envelope, feedback: Feedback, found: Attributed, *, source: str, hash_key: bytes
) -> list[NewEvent]:
    """One event per recipient, all at the envelope's signed time; the first keeps the payload, which tells of all."""
    made = []
    for number, occurrence in enumerate(feedback.occurrences):
        hashed = recipient_hash(hash_key, occurrence.recipient) if occurrence.recipient else None
        event_id = new_id()
        made.append(
            NewEvent(
                id=event_id,
                key=key_of(feedback.mail, occurrence),
                at=envelope.sent_at,
                type=EVENT_TYPES[feedback.kind],
                owner_id=found.candidate.owner_id,
                delegate_id=found.candidate.delegate_id,
                grant_id=found.candidate.grant_id,
                source=source,
                owner_view=found.owner_view,
                delegate_view=found.delegate_view,
                recipient_hash=hashed,
                data={
                    "event_id": event_id,
                    "grant_id": found.candidate.grant_id,
                    "source": source,
                    "recipient_hash": hashed,
                    **_told(feedback.mail, occurrence),
                },
                payload=None if number else storable(envelope.message),
            )
        )
    return made


def _told(mail: Mail, occurrence: Occurrence) -> dict[str, Any]:
    """What SES told; every name is there for every kind, null where it does not apply or is not known."""
    return {
        "identity": mail.source_arn,
        "message_id": mail.message_id,
        "sending_account": mail.sending_account,
        "sent_at": _written(mail.sent_at),
        "occurred_at": _written(occurrence.occurred_at),
        "kind": occurrence.kind.value,
        **{name: getattr(occurrence, name) for name in _AS_IN_OCCURRENCE},
        "from": mail.from_address,
        "subject": mail.subject,
        "tags": mail.tags,
        "configuration_set": mail.configuration_set,
    }


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def storable(text: str) -> str:
    """Text that Postgres can hold: without NUL."""
    return text.replace("\0", "")
