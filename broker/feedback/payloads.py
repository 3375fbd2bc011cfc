"""What SES says about a message, read around every irregularity into one normalised occurrence per recipient.

Sources: SES Developer Guide, notification-contents, notification-examples, event-publishing-retrieving-sns-contents and
event-publishing-retrieving-sns-examples. The examples there contradict the tables in many places; whatever has an
unexpected form is read as absent, and only what names no message at all is `Unreadable`.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from broker.feedback import fields
from broker.feedback.fields import Json
from broker.policies.terms import FeedbackKind


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """The message that feedback is about. `message_id` is SES's own, not the Message-ID header.

    `sent_at` is equal on every route. `source_arn` is the identity, `sending_account` the delegate's account.
    """

    sent_at: datetime
    message_id: str
    source_arn: str | None = None
    sending_account: str | None = None
    from_address: str | None = None
    subject: str | None = None
    destination: tuple[str, ...] = ()
    configuration_set: str | None = None
    tags: dict[str, list[str]] = {}


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to one recipient. Names follow RFC 3464 (delivery) and RFC 5965 (complaints).

    `final` answers "is mailing this recipient again pointless?": true for a permanent bounce and for mail that SES will
    never send (reject, rendering failure), false for a transient bounce and a delay, null where SES cannot tell
    (undetermined bounce) or where it is not a matter of delivery. `recipient` is null where SES does not tell it.
    """

    kind: FeedbackKind
    occurred_at: datetime
    recipient: str | None = None
    final: bool | None = None
    bounce_type: str | None = None
    bounce_sub_type: str | None = None
    complaint_sub_type: str | None = None
    status: str | None = None
    action: str | None = None
    diagnostic_code: str | None = None
    reporting_mta: str | None = None
    remote_mta: str | None = None
    feedback_type: str | None = None
    user_agent: str | None = None
    smtp_response: str | None = None
    processing_ms: int | None = None
    link: str | None = None


class Feedback(msgspec.Struct, frozen=True):
    """What one SNS message says: one mail, one kind, and at least one occurrence of it."""

    mail: Mail
    kind: FeedbackKind
    occurrences: tuple[Occurrence, ...]


class Ignored(msgspec.Struct, frozen=True):
    """A message that says nothing about any mail, such as the test text on setting up a destination."""

    reason: str


class Unreadable(msgspec.Struct, frozen=True):
    """Kept for people to look at."""

    reason: str


Parsed = Feedback | Ignored | Unreadable

# Names as in `eventType` or `notificationType`, without blanks and in lower case → kind, and where the details are.
# "Rendering Failure" is written with a blank and its object is called `failure`.
_KINDS: Mapping[str, tuple[FeedbackKind, str]] = MappingProxyType(
    {
        "bounce": (FeedbackKind.bounce, "bounce"),
        "complaint": (FeedbackKind.complaint, "complaint"),
        "delivery": (FeedbackKind.delivery, "delivery"),
        "send": (FeedbackKind.send, "send"),
        "reject": (FeedbackKind.reject, "reject"),
        "open": (FeedbackKind.open, "open"),
        "click": (FeedbackKind.click, "click"),
        "renderingfailure": (FeedbackKind.rendering_failure, "failure"),
        "deliverydelay": (FeedbackKind.delay, "deliveryDelay"),
        "subscription": (FeedbackKind.subscription, "subscription"),
    }
)
_FINAL_BOUNCES: Mapping[str | None, bool] = MappingProxyType({"Permanent": True, "Transient": False})
_FINAL_KINDS: Mapping[FeedbackKind, bool] = MappingProxyType(
    {FeedbackKind.reject: True, FeedbackKind.rendering_failure: True, FeedbackKind.delay: False}
)
_RECIPIENTS = MappingProxyType(
    {
        FeedbackKind.bounce: "bouncedRecipients",
        FeedbackKind.complaint: "complainedRecipients",
        FeedbackKind.delivery: "recipients",
        FeedbackKind.delay: "delayedRecipients",
    }
)
_ABOUT_ALL = frozenset({FeedbackKind.send, FeedbackKind.reject, FeedbackKind.rendering_failure})
_VALIDATION = "successfully validated sns topic"  # "… for Amazon SES event publishing."


