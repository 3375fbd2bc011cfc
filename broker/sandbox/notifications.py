"""An identity's notification topics, which only version 1 of the SES API knows."""

import json
from typing import Any

from broker.sandbox import sns_topics
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError, invalid_parameter
from broker.sandbox.state import Identity

TYPES = ("Bounce", "Complaint", "Delivery")


def set_topic(cloud: Cloud, call: Call) -> dict[str, Any]:
    """An omitted or empty topic clears the setting. The topic must be one that SES may publish to."""
    identity, kind = _identity(cloud, call), _type(call)
    topic = call.params.get("SnsTopic")
    if not topic:
        identity.topics.pop(kind, None)
        return {}
    _check_topic(cloud, call, identity, topic)
    identity.topics[kind] = topic
    sns_topics.publish(cloud, topic, json.dumps(_greeting(identity, kind, topic)))
    return {}


def _greeting(identity: Identity, kind: str, topic: str) -> dict[str, str]:
    """What SES publishes first to a topic that an identity begins to use."""
    message = (
        f"You have successfully subscribed your Amazon SNS topic '{topic}' to receive '{kind}' notifications "
        f"from Amazon SES for identity '{identity.name}'."
    )
    return {"notificationType": "AmazonSnsSubscriptionSucceeded", "message": message}


def _check_topic(cloud: Cloud, call: Call, identity: Identity, topic_arn: str) -> None:
    topic = sns_topics.find(topic_arn)
    if topic is None or f":{call.region}:" not in topic_arn:
        raise invalid_parameter(f"SNS topic <{topic_arn}> is invalid. It must exist in Region {call.region}.")
    if topic.fifo_topic:
        raise invalid_parameter(f"SNS topic <{topic_arn}> is a FIFO topic. Only Standard topics are supported.")
    if not sns_topics.ses_may_publish(cloud, topic_arn, account_id=identity.account_id, source_arn=identity.arn):
        raise invalid_parameter(f"Unable to publish to SNS topic <{topic_arn}>: Amazon SES is not authorized.")


def set_headers(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Headers can only be asked for where a topic is set."""
    identity, kind = _identity(cloud, call), _type(call)
    if call.params["Enabled"] and kind not in identity.topics:
        raise invalid_parameter(f"No SNS topic is set for {kind} notifications of {identity.name}.")
    (identity.headers_in.add if call.params["Enabled"] else identity.headers_in.discard)(kind)
    return {}


def set_forwarding(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Forwarding by e-mail can only be switched off where both bounces and complaints have a topic."""
    identity = _identity(cloud, call)
    if not call.params["ForwardingEnabled"] and not {"Bounce", "Complaint"} <= identity.topics.keys():
        raise invalid_parameter(
            f"Identity <{identity.name}> must have both bounce and complaint topics to disable feedback forwarding."
        )
    identity.forwarding = call.params["ForwardingEnabled"]
    return {}


def get(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Unknown identities are just absent from the answer."""
    named = [name.rpartition(":identity/")[2] for name in call.params["Identities"]]
    found = ((name, cloud.state.identity((call.account_id, call.region), name)) for name in named)
    return {"NotificationAttributes": {name: _attributes(identity) for name, identity in found if identity}}


def _attributes(identity: Identity) -> dict[str, Any]:
    topics = {f"{kind}Topic": identity.topics.get(kind) for kind in TYPES}
    headers = {f"HeadersIn{kind}NotificationsEnabled": kind in identity.headers_in for kind in TYPES}
    return topics | {"ForwardingEnabled": identity.forwarding} | headers


def _identity(cloud: Cloud, call: Call) -> Identity:
    """Another account's identity, by ARN, can no longer be given a topic; only its owner sets them."""
    text = call.params["Identity"]
    own = not text.startswith("arn:") or f":{call.region}:{call.account_id}:" in text
    identity = cloud.state.identity((call.account_id, call.region), text.rpartition(":identity/")[2]) if own else None
    if identity is None:
        raise invalid_parameter(f"Identity {text} is invalid. Must be a verified email address or domain.")
    return identity


def _type(call: Call) -> str:
    kind = str(call.params["NotificationType"])
    if kind not in TYPES:
        raise AwsError("ValidationError", f"Value '{kind}' at 'notificationType' must be one of {', '.join(TYPES)}")
    return kind
