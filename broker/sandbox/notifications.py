"""An identity's notification topics, which only version 1 of the SES API knows."""

import json
from typing import Any, Literal, get_args

from broker.sandbox import arns, sns_topics
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError, invalid_parameter
from broker.sandbox.state import Identity, Legacy

Type = Literal["Bounce", "Complaint", "Delivery"]
TYPES: tuple[str, ...] = get_args(Type)
_UNREACHABLE = {"Bounce", "Complaint"}
"""Types of which SES always tells somebody: by a topic or by e-mail."""


def set_topic(cloud: Cloud, call: Call) -> dict[str, Any]:
    """An omitted or empty topic clears the setting. The topic must be one that SES may publish to."""
    settings, kind = _settings(cloud, call), _type(call)
    topic = call.params.get("SnsTopic")
    if not topic:
        _clear(cloud, settings, kind)
        return {}
    if isinstance(settings, Legacy) and kind not in settings.topics:
        raise _not_ours(call)
    _check_topic(cloud, call, _publisher(call, settings), topic)
    settings.topics[kind] = topic
    sns_topics.publish(cloud, topic, json.dumps(_greeting(call.params["Identity"], kind, topic)))
    return {}


def attach_legacy(
    cloud: Cloud, account_id: str, identity_arn: str, topics: dict[Type, str], headers_in: set[Type]
) -> None:
    """What no call of SES does any more (Developer Guide, sending-authorization). Raises AwsError."""
    identity = cloud.state.at(identity_arn)
    if identity is None or identity.account_id == account_id:
        raise invalid_parameter(f"Identity {identity_arn} must be another account's.")
    made = Legacy(
        identity.arn, {str(kind): topic for kind, topic in topics.items()}, {str(kind) for kind in headers_in}
    )
    cloud.state.legacy[account_id, identity.arn] = made


def _greeting(identity: str, kind: str, topic: str) -> dict[str, str]:
    """What SES publishes first to a topic that an identity begins to use."""
    name = identity.rpartition(":identity/")[2]
    message = (
        f"You have successfully subscribed your Amazon SNS topic '{topic}' to receive '{kind}' notifications "
        f"from Amazon SES for identity '{name}'."
    )
    return {"notificationType": "AmazonSnsSubscriptionSucceeded", "message": message}


def _clear(cloud: Cloud, settings: Identity | Legacy, kind: str) -> None:
    """SES wants to be able to tell of bounces and complaints; what it does about it is not documented."""
    if isinstance(settings, Identity) and not settings.forwarding and kind in _UNREACHABLE & settings.topics.keys():
        if cloud.dialect.clearing_without_forwarding == "refused":
            raise invalid_parameter(
                f"Identity <{settings.name}> must have feedback forwarding enabled to clear its {kind} topic."
            )
        settings.forwarding = True
    settings.topics.pop(kind, None)


def _publisher(call: Call, settings: Identity | Legacy) -> tuple[str, str]:
    """On whose behalf and for which identity SES publishes to a topic."""
    if isinstance(settings, Legacy):
        return call.account_id, settings.identity_arn
    return settings.account_id, settings.arn


def _check_topic(cloud: Cloud, call: Call, publisher: tuple[str, str], topic_arn: str) -> None:
    topic = sns_topics.find(topic_arn)
    if topic is None or f":{call.region}:" not in topic_arn:
        raise invalid_parameter(f"SNS topic <{topic_arn}> is invalid. It must exist in Region {call.region}.")
    if topic.fifo_topic:
        raise invalid_parameter(f"SNS topic <{topic_arn}> is a FIFO topic. Only Standard topics are supported.")
    if not sns_topics.ses_may_publish(cloud, topic_arn, account_id=publisher[0], source_arn=publisher[1]):
        raise invalid_parameter(f"Unable to publish to SNS topic <{topic_arn}>: Amazon SES is not authorized.")


def set_headers(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Headers can only be asked for where a topic is set."""
    settings, kind = _settings(cloud, call), _type(call)
    if call.params["Enabled"] and kind not in settings.topics:
        raise invalid_parameter(f"No SNS topic is set for {kind} notifications of {call.params['Identity']}.")
    (settings.headers_in.add if call.params["Enabled"] else settings.headers_in.discard)(kind)
    return {}


def set_forwarding(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Forwarding by e-mail can only be switched off where both bounces and complaints have a topic, by the owner."""
    identity = _settings(cloud, call)
    if isinstance(identity, Legacy):
        raise _not_ours(call)
    if not call.params["ForwardingEnabled"] and not identity.topics.keys() >= _UNREACHABLE:
        raise invalid_parameter(
            f"Identity <{identity.name}> must have both bounce and complaint topics to disable feedback forwarding."
        )
    identity.forwarding = call.params["ForwardingEnabled"]
    return {}


def get(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Unknown identities are just absent from the answer; another account's are there where they have old settings."""
    found: dict[str, Any] = {}
    for name in call.params["Identities"]:
        if settings := _found(cloud, call, name):
            found[name if isinstance(settings, Legacy) else settings.name] = _attributes(settings)
    return {"NotificationAttributes": found}


def _attributes(settings: Identity | Legacy) -> dict[str, Any]:
    topics = {f"{kind}Topic": settings.topics.get(kind) for kind in TYPES}
    headers = {f"HeadersIn{kind}NotificationsEnabled": kind in settings.headers_in for kind in TYPES}
    forwarding = isinstance(settings, Legacy) or settings.forwarding
    return topics | {"ForwardingEnabled": forwarding} | headers


def _settings(cloud: Cloud, call: Call) -> Identity | Legacy:
    """Another account's identity, by ARN, can no longer be given a topic; what was attached long ago is still there."""
    if (found := _found(cloud, call, call.params["Identity"])) is None:
        raise _not_ours(call)
    return found


def _found(cloud: Cloud, call: Call, named: str) -> Identity | Legacy | None:
    if not named.startswith("arn:"):
        return cloud.state.identity((call.account_id, call.region), named)
    arn = arns.parse(named)
    if arn.region != call.region:
        return None
    return (
        cloud.state.at(named) if arn.account_id == call.account_id else cloud.state.legacy.get((call.account_id, named))
    )


def _not_ours(call: Call) -> AwsError:
    return invalid_parameter(
        f"Identity {call.params['Identity']} is invalid. Must be a verified email address or domain."
    )


def _type(call: Call) -> str:
    kind = str(call.params["NotificationType"])
    if kind not in TYPES:
        raise AwsError("ValidationError", f"Value '{kind}' at 'notificationType' must be one of {', '.join(TYPES)}")
    return kind