def parse(message: str) -> Parsed:
    """Reads the `Message` of an SNS notification; never raises, whatever the text holds."""
    try:
        root = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        # What SES publishes when an event destination is made.
        if message.strip().lower().startswith(_VALIDATION):
            return Ignored("SES validated the topic.")
        return Unreadable("The message is not JSON.")
    if not isinstance(root, dict):
        return Unreadable("The message is not a JSON object.")
    return _read(root)


def _read(root: Json) -> Parsed:
    # Complaints of some mailbox providers carry `notificationType` although event publishing is set up.
    named = fields.text(root, "eventType") or fields.text(root, "notificationType")
    if named == "AmazonSnsSubscriptionSucceeded":
        return Ignored("SES validated the topic.")
    known = _KINDS.get((named or "").replace(" ", "").lower())
    if known is None:
        return Unreadable(f"The event type {(named or '')[:40]!r} is not one that we know.")
    kind, where = known
    mail = _mail(root)
    if mail is None:
        return Unreadable("The message does not say which mail it is about, or when that was sent.")
    occurrences = _occurrences(kind, mail, fields.record(root, where))
    if not occurrences:
        return Unreadable("The message names no recipient.")
    return Feedback(mail, kind, occurrences)


def _mail(root: Json) -> Mail | None:
    mail = fields.record(root, "mail")
    sent_at, message_id = fields.time(mail, "timestamp"), fields.text(mail, "messageId")
    if sent_at is None or message_id is None:
        return None
    headers, tags = fields.headers(mail), fields.tags(mail)
    return Mail(
        sent_at=sent_at,
        message_id=message_id,
        source_arn=fields.text(mail, "sourceArn"),
        sending_account=fields.text(mail, "sendingAccountId"),
        # `source` is the envelope's sender, sometimes as "Name <address>"; the From header says more where it is given.
        from_address=fields.address(headers.get("from")) or fields.address(mail.get("source")),
        subject=headers.get("subject"),
        destination=tuple(fields.addresses(mail, "destination")),
        configuration_set=next(iter(tags.get("ses:configuration-set", [])), None) or None,
        tags=tags,
    )


def _occurrences(kind: FeedbackKind, mail: Mail, details: Json) -> tuple[Occurrence, ...]:
    base = _common(kind, mail, details)
    if kind in _RECIPIENTS:
        each = (_of_recipient(base, entry) for entry in fields.items(details, _RECIPIENTS[kind]))
        return tuple(found for found in each if found is not None)
    if kind in _ABOUT_ALL:
        return tuple(msgspec.structs.replace(base, recipient=address) for address in mail.destination)
    # Opens and clicks do not say whose they are when a message had several recipients.
    return (msgspec.structs.replace(base, recipient=mail.destination[0] if len(mail.destination) == 1 else None),)


def _common(kind: FeedbackKind, mail: Mail, details: Json) -> Occurrence:
    bounce_type = fields.text(details, "bounceType")
    return Occurrence(
        kind=kind,
        occurred_at=fields.time(details, "timestamp") or mail.sent_at,
        final=_FINAL_BOUNCES.get(bounce_type) if kind is FeedbackKind.bounce else _FINAL_KINDS.get(kind),
        bounce_type=bounce_type,
        bounce_sub_type=fields.text(details, "bounceSubType"),
        complaint_sub_type=fields.text(details, "complaintSubType"),
        reporting_mta=fields.without_type(fields.text(details, "reportingMTA")),
        remote_mta=fields.text(details, "remoteMtaIp"),
        feedback_type=fields.text(details, "complaintFeedbackType"),
        user_agent=fields.text(details, "userAgent"),
        smtp_response=fields.text(details, "smtpResponse"),
        processing_ms=fields.whole(details, "processingTimeMillis"),
        link=fields.text(details, "link"),
    )


def _of_recipient(base: Occurrence, entry: Any) -> Occurrence | None:
    """A recipient is an object with `emailAddress`, or in deliveries the address itself."""
    given = entry if isinstance(entry, dict) else {"emailAddress": entry}
    recipient = fields.address(given.get("emailAddress"))
    if recipient is None:
        return None
    return msgspec.structs.replace(
        base,
        recipient=recipient,
        status=fields.text(given, "status"),
        action=fields.text(given, "action"),
        diagnostic_code=fields.without_type(fields.text(given, "diagnosticCode")),
    )
