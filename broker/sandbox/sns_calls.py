"""The SNS calls that are answered here: subscribing, confirming, publishing and the signature version of topics."""

import secrets
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from moto.sns.models import Subscription, sns_backends

from broker.sandbox import arns, authorize, queues, sns_delivery, sns_topics
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError

PENDING = "pending confirmation"


def subscribe(cloud: Cloud, call: Call) -> dict[str, Any]:
    """HTTP endpoints and queues of other accounts stay pending until they confirm; the same endpoint twice is one."""
    topic_arn, protocol = call.params["TopicArn"], call.params["Protocol"]
    sns_topics.require(cloud, call, "sns:Subscribe", topic_arn)
    topic = sns_topics.existing(topic_arn)
    endpoint = _endpoint(call, protocol)
    known = sns_topics.subscriptions(topic_arn)
    found = next((each for each in known if (each.endpoint, each.protocol) == (endpoint, protocol)), None)
    given = call.params.get("Attributes", {})
    if found is None:
        found = _new(cloud, call, topic, endpoint)
        found.attributes.update(given)
    elif any(found.attributes.get(name) != value for name, value in given.items()):
        reason = "Attributes Reason: Subscription already exists with different attributes"
        raise AwsError("InvalidParameter", f"Invalid parameter: {reason}")
    if not found.confirmed:
        _ask(cloud, found)
    shown = found.arn if found.confirmed or call.params.get("ReturnSubscriptionArn") else PENDING
    return {"SubscriptionArn": shown}


def _endpoint(call: Call, protocol: str) -> str:
    endpoint = str(call.params.get("Endpoint", ""))
    starts = {"http": "http://", "https": "https://", "sqs": "arn:"}
    if protocol not in starts:
        raise AwsError("InvalidParameter", f"Invalid parameter: The local AWS does not deliver by {protocol}")
    if not endpoint.startswith(starts[protocol]):
        raise AwsError("InvalidParameter", "Invalid parameter: Endpoint must match the specified protocol")
    return endpoint


def _new(cloud: Cloud, call: Call, topic: Any, endpoint: str) -> Any:
    protocol = call.params["Protocol"]
    made = Subscription(call.account_id, topic, endpoint, protocol)
    made.confirmed = protocol == "sqs" and arns.parse(endpoint).account_id == call.account_id
    made.attributes = {
        "SubscriptionArn": made.arn,
        "TopicArn": topic.arn,
        "Protocol": protocol,
        "Endpoint": endpoint,
        "Owner": call.account_id,
        "ConfirmationWasAuthenticated": str(made.confirmed).lower(),
        "RawMessageDelivery": "false",
        "Token": secrets.token_hex(128),
    }
    sns_topics.backend_of(topic.arn).subscriptions[made.arn] = made
    return made


def _ask(cloud: Cloud, subscription: Any, kind: str = "SubscriptionConfirmation") -> None:
    """Sends a confirmation message, of a subscription that begins or of one that has ended."""
    topic, token = subscription.topic, subscription.attributes["Token"]
    words = {
        "SubscriptionConfirmation": f"You have chosen to subscribe to the topic {topic.arn}.\n"
        "To confirm the subscription, visit the SubscribeURL included in this message.",
        "UnsubscribeConfirmation": f"You have chosen to deactivate subscription {subscription.arn}.\n"
        "To cancel this operation and restore the subscription, visit the SubscribeURL included in this message.",
    }
    body = {
        "Type": kind,
        "MessageId": str(uuid4()),
        "Token": token,
        "TopicArn": topic.arn,
        "Message": words[kind],
        "SubscribeURL": f"{cloud.url}/?Action=ConfirmSubscription&TopicArn={quote(topic.arn, safe='')}&Token={token}",
        "Timestamp": sns_topics.timestamp(),
    }
    version = sns_topics.signature_version(topic)
    text = sns_delivery.encoded(cloud.courier.sign(body, region=arns.parse(topic.arn).region, version=version)).decode()
    if subscription.protocol == "sqs":
        queues.put(subscription.endpoint, text, topic_arn=topic.arn)
    else:
        sns_topics.post(cloud, subscription, (kind, body["MessageId"]), text)


def confirm(cloud: Cloud, call: Call) -> dict[str, Any]:
    authorize.require(cloud, call, "sns:ConfirmSubscription", call.params["TopicArn"])
    return confirm_by_token(call.params["TopicArn"], call.params["Token"])


def confirm_by_token(topic_arn: str, token: str) -> dict[str, Any]:
    """Confirming needs nothing but the token. Raises AwsError InvalidParameter for a wrong one."""
    sns_topics.existing(topic_arn)
    for each in sns_topics.subscriptions(topic_arn):
        if each.attributes.get("Token") == token:
            each.confirmed = True
            return {"SubscriptionArn": each.arn}
    raise AwsError("InvalidParameter", "Invalid parameter: Token")


def unsubscribe(cloud: Cloud, call: Call) -> dict[str, Any]:
    """The topic's account and the subscription's owner may end it."""
    found = _subscription(call.params["SubscriptionArn"])
    if found is not None:
        _require_own(cloud, call, "sns:Unsubscribe", found)
        unsubscribe_by_arn(cloud, found.arn)
    return {}


