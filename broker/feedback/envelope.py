"""SNS messages as they arrive over HTTPS: what they hold, the text that SNS signed, and which certificates may sign.

Sources: SNS Developer Guide, sns-message-and-json-formats and sns-verify-signature-of-message.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

import msgspec

from broker.errors import BadRequest
from broker.feedback.reasons import Reason


class MessageType(StrEnum):
    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


class Envelope(msgspec.Struct, frozen=True, rename="pascal"):
    """One SNS message; unknown fields are tolerated. `Token` and `SubscribeURL` come with confirmations only."""

    type: MessageType
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: str
    signature: str
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)

    def __repr__(self) -> str:
        """Without the token, the addresses and the payload, so that a log or a trace may hold it."""
        return f"Envelope(type={self.type.value!r}, message_id={self.message_id!r}, topic_arn={self.topic_arn!r})"

    @property
    def sent_at(self) -> datetime:
        """The signed time at which SNS took the message; the same over all of its retries. ValueError if unreadable."""
        return datetime.fromisoformat(self.timestamp).astimezone(UTC)


class Arrival(msgspec.Struct, frozen=True):
    """A message on its way into the database: when it came, by our wall clock and by the monotonic one.

    It is verified, unless `distrust` says why it is only kept for people to look at.
    """

    envelope: Envelope
    came: datetime
    began: float
    distrust: Reason | None = None


class TopicName(msgspec.Struct, frozen=True):
    """`arn:<partition>:sns:<region>:<account_id>:<name>`, taken apart."""

    partition: str
    region: str
    account_id: str
    name: str


_DECODER = msgspec.json.Decoder(Envelope)
_TOPIC_ARN = re.compile(
    r"arn:(?P<partition>aws(?:-cn|-us-gov)?):sns:(?P<region>[a-z0-9-]{3,40}):(?P<account_id>[0-9]{12})"
    r":(?P<name>[A-Za-z0-9_-]{1,256}(?:\.fifo)?)"
)
_CERTIFICATE_HOST = re.compile(r"sns\.(?P<region>[a-z0-9-]{3,})\.amazonaws\.com(?P<china>\.cn)?")
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,128}\.pem")


def decode(headers: Mapping[str, str], body: bytes) -> Envelope:
    """The message in a request's body; `BadRequest` for anything else. Names of `headers` are lower case.

    Raw delivery is refused: it carries no signature, so anybody could have sent it.
    """
    if headers.get("x-amz-sns-rawdelivery", "").lower() == "true":
        raise BadRequest("Raw message delivery carries no signature; switch it off for this subscription.")
    try:
        envelope = _DECODER.decode(body)
        unreadable = envelope.sent_at.year < 2010  # SNS began then
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest("The body is not a message of Amazon SNS.") from error
    if unreadable:
        raise BadRequest("The body is not a message of Amazon SNS.")
    if headers.get("x-amz-sns-message-type", envelope.type.value) != envelope.type.value:
        raise BadRequest("The header x-amz-sns-message-type does not fit the body.")
    if envelope.type is not MessageType.NOTIFICATION and not (envelope.token and envelope.subscribe_url):
        raise BadRequest("A confirmation must carry Token and SubscribeURL.")
    return envelope


@lru_cache(maxsize=10_000)
def topic_name(arn: str) -> TopicName | None:
    """A topic's ARN taken apart, None for anything else."""
    found = _TOPIC_ARN.fullmatch(arn)
    return TopicName(**found.groupdict()) if found else None


def signed_text(envelope: Envelope) -> bytes:
    """What SNS signed, in both versions: name and value of certain fields, a line each, in byte order of the names."""
    fields = {
        "Message": envelope.message,
        "MessageId": envelope.message_id,
        "Timestamp": envelope.timestamp,
        "TopicArn": envelope.topic_arn,
        "Type": envelope.type.value,
    }
    if envelope.type is not MessageType.NOTIFICATION:
        fields |= {"SubscribeURL": envelope.subscribe_url or "", "Token": envelope.token or ""}
    elif envelope.subject is not None:
        fields |= {"Subject": envelope.subject}
    return "".join(f"{name}\n{value}\n" for name, value in sorted(fields.items())).encode()


@lru_cache(maxsize=10_000)
def certificate_url_allowed(url: str, topic: TopicName, *, partition: str, endpoint_origin: str | None = None) -> bool:
    """Whether a certificate at `url` may vouch for messages of `topic`.

    Only https, only SNS's own host in the topic's Region and in this installation's partition, only the path under
    which SNS keeps its certificates (the host rule is that of AWS's own validators, aws/aws-js-sns-message-validator).
    `endpoint_origin` (`scheme://host[:port]`) is where another endpoint than AWS's is configured for every call.
    """
    try:
        parts = urlsplit(url)
        odd = "@" in parts.netloc or bool(parts.query or parts.fragment) or parts.port not in (None, 443)
    except ValueError:
        return False
    if topic.partition != partition or _CERTIFICATE_PATH.fullmatch(parts.path) is None:
        return False
    if endpoint_origin is not None and url == endpoint_origin + parts.path:
        return True
    return not odd and _is_sns_host(parts, topic)


def _is_sns_host(parts: SplitResult, topic: TopicName) -> bool:
    host = _CERTIFICATE_HOST.fullmatch(parts.hostname or "")
    return (
        parts.scheme == "https"
        and host is not None
        and host["region"] == topic.region
        and (host["china"] is not None) == (topic.partition == "aws-cn")
    )


def origin(url: str) -> str | None:
    """`scheme://host[:port]` of a URL, None for an empty one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else None
