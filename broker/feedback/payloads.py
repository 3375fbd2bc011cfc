"""What SES says about a message, read around every irregularity into one normalised occurrence per recipient.

Sources: SES Developer Guide, notification-contents, notification-examples, event-publishing-retrieving-sns-contents and
event-publishing-retrieving-sns-examples. The examples there contradict the tables in many places; whatever has an
unexpected form is read as absent, and only what names no message at all is `Unreadable`.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from broker.feedback import details, fields
from broker.feedback.fields import Json
from broker.feedback.occurrence import Mail, Occurrence
from broker.feedback.reasons import Reason
from broker.policies.terms import FeedbackKind

MOST_RECIPIENTS = 1000  # SES takes 50 of one message (Developer Guide, quotas); so many are nobody's mistake
_NAME_LENGTH = 80


class Feedback(msgspec.Struct, frozen=True):
    """What one SNS message says: one mail, one kind, and at least one occurrence of it.

    A kind of None: SES has a type of events that is not known here.
    """

    mail: Mail
    kind: FeedbackKind | None
    occurrences: tuple[Occurrence, ...]


class Ignored(msgspec.Struct, frozen=True):
    """A message that says nothing about any mail, such as the test text on setting up a destination."""

    reason: str


class Unreadable(msgspec.Struct, frozen=True):
    """Kept for people to look at."""

    reason: Reason


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
_ENVELOPE = frozenset({"eventType", "notificationType", "mail"})
_VALIDATION = "successfully validated sns topic"  # "… for Amazon SES event publishing."
_SUBSCRIBED = "AmazonSnsSubscriptionSucceeded"
_VALIDATED = Ignored("SES validated the topic.")


def parse(message: str) -> Parsed:
    """Reads the `Message` of an SNS notification; never raises, whatever the text holds."""
    try:
        root = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        # What SES publishes when an event destination is made.
        validated = message.lstrip()[: len(_VALIDATION)].lower() == _VALIDATION
        return _VALIDATED if validated else Unreadable(Reason.not_json)
    if not isinstance(root, dict):
        return Unreadable(Reason.no_object)
    try:
        return _read(root)
    except RecursionError:  # nested just so deep that it could be read, and cannot be written again
        return Unreadable(Reason.not_json)


def _read(root: Json) -> Parsed:
    # Complaints of some mailbox providers carry `notificationType` although event publishing is set up.
    named = fields.text(root, "eventType") or fields.text(root, "notificationType")
    if named is None:
        return Unreadable(Reason.no_type)
    if named == _SUBSCRIBED:
        return _VALIDATED
    mail = _mail(root)
    if mail is None:
        return Unreadable(Reason.no_mail)
    known = _KINDS.get(named.lower()) or _KINDS.get(named.replace(" ", "").lower())
    if known is None:
        return Feedback(mail, None, (_unknown(named, mail, root),))
    kind, where = known
    occurrences = details.read(kind, mail, fields.record(root, where))
    if not occurrences:
        return Unreadable(Reason.no_recipient)
    if len(occurrences) > MOST_RECIPIENTS:
        return Unreadable(Reason.too_many_recipients)
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
        destination=fields.addresses(mail, "destination", most=MOST_RECIPIENTS + 1),
        configuration_set=next(iter(tags.get("ses:configuration-set", [])), None) or None,
        tags=tags,
    )


def _unknown(named: str, mail: Mail, root: Json) -> Occurrence:
    """Of a type that SES has and we do not know: told apart from others of this mail by all that it says beside it."""
    told = {name: value for name, value in root.items() if name not in _ENVELOPE}
    timestamps = (fields.time(value, "timestamp") for value in told.values() if isinstance(value, dict))
    return Occurrence(
        kind=None,
        occurred_at=next((at for at in timestamps if at is not None), mail.sent_at),
        recipient=mail.destination[0] if len(mail.destination) == 1 else None,
        ses_type=named[:_NAME_LENGTH],
        told_apart_by=hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest(),
    )
