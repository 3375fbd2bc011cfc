"""What lies in a queue of ours: SNS messages as SNS wraps them, events of EventBridge, and what is neither.

Sources: SNS Developer Guide, sns-sqs-as-subscriber and sns-message-and-json-formats; EventBridge User Guide,
eb-events-structure; SES Developer Guide, monitoring-eventbridge.
"""

import re
from datetime import UTC, datetime

import msgspec

from broker.connections.permissions import PREFIX
from broker.errors import BadRequest
from broker.feedback.envelope import Envelope, MessageType, decode
from broker.feedback.payloads import Feedback, parse

SES = "aws.ses"
DETAIL_TYPES = (
    "Email Sent",
    "Email Rejected",
    "Email Bounced",
    "Email Complaint Received",
    "Email Delivered",
    "Email Opened",
    "Email Clicked",
    "Email Rendering Failed",
    "Email Delivery Delayed",
    "Email Subscribed",
)
"""The events about a mail that SES sends to EventBridge (EventBridge Events Reference, events-ref-ses), at best effort.

Under the same source come others that are about no mail: the advisor's, the sending status, and calls of the SES API by
way of CloudTrail. What one of them says is not read by its name but by its `detail`, as SNS would bring it.
"""
_SET = re.compile(re.escape(PREFIX) + r"[0-9a-f]{32}")  # of a configuration_set route; its topic has the same name


class Event(msgspec.Struct, frozen=True, rename="kebab"):
    """An event as EventBridge hands it on. `account` and `source` are EventBridge's word, `detail` is SES's record.

    Nobody but AWS may put events whose source begins with `aws.`: PutEvents answers NotAuthorizedForSourceException
    (EventBridge API Reference, PutEventsResultEntry; seen in aws-samples/serverless-patterns#3089). A rule that
    forwards one to the bus of another account cannot change it (PutTargets: no InputTransformer there), and it still
    tells the account that it is of (PutPermission, Principal: a rule with an account matches no other's events).
    """

    id: str
    detail_type: str
    source: str
    account: str
    region: str
    time: datetime
    detail: msgspec.Raw


_EVENT = msgspec.json.Decoder(Event)


def message_in(body: str) -> Envelope | None:
    """An SNS message that is still to be verified, None for anything else: raw delivery carries no signature."""
    try:
        return decode({}, body.encode())
    except (BadRequest, UnicodeEncodeError):
        return None


def event_in(body: str) -> Event | None:
    """An event of SES, None for anything else. To be asked of queues that only EventBridge may send to."""
    try:
        event = _EVENT.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return event if event.source == SES and event.time.tzinfo is not None else None


def as_envelope(event: Event, *, partition: str) -> Envelope:
    """The event as if SNS had brought it, through the topic of the delegate's route for the mail's configuration set.

    That topic has the name of the set, is in the account that sends, and is believed about its account and its set only
    (`broker.feedback.attribution`). What has no such set comes through the bus, which is the topic of no route.
    """
    message, account = bytes(event.detail).decode(), f"{event.region}:{event.account}"
    parsed = parse(message)
    name = parsed.mail.configuration_set if isinstance(parsed, Feedback) else None
    through = f"arn:{partition}:events:{account}:event-bus/default"
    if name is not None and _SET.fullmatch(name):
        through = f"arn:{partition}:sns:{account}:{name}"
    return _envelope(event.id, through, message, event.time)


def as_it_came(message_id: str, body: str, *, queue_arn: str, now: datetime) -> Envelope:
    """What is not to be trusted: as a message of the queue itself, which is the topic of no route."""
    return _envelope(message_id, queue_arn, body.encode(errors="replace").decode(), now)


def _envelope(message_id: str, topic_arn: str, message: str, at: datetime) -> Envelope:
    return Envelope(
        type=MessageType.NOTIFICATION,
        message_id=message_id,
        topic_arn=topic_arn,
        message=message,
        timestamp=at.astimezone(UTC).isoformat(),
        signature_version="",
        signature="",
        signing_cert_url="",
    )
