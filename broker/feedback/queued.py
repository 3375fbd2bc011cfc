"""What lies in a queue of ours: SNS messages as SNS wraps them, events of EventBridge, and what is neither.

Sources: SNS Developer Guide, sns-sqs-as-subscriber and sns-message-and-json-formats; EventBridge User Guide,
eb-events-structure; SES Developer Guide, monitoring-eventbridge.
"""

from datetime import UTC, datetime

import msgspec

from broker.errors import BadRequest
from broker.feedback.envelope import Envelope, MessageType, decode

SES = "aws.ses"


class Event(msgspec.Struct, frozen=True, rename="kebab"):
    """An event as EventBridge hands it on. `account` and `source` are EventBridge's word, `detail` is SES's record.

    Nobody but AWS may put events whose source begins with `aws.` (EventBridge API Reference, PutEvents).
    """

    id: str
    detail_type: str
    source: str
    account: str
    region: str
    time: datetime
    detail: msgspec.Raw


_EVENT = msgspec.json.Decoder(Event)


def read(body: str) -> Envelope | Event | None:
    """An SNS message that is still to be verified, an event of SES from EventBridge, or None for anything else.

    Raw delivery of SNS is among the rest: it carries no signature.
    """
    try:
        return decode({}, body.encode())
    except (BadRequest, UnicodeEncodeError):
        return _event(body)


def _event(body: str) -> Event | None:
    try:
        event = _EVENT.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return event if event.source == SES and event.time.tzinfo is not None else None


def bus_arn(event: Event, *, partition: str) -> str:
    """The bus on which SES put it: SES uses the default bus of the account that sends (SES Developer Guide)."""
    return f"arn:{partition}:events:{event.region}:{event.account}:event-bus/default"


def as_envelope(event: Event, *, partition: str) -> Envelope:
    """The event as if SNS had brought it, from the topic that the bus stands for."""
    return _envelope(event.id, bus_arn(event, partition=partition), bytes(event.detail).decode(), event.time)


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
