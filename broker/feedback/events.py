"""Builds the event of each recipient from what SES said and whose it is."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

import msgspec

from broker.feedback.attribution import Attributed
from broker.feedback.envelope import Envelope
from broker.feedback.keys import UNKNOWN, Key, key_after_end, key_of, recipient_hash
from broker.feedback.occurrence import Occurrence
from broker.feedback.payloads import Feedback
from broker.feedback.told import STRUCTS, SentAfterEnd, Told
from broker.ids import new_id
from broker.policies.terms import FeedbackKind, View

EVENT_TYPES: Mapping[FeedbackKind | None, str] = MappingProxyType(
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
        None: "email.unknown",
    }
)
AFTER_END = "grant.sent_after_end"
BROKER_TOPIC = "broker_topic"
"""The source of what a tenant cannot have forged."""

# What only this kind of event tells.
_MORE: Mapping[type[Told], tuple[str, ...]] = MappingProxyType(
    {struct: struct.__struct_fields__[len(Told.__struct_fields__) :] for struct in STRUCTS.values()}
)


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `events` with its key; stored only where the key is new. `data` is the full form of the webhook's."""

    id: UUID
    key: Key
    at: datetime
    type: str
    owner_id: UUID
    delegate_id: UUID | None
    grant_id: UUID | None
    source: str
    owner_view: str | None
    delegate_view: str | None
    recipient_hash: str | None
    data: Told | SentAfterEnd
    payload: str | None


def events_of(
    envelope: Envelope, feedback: Feedback, found: Attributed, *, source: str, hash_key: bytes, secret: bytes
) -> list[NewEvent]:
    """One event per recipient, all at the envelope's signed time; the first keeps the payload, which tells of all.

    `secret` is that of the keys (`keys.key_of`).
    """
    at, type_ = envelope.sent_at, EVENT_TYPES[feedback.kind]
    made = []
    for number, occurrence in enumerate(feedback.occurrences):
        hashed = recipient_hash(hash_key, occurrence.recipient) if occurrence.recipient else None
        event_id = new_id()
        made.append(
            NewEvent(
                id=event_id,
                key=key_of(feedback.mail, occurrence, secret),
                at=at,
                type=type_,
                owner_id=found.owner_id,
                delegate_id=found.delegate_id,
                grant_id=found.grant_id,
                source=source,
                owner_view=found.owner_view,
                delegate_view=found.delegate_view,
                recipient_hash=hashed,
                data=_told(event_id, feedback, occurrence, found, source=source, hashed=hashed),
                payload=None if number else storable(envelope.message),
            )
        )
    return made


def after_end(
    envelope: Envelope, feedback: Feedback, found: Attributed, *, source: str, secret: bytes
) -> NewEvent | None:
    """The news that mail still goes out under a grant that is gone, for both parties; None where it does not."""
    mail = feedback.mail
    if found.gone_since is None or found.grant_id is None or found.delegate_id is None:
        return None
    event_id = new_id()
    told = SentAfterEnd(
        event_id=event_id,
        grant_id=found.grant_id,
        identity=mail.source_arn or "",
        owner_id=found.owner_id,
        delegate_id=found.delegate_id,
        source=source,
        message_id=mail.message_id,
        sending_account=mail.sending_account or "",
        sent_at=mail.sent_at,
        verified_at=found.gone_since,
    )
    return NewEvent(
        id=event_id,
        key=key_after_end(mail, found.grant_id, secret),
        at=envelope.sent_at,
        type=AFTER_END,
        owner_id=found.owner_id,
        delegate_id=found.delegate_id,
        grant_id=found.grant_id,
        source=source,
        owner_view=View.full,
        delegate_view=View.full,
        recipient_hash=None,
        data=told,
        payload=None,
    )


def _told(
    event_id: UUID, feedback: Feedback, occurrence: Occurrence, found: Attributed, *, source: str, hashed: str | None
) -> Told:
    """What SES told; every name of the kind is there, null where it does not apply or is not known."""
    mail, struct = feedback.mail, STRUCTS[feedback.kind]
    return struct(
        event_id=event_id,
        grant_id=found.grant_id,
        source=source,
        recipient_hash=hashed,
        identity=mail.source_arn,
        message_id=mail.message_id,
        sending_account=mail.sending_account,
        sent_at=mail.sent_at,
        occurred_at=occurrence.occurred_at,
        kind=feedback.kind or UNKNOWN,
        recipients=len(feedback.occurrences),
        recipient=occurrence.recipient,
        final=occurrence.final,
        bounce_type=occurrence.bounce_type,
        bounce_sub_type=occurrence.bounce_sub_type,
        complaint_sub_type=occurrence.complaint_sub_type,
        status=occurrence.status,
        action=occurrence.action,
        diagnostic_code=occurrence.diagnostic_code,
        reporting_mta=occurrence.reporting_mta,
        remote_mta=occurrence.remote_mta,
        feedback_type=occurrence.feedback_type,
        user_agent=occurrence.user_agent,
        smtp_response=occurrence.smtp_response,
        processing_ms=occurrence.processing_ms,
        from_=mail.from_address,
        subject=mail.subject,
        tags=mail.tags,
        configuration_set=mail.configuration_set,
        **{name: getattr(occurrence, name) for name in _MORE[struct]},
    )


def storable(text: str) -> str:
    """Text that Postgres can hold: without NUL."""
    return text.replace("\0", "")
