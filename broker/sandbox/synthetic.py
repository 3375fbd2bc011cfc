"""Events that the control API asks for, of mail that need not have been sent."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from broker.sandbox import envelope, payloads, simulator
from broker.sandbox.arns import identity_arn
from broker.sandbox.cloud import Cloud
from broker.sandbox.payloads import Kind, Sent, stamp

Word = Literal[
    "bounce",
    "complaint",
    "delivery",
    "send",
    "reject",
    "delay",
    "open",
    "click",
    "rendering_failure",
    "subscription",
]
BROWSER = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event of a message that need not have been sent; `account_id` owns the identity.

    `sent_at` is when the mail is to have been sent, `at` when the rest happened; both are now if absent. `cause` is of
    a bounce. The very same SNS message comes `copies` times. `stands_in`: the record of event publishing goes to the
    identity's topic, which real SES never does; a configuration set would have to lead there.
    """

    account_id: str
    region: str
    identity: str
    sending_account_id: str
    source: str
    recipients: list[str]
    kind: Word
    cause: Literal["General", "OutOfOffice", "MailboxFull", "Suppressed"] = "General"
    message_id: str | None = None
    subject: str = ""
    sent_at: datetime | None = None
    at: datetime | None = None
    configuration_set: str | None = None
    copies: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    stands_in: bool = False


class Published(msgspec.Struct, frozen=True):
    """The message id of the mail, and the topics that were told."""

    message_id: str
    topics: list[str]


def publish(cloud: Cloud, given: Event) -> Published:
    """Publishes one event as SES would. AwsError where an address or ARN cannot be read."""
    now = datetime.now(UTC)
    sent_at = given.sent_at or now
    message_id = given.message_id or payloads.message_id(given.region, sent_at)
    mail = envelope.bare(
        given.source, given.recipients, configuration_set=given.configuration_set, subject=given.subject
    )
    arn = identity_arn(given.account_id, given.region, given.identity)
    sent = Sent(message_id, mail, given.sending_account_id, "administrator", arn, "127.0.0.1", sent_at)
    kind, details = _KINDS[given.kind]
    tell = simulator.stand_in if given.stands_in else simulator.announce
    return Published(message_id, tell(cloud, kind, sent, details(given, sent, given.at or now), copies=given.copies))


def _bounce(given: Event, _sent: Sent, at: datetime) -> dict[str, Any]:
    return payloads.bounce(given.cause, given.recipients, at=at)


def _complaint(given: Event, sent: Sent, at: datetime) -> dict[str, Any]:
    return payloads.complaint(sent, given.recipients, at=at)


def _delivery(given: Event, sent: Sent, at: datetime) -> dict[str, Any]:
    return payloads.delivery(sent, given.recipients, at=at)


def _send(_given: Event, _sent: Sent, _at: datetime) -> dict[str, Any]:
    return {}


def _reject(_given: Event, _sent: Sent, _at: datetime) -> dict[str, Any]:
    """The one reason that there is: SES found a virus."""
    return {"reason": "Bad content"}


def _open(_given: Event, _sent: Sent, at: datetime) -> dict[str, Any]:
    return {"ipAddress": "192.0.2.80", "timestamp": stamp(at), "userAgent": BROWSER}


def _click(given: Event, sent: Sent, at: datetime) -> dict[str, Any]:
    return _open(given, sent, at) | {"link": "https://www.example.com/offers?utm_source=news", "linkTags": None}


def _failure(_given: Event, _sent: Sent, _at: datetime) -> dict[str, Any]:
    return {
        "templateName": "Newsletter",
        "errorMessage": "Attribute 'first_name' is not present in the rendering data.",
    }


def _delay(given: Event, _sent: Sent, at: datetime) -> dict[str, Any]:
    told = {"status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host"}
    return {
        "delayType": "TransientCommunicationFailure",
        "delayedRecipients": [{"emailAddress": each} | told for each in given.recipients],
        "expirationTime": stamp(at + timedelta(hours=14)),
        "reportingMTA": "a8-50.smtp-out.amazonses.com",
        "timestamp": stamp(at),
    }


def _subscription(_given: Event, _sent: Sent, at: datetime) -> dict[str, Any]:
    def topics(status: str, *, all_off: bool) -> dict[str, Any]:
        listed = [{"topicName": "News", "subscriptionStatus": status}]
        return {"unsubscribeAll": all_off, "topicSubscriptionStatus": listed}

    return {
        "contactList": "Readers",
        "timestamp": stamp(at),
        "source": "UnsubscribeHeader",
        "newTopicPreferences": topics("OptOut", all_off=True),
        "oldTopicPreferences": topics("OptIn", all_off=False),
    }


_Details = Callable[[Event, Sent, datetime], dict[str, Any]]
_KINDS: Mapping[Word, tuple[Kind, _Details]] = MappingProxyType(
    {
        "bounce": ("Bounce", _bounce),
        "complaint": ("Complaint", _complaint),
        "delivery": ("Delivery", _delivery),
        "send": ("Send", _send),
        "reject": ("Reject", _reject),
        "delay": ("DeliveryDelay", _delay),
        "open": ("Open", _open),
        "click": ("Click", _click),
        "rendering_failure": ("Rendering Failure", _failure),
        "subscription": ("Subscription", _subscription),
    }
)
