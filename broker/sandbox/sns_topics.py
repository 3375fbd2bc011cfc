"""Topics, who may do what with them, and publishing to their subscriptions.

Topics and subscriptions live in moto's SNS; confirmation, signing, delivery and topic policies are done here.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from moto.sns.models import sns_backends
from moto.sns.utils import FilterPolicyMatcher

from broker.sandbox import arns, authorize, iam_policy, queues, sns_delivery
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError

SES = "ses.amazonaws.com"
Attributes = Mapping[str, Mapping[str, Any]]
"""Message attributes as SNS takes them: name → DataType and StringValue."""


def find(topic_arn: str) -> Any:
    """moto's Topic, None when there is none by this ARN."""
    backend = backend_of(topic_arn)
    return backend.topics.get(topic_arn) if backend is not None else None


def backend_of(arn: str) -> Any:
    """moto's SNS of the account and Region of a topic's or subscription's ARN, None for a Region that SNS has not."""
    named = arns.parse(arn)
    regional = sns_backends[named.account_id]
    return regional[named.region] if named.service == "sns" and named.region in regional else None


def existing(topic_arn: str) -> Any:
    """Raises AwsError NotFound."""
    if (topic := find(topic_arn)) is None:
        raise AwsError("NotFound", "Topic does not exist", 404)
    return topic


def subscriptions(topic_arn: str) -> list[Any]:
    backend = backend_of(topic_arn)
    if backend is None:
        return []
    return [each for each in list(backend.subscriptions.values()) if each.topic.arn == topic_arn]


def ses_may_publish(cloud: Cloud, topic_arn: str, *, account_id: str, source_arn: str) -> bool:
    """Does the topic's policy let SES publish on behalf of this account and identity or configuration set?

    SES cannot use a topic under the AWS-managed key either (Developer Guide, configure-sns-notifications).
    """
    topic = find(topic_arn)
    if topic is None or topic.kms_master_key_id == "alias/aws/sns":
        return False
    keys = {f"aws:{cloud.dialect.source_key.lower()}": (account_id,), "aws:sourcearn": (source_arn,)}
    return (
        iam_policy.decide([topic.policy], "sns:Publish", topic_arn, caller=iam_policy.service(SES), keys=keys)
        == "allow"
    )


def require(cloud: Cloud, call: Call, action: str, topic_arn: str) -> None:
    """In the topic's own account the caller's policies decide; from elsewhere the topic's policy must allow as well."""
    own = authorize.decision(cloud, call, action, topic_arn)
    topic = find(topic_arn)
    allowed = own == "allow"
    if topic is not None and arns.parse(topic_arn).account_id != call.account_id:
        caller, keys = iam_policy.caller_of(call.principal), authorize.keys_of(cloud, call)
        allowed &= iam_policy.decide([topic.policy], action, topic_arn, caller=caller, keys=keys) == "allow"
    if not allowed:
        raise authorize.denied(call, action, topic_arn)


def publish(
    cloud: Cloud,
    topic_arn: str,
    message: str,
    *,
    subject: str | None = None,
    attributes: Attributes | None = None,
    structure: str | None = None,
    copies: int = 1,
) -> str:
    """Hands the message to every confirmed subscription and answers with its id.

    `copies` above 1: the very same message comes as often, since SNS delivers at least once.
    """
    message_id = str(uuid4())
    for subscription in subscriptions(topic_arn):
        if subscription.confirmed and _wanted(subscription, message, attributes or {}):
            text = _for_protocol(message, subscription.protocol) if structure == "json" else message
            given = _signed(cloud, subscription, (message_id, text), subject=subject, attributes=attributes or {})
            for _ in range(copies):
                _hand_over(cloud, subscription, message_id, given)
    return message_id


def _for_protocol(message: str, protocol: str) -> str:
    """The part of a `MessageStructure=json` message that is meant for a protocol."""
    parts: dict[str, str] = json.loads(message)
    return parts.get(protocol, parts["default"])


def _wanted(subscription: Any, message: str, attributes: Attributes) -> bool:
    if not (policy := subscription.attributes.get("FilterPolicy")):
        return True
    plain = {name: {"Type": each["DataType"], "Value": each.get("StringValue")} for name, each in attributes.items()}
    matcher = FilterPolicyMatcher(json.loads(policy), subscription.attributes.get("FilterPolicyScope"))
    return bool(matcher.matches(plain, message))


def is_raw(subscription: Any) -> bool:
    return str(subscription.attributes.get("RawMessageDelivery")).lower() == "true"


def signature_version(topic: Any) -> str:
    return str(getattr(topic, "signature_version", None) or "1")


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _signed(
    cloud: Cloud, subscription: Any, sent: tuple[str, str], *, subject: str | None, attributes: Attributes
) -> str:
    """What a subscription gets; of raw delivery the message alone."""
    message_id, message = sent
    topic = subscription.topic
    body = {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": topic.arn,
        "Message": message,
        "Timestamp": timestamp(),
    }
    if subject:
        body["Subject"] = subject
    region = arns.parse(topic.arn).region
    signed: dict[str, Any] = cloud.courier.sign(body, region=region, version=signature_version(topic))
    signed["UnsubscribeURL"] = f"{cloud.url}/?Action=Unsubscribe&SubscriptionArn={subscription.arn}"
    if attributes:
        pairs = {
            name: {"Type": each["DataType"], "Value": each.get("StringValue")} for name, each in attributes.items()
        }
        signed["MessageAttributes"] = pairs
    return message if is_raw(subscription) else sns_delivery.encoded(signed).decode()


def _hand_over(cloud: Cloud, subscription: Any, message_id: str, text: str) -> None:
    if subscription.protocol == "sqs":
        queues.put(subscription.endpoint, text, topic_arn=subscription.topic.arn)
    elif subscription.protocol in {"http", "https"}:
        post(cloud, subscription, ("Notification", message_id), text)


def post(cloud: Cloud, subscription: Any, kind: tuple[str, str], text: str) -> None:
    """Sends one message, by type and id, to a subscription's HTTP endpoint."""
    message_type, message_id = kind
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": message_type,
        "x-amz-sns-message-id": message_id,
        "x-amz-sns-topic-arn": subscription.topic.arn,
    }
    if message_type != "SubscriptionConfirmation":
        headers["x-amz-sns-subscription-arn"] = subscription.arn
    if message_type == "Notification" and is_raw(subscription):
        headers["x-amz-sns-rawdelivery"] = "true"
    policy = json.loads(subscription.attributes.get("DeliveryPolicy") or "{}").get("healthyRetryPolicy", {})

    def lost() -> None:
        redrive = json.loads(subscription.attributes.get("RedrivePolicy") or "{}")
        if queue := redrive.get("deadLetterTargetArn"):
            queues.put(queue, text, topic_arn=subscription.topic.arn)

    retries, pause = policy.get("numRetries", sns_delivery.RETRIES), cloud.dialect.sns_retry_seconds
    cloud.courier.send(sns_delivery.Parcel(subscription.endpoint, headers, text.encode(), retries, pause, lost))