def _require_own(cloud: Cloud, call: Call, action: str, subscription: Any) -> None:
    owners = {subscription.attributes["Owner"], arns.parse(subscription.topic.arn).account_id}
    if call.account_id not in owners:
        raise authorize.denied(call, action, subscription.arn)
    authorize.require(cloud, call, action, subscription.topic.arn)


def unsubscribe_by_arn(cloud: Cloud, arn: str) -> None:
    """What the UnsubscribeURL of a message does, which needs no signature."""
    if (found := _subscription(arn)) is None:
        return
    del sns_topics.backend_of(arn).subscriptions[arn]
    if found.protocol != "sqs":
        _ask(cloud, found, "UnsubscribeConfirmation")


def _subscription(arn: str) -> Any:
    backend = sns_topics.backend_of(arn)
    return backend.subscriptions.get(arn) if backend is not None else None


def get_attributes(cloud: Cloud, call: Call) -> dict[str, Any]:
    if (found := _subscription(call.params["SubscriptionArn"])) is None:
        raise AwsError("NotFound", "Subscription does not exist", 404)
    _require_own(cloud, call, "sns:GetSubscriptionAttributes", found)
    shown = {name: value for name, value in found.attributes.items() if name != "Token"}
    return {"Attributes": shown | {"PendingConfirmation": str(not found.confirmed).lower()}}


def set_attributes(cloud: Cloud, call: Call) -> dict[str, Any]:
    if (found := _subscription(call.params["SubscriptionArn"])) is None:
        raise AwsError("NotFound", "Subscription does not exist", 404)
    _require_own(cloud, call, "sns:SetSubscriptionAttributes", found)
    found.attributes[call.params["AttributeName"]] = call.params.get("AttributeValue", "")
    return {}


def list_by_topic(cloud: Cloud, call: Call) -> dict[str, Any]:
    sns_topics.require(cloud, call, "sns:ListSubscriptionsByTopic", call.params["TopicArn"])
    sns_topics.existing(call.params["TopicArn"])
    return {"Subscriptions": [_listed(each) for each in sns_topics.subscriptions(call.params["TopicArn"])]}


def list_all(_cloud: Cloud, call: Call) -> dict[str, Any]:
    """The caller's own subscriptions, also those to topics of other accounts."""
    regional = [sns_backends[account_id] for account_id in list(sns_backends)]
    backends = [each[call.region] for each in regional if call.region in each]
    every = [each for backend in backends for each in list(backend.subscriptions.values())]
    return {"Subscriptions": [_listed(each) for each in every if each.attributes["Owner"] == call.account_id]}


def _listed(subscription: Any) -> dict[str, str]:
    arn = subscription.arn if subscription.confirmed else "PendingConfirmation"
    keys = ("Owner", "Protocol", "Endpoint", "TopicArn")
    return {"SubscriptionArn": arn} | {key: subscription.attributes[key] for key in keys}


def publish(cloud: Cloud, call: Call) -> dict[str, Any]:
    topic_arn = call.params.get("TopicArn") or call.params.get("TargetArn")
    if not topic_arn:
        raise AwsError(
            "InvalidParameter", "Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter"
        )
    sns_topics.require(cloud, call, "sns:Publish", topic_arn)
    sns_topics.existing(topic_arn)
    return {"MessageId": _published(cloud, topic_arn, call.params)}


def publish_batch(cloud: Cloud, call: Call) -> dict[str, Any]:
    topic_arn = call.params["TopicArn"]
    sns_topics.require(cloud, call, "sns:Publish", topic_arn)
    sns_topics.existing(topic_arn)
    entries = call.params["PublishBatchRequestEntries"]
    return {
        "Successful": [{"Id": each["Id"], "MessageId": _published(cloud, topic_arn, each)} for each in entries],
        "Failed": [],
    }


def _published(cloud: Cloud, topic_arn: str, given: dict[str, Any]) -> str:
    return sns_topics.publish(
        cloud,
        topic_arn,
        given["Message"],
        subject=given.get("Subject"),
        attributes=given.get("MessageAttributes"),
        structure=given.get("MessageStructure"),
    )


def get_topic_attributes(cloud: Cloud, call: Call) -> dict[str, Any]:
    """moto's attributes with the signature version, which moto leaves out, and counts of subscriptions."""
    topic_arn = call.params["TopicArn"]
    sns_topics.require(cloud, call, "sns:GetTopicAttributes", topic_arn)
    topic = sns_topics.existing(topic_arn)
    confirmed = [each.confirmed for each in sns_topics.subscriptions(topic_arn)]
    found = {
        "TopicArn": topic.arn,
        "Owner": topic.account_id,
        "Policy": topic.policy,
        "DisplayName": topic.display_name,
        "SignatureVersion": sns_topics.signature_version(topic),
        "SubscriptionsConfirmed": str(sum(confirmed)),
        "SubscriptionsPending": str(len(confirmed) - sum(confirmed)),
        "SubscriptionsDeleted": "0",
        "DeliveryPolicy": topic.delivery_policy,
        "EffectiveDeliveryPolicy": topic.effective_delivery_policy,
    }
    if topic.kms_master_key_id:
        found["KmsMasterKeyId"] = topic.kms_master_key_id
    if topic.fifo_topic:
        found["FifoTopic"] = "true"
    return {"Attributes": {key: value for key, value in found.items() if value != ""}}
