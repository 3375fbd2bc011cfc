"""The JSON that SES publishes about a message (Developer Guide, notification-contents and
event-publishing-retrieving-sns-contents)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal
from uuid import uuid4

import msgspec

from broker.sandbox.envelope import Envelope, common_headers

Kind = Literal[
    "Send",
    "Delivery",
    "Bounce",
    "Complaint",
    "Reject",
    "Open",
    "Click",
    "Rendering Failure",
    "DeliveryDelay",
    "Subscription",
]
"""The names in `eventType`; only Bounce, Complaint and Delivery are in `notificationType`, too."""

_OBJECTS: Mapping[Kind, str] = MappingProxyType({"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"})
"""Where the object with the details is not called as the type is."""


class Sent(msgspec.Struct, frozen=True):
    """An accepted message with what its events tell about it."""

    message_id: str
    envelope: Envelope
    account_id: str
    """Of the caller, also where the identity is somebody else's."""
    caller_identity: str
    source_arn: str
    source_ip: str
    at: datetime


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message_id(region: str, at: datetime) -> str:
    """Like `0102018f5e2a7c3b-…-000000`: a number of the Region, milliseconds, a UUID and a counter."""
    prefix = {"us-east-1": "0100", "us-west-2": "0101", "eu-west-1": "0102"}.get(region, "0107")
    return f"{prefix}{int(at.timestamp() * 1000):012x}-{str(uuid4())[:-1]}1-000000"


def identity_notification(kind: Kind, sent: Sent, details: dict[str, Any], *, headers: bool) -> dict[str, Any]:
    mail = _mail(sent) | {"sourceIp": sent.source_ip, "callerIdentity": sent.caller_identity}
    return {"notificationType": kind, kind.lower(): details, "mail": mail | (_headers(sent) if headers else {})}


def event(kind: Kind, sent: Sent, details: dict[str, Any]) -> dict[str, Any]:
    """The shape of a configuration set's event destinations, with headers and tags."""
    return {
        "eventType": kind,
        "mail": _mail(sent) | _headers(sent) | {"tags": _tags(kind, sent)},
        _OBJECTS.get(kind, kind.lower()): details,
    }


MATCHING_TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        "Send": "SEND",
        "Delivery": "DELIVERY",
        "Bounce": "BOUNCE",
        "Complaint": "COMPLAINT",
        "Reject": "REJECT",
        "Open": "OPEN",
        "Click": "CLICK",
        "Rendering Failure": "RENDERING_FAILURE",
        "DeliveryDelay": "DELIVERY_DELAY",
        "Subscription": "SUBSCRIPTION",
    }
)


def matching_type(kind: Kind) -> str:
    """The name in an event destination's MatchingEventTypes (SES API v2, EventDestination)."""
    return MATCHING_TYPES[kind]


def _mail(sent: Sent) -> dict[str, Any]:
    return {
        "timestamp": stamp(sent.at),
        "source": sent.envelope.source,
        "sourceArn": sent.source_arn,
        "sendingAccountId": sent.account_id,
        "messageId": sent.message_id,
        "destination": sent.envelope.recipients,
    }


def _headers(sent: Sent) -> dict[str, Any]:
    return {
        "headersTruncated": False,
        "headers": [{"name": name, "value": value} for name, value in sent.envelope.headers],
        "commonHeaders": common_headers(sent.envelope, sent.message_id),
    }


def _tags(kind: Kind, sent: Sent) -> dict[str, list[str]]:
    auto = {
        "ses:operation": [sent.envelope.actions[0].removeprefix("ses:")],
        "ses:configuration-set": [sent.envelope.configuration_set or ""],
        "ses:source-ip": [sent.source_ip],
        "ses:from-domain": [sent.envelope.from_address.rpartition("@")[2]],
        "ses:caller-identity": [sent.caller_identity],
    }
    return auto | ({"ses:outgoing-ip": ["192.0.2.7"]} if kind == "Delivery" else {}) | sent.envelope.tags


def _feedback_id() -> str:
    return f"{uuid4().hex[:16]}-{uuid4()}-000000"


def delivery(sent: Sent, recipients: list[str], *, at: datetime | None = None) -> dict[str, Any]:
    now = at or datetime.now(UTC)
    return {
        "timestamp": stamp(now),
        "processingTimeMillis": int((now - sent.at).total_seconds() * 1000),
        "recipients": recipients,
        "smtpResponse": "250 2.6.0 Message received",
        "remoteMtaIp": "192.0.2.50",
        "reportingMTA": "a8-50.smtp-out.amazonses.com",
    }


_BOUNCES = {
    # sub-type → type, action, status, diagnostic code
    "General": ("Permanent", "failed", "5.1.1", "smtp; 550 5.1.1 user unknown"),
    "OutOfOffice": ("Transient", "failed", "4.0.0", "smtp; out of office"),
    "MailboxFull": ("Transient", "failed", "4.2.2", "smtp; 452 4.2.2 The recipient's mailbox is over its quota"),
    "Suppressed": (
        "Permanent",
        "failed",
        "5.1.1",
        "Amazon SES has suppressed sending to this address because it has a recent history of bouncing.",
    ),
}


def bounce(cause: str, recipients: list[str], *, at: datetime | None = None) -> dict[str, Any]:
    """Causes are General, OutOfOffice (which SES reports as Transient, General), MailboxFull and Suppressed."""
    kind, action, status, diagnostic = _BOUNCES[cause]
    return {
        "bounceType": kind,
        "bounceSubType": "General" if cause == "OutOfOffice" else cause,
        "bouncedRecipients": [
            {"emailAddress": each, "action": action, "status": status, "diagnosticCode": diagnostic}
            for each in recipients
        ],
        "timestamp": stamp(at or datetime.now(UTC)),
        "feedbackId": _feedback_id(),
        "remoteMtaIp": "192.0.2.50",
        "reportingMTA": "dsn; a8-50.smtp-out.amazonses.com",
    }


def complaint(sent: Sent, recipients: list[str], *, at: datetime | None = None) -> dict[str, Any]:
    return {
        "complainedRecipients": [{"emailAddress": each} for each in recipients],
        "timestamp": stamp(at or datetime.now(UTC)),
        "feedbackId": _feedback_id(),
        "complaintSubType": None,
        "userAgent": "Amazon SES Mailbox Simulator",
        "complaintFeedbackType": "abuse",
        "arrivalDate": stamp(sent.at),
    }
