"""Reads what SES says beside the mail, for each kind of event in its own object.

Sources: as in `payloads`, and for subscriptions "Subscription object" of event-publishing-retrieving-sns-contents.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from broker.feedback import fields
from broker.feedback.fields import Json
from broker.feedback.occurrence import Mail, Occurrence, Preferences
from broker.policies.terms import FeedbackKind

Reader = Callable[[Mail, Json], tuple[Occurrence, ...]]

_FINAL: Mapping[str | None, bool] = MappingProxyType({"Permanent": True, "Transient": False})


def read(kind: FeedbackKind, mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    """One occurrence for each recipient; none where the kind has recipients and none is named."""
    return _READERS[kind](mail, told)


def _bounce(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    at = _at(mail, told)
    bounce_type, sub_type = fields.text(told, "bounceType"), fields.text(told, "bounceSubType")
    return tuple(
        Occurrence(
            kind=FeedbackKind.bounce,
            occurred_at=at,
            recipient=recipient,
            final=_FINAL.get(bounce_type),
            bounce_type=bounce_type,
            bounce_sub_type=sub_type,
            status=fields.text(entry, "status"),
            action=fields.text(entry, "action"),
            diagnostic_code=fields.without_type(fields.text(entry, "diagnosticCode")),
            reporting_mta=fields.without_type(fields.text(told, "reportingMTA")),
            remote_mta=fields.text(told, "remoteMtaIp"),
            feedback_id=fields.text(told, "feedbackId"),
        )
        for recipient, entry in _entries(told, "bouncedRecipients")
    )


def _complaint(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    at = _at(mail, told)
    return tuple(
        Occurrence(
            kind=FeedbackKind.complaint,
            occurred_at=at,
            recipient=recipient,
            complaint_sub_type=fields.text(told, "complaintSubType"),
            feedback_type=fields.text(told, "complaintFeedbackType"),
            user_agent=fields.text(told, "userAgent"),
            feedback_id=fields.text(told, "feedbackId"),
            arrival_date=fields.time(told, "arrivalDate"),
        )
        for recipient, _ in _entries(told, "complainedRecipients")
    )


def _delivery(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    at = _at(mail, told)
    return tuple(
        Occurrence(
            kind=FeedbackKind.delivery,
            occurred_at=at,
            recipient=recipient,
            reporting_mta=fields.without_type(fields.text(told, "reportingMTA")),
            remote_mta=fields.text(told, "remoteMtaIp"),
            smtp_response=fields.text(told, "smtpResponse"),
            processing_ms=fields.whole(told, "processingTimeMillis"),
        )
        for recipient, _ in _entries(told, "recipients")
    )


def _delay(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    at = _at(mail, told)
    return tuple(
        Occurrence(
            kind=FeedbackKind.delay,
            occurred_at=at,
            recipient=recipient,
            final=False,
            status=fields.text(entry, "status"),
            action=fields.text(entry, "action"),
            diagnostic_code=fields.without_type(fields.text(entry, "diagnosticCode")),
            reporting_mta=fields.without_type(fields.text(told, "reportingMTA")),
            delay_type=fields.text(told, "delayType"),
            will_retry_until=fields.time(told, "expirationTime"),
        )
        for recipient, entry in _entries(told, "delayedRecipients")
    )


def _send(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    at = _at(mail, told)
    return tuple(
        Occurrence(kind=FeedbackKind.send, occurred_at=at, recipient=recipient) for recipient in mail.destination
    )


def _reject(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    at, reason = _at(mail, told), fields.text(told, "reason")
    return tuple(
        Occurrence(kind=FeedbackKind.reject, occurred_at=at, recipient=recipient, final=True, reject_reason=reason)
        for recipient in mail.destination
    )


def _rendering_failure(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    at = _at(mail, told)
    return tuple(
        Occurrence(
            kind=FeedbackKind.rendering_failure,
            occurred_at=at,
            recipient=recipient,
            final=True,
            template_name=fields.text(told, "templateName"),
            error_message=fields.text(told, "errorMessage"),
        )
        for recipient in mail.destination
    )


def _open_or_click(kind: FeedbackKind) -> Reader:
    def reader(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
        one = Occurrence(
            kind=kind,
            occurred_at=_at(mail, told),
            recipient=_only(mail),
            user_agent=fields.text(told, "userAgent"),
            ip_address=fields.text(told, "ipAddress"),
            link=fields.text(told, "link"),
            link_tags=fields.tags(told, "linkTags") or None,
        )
        return (one,)

    return reader


def _subscription(mail: Mail, told: Json) -> tuple[Occurrence, ...]:
    one = Occurrence(
        kind=FeedbackKind.subscription,
        occurred_at=_at(mail, told),
        recipient=_only(mail),
        contact_list=fields.text(told, "contactList"),
        subscription_source=fields.text(told, "source"),
        new_topic_preferences=_preferences(told, "newTopicPreferences"),
        old_topic_preferences=_preferences(told, "oldTopicPreferences"),
    )
    return (one,)


def _preferences(told: Json, name: str) -> Preferences | None:
    given = fields.record(told, name)
    if not given:
        return None
    topics = {
        topic: status
        for entry in fields.items(given, "topicSubscriptionStatus")[: fields.MOST]
        if isinstance(entry, dict)
        and (topic := fields.text(entry, "topicName"))
        and (status := fields.text(entry, "subscriptionStatus"))
    }
    return Preferences(fields.truth(given, "unsubscribeAll"), topics)


def _at(mail: Mail, told: Json) -> datetime:
    return fields.time(told, "timestamp") or mail.sent_at


def _only(mail: Mail) -> str | None:
    """Opens, clicks and subscriptions do not say whose they are when a message had several recipients."""
    return mail.destination[0] if len(mail.destination) == 1 else None


def _entries(told: Json, name: str) -> Iterable[tuple[str, Json]]:
    """Each recipient with what is said of it: an object with `emailAddress`, or in deliveries the address itself."""
    for entry in fields.items(told, name)[: fields.MOST + 1]:  # one more tells that there are too many
        given: Any = entry if isinstance(entry, dict) else {"emailAddress": entry}
        recipient = fields.address(given.get("emailAddress"))
        if recipient is not None:
            yield recipient, given


_READERS: Mapping[FeedbackKind, Reader] = MappingProxyType(
    {
        FeedbackKind.bounce: _bounce,
        FeedbackKind.complaint: _complaint,
        FeedbackKind.delivery: _delivery,
        FeedbackKind.send: _send,
        FeedbackKind.reject: _reject,
        FeedbackKind.rendering_failure: _rendering_failure,
        FeedbackKind.delay: _delay,
        FeedbackKind.open: _open_or_click(FeedbackKind.open),
        FeedbackKind.click: _open_or_click(FeedbackKind.click),
        FeedbackKind.subscription: _subscription,
    }
)
