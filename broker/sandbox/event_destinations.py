"""The kinds of event destinations: what SES demands of each, and how an event reaches it."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import msgspec

from broker.sandbox import arns, authorize, iam_policy, payloads, sns_topics
from broker.sandbox.accounts import role_named
from broker.sandbox.arns import configuration_set_arn
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.payloads import Kind, Sent, stamp
from broker.sandbox.state import ConfigurationSet, Published

EVENT_TYPES = frozenset(payloads.MATCHING_TYPES.values())

_SOURCES = frozenset({"MESSAGE_TAG", "EMAIL_HEADER", "LINK_TAG"})


def check(cloud: Cloud, call: Call, found: ConfigurationSet, destination: dict[str, Any]) -> None:
    """Raises AwsError in SES's words unless there is exactly one target, and one that SES could publish to."""
    given = [kind for kind in _CHECKS if kind in destination]
    if len(given) != 1:
        raise AwsError("BadRequestException", "Exactly one destination must be given.")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", destination["Name"]):
        raise _invalid(call, "InvalidParameterValue", f"Invalid event destination name <{destination['Name']}>.")
    kinds = destination.get("MatchingEventTypes") or []
    if not kinds or not EVENT_TYPES.issuperset(kinds):
        raise _invalid(call, "InvalidParameterValue", "Matching event types must be given and be known.")
    _CHECKS[given[0]](cloud, call, found, destination[given[0]])


def _invalid(call: Call, v1_code: str, message: str) -> AwsError:
    return AwsError("BadRequestException" if call.api_version == "2" else v1_code, message)


def _check_sns(cloud: Cloud, call: Call, found: ConfigurationSet, target: Mapping[str, Any]) -> None:
    """A topic must exist in this Region and let SES publish for this configuration set."""
    topic = target["TopicArn"]
    source = configuration_set_arn(call.account_id, call.region, found.name)
    there = sns_topics.find(topic) if arns.parse(topic).region == call.region else None
    publishable = there is not None and not there.fifo_topic
    if not publishable or not sns_topics.ses_may_publish(cloud, topic, account_id=call.account_id, source_arn=source):
        raise _invalid(call, "InvalidSNSDestination", f"Could not publish to SNS topic <{topic}>.")


def _check_cloudwatch(_cloud: Cloud, call: Call, _found: ConfigurationSet, target: Mapping[str, Any]) -> None:
    """SES API v2, CloudWatchDimensionConfiguration: letters, digits, `_`, `-`; in defaults also `@` and `.`; 256."""
    dimensions = target.get("DimensionConfigurations") or []
    names = [each.get("DimensionName", "") for each in dimensions]
    for each in dimensions:
        name, default = each.get("DimensionName", ""), each.get("DefaultDimensionValue", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", name):
            raise _invalid(call, "InvalidCloudWatchDestination", f"Dimension name <{name}> is invalid.")
        if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,256}", default):
            raise _invalid(call, "InvalidCloudWatchDestination", f"Default dimension value <{default}> is invalid.")
        if each.get("DimensionValueSource") not in _SOURCES:
            raise _invalid(call, "InvalidCloudWatchDestination", "Dimension value source is invalid.")
    if not dimensions or len(dimensions) > 10 or len(set(names)) < len(names):
        raise _invalid(
            call, "InvalidCloudWatchDestination", "Between 1 and 10 dimensions with unique names are needed."
        )


def _check_firehose(cloud: Cloud, call: Call, found: ConfigurationSet, target: Mapping[str, Any]) -> None:
    """The caller must be allowed to pass the role to SES, and the role must trust SES."""
    role, stream = target["IamRoleArn"], arns.parse(target["DeliveryStreamArn"])
    kind = stream.resource.partition("/")[0]
    own = (stream.service, stream.region, stream.account_id, kind)
    if own != ("firehose", call.region, call.account_id, "deliverystream"):
        raise _invalid(call, "InvalidFirehoseDestination", f"Invalid Firehose delivery stream ARN <{stream}>.")
    passed = {"iam:PassedToService": "ses.amazonaws.com"}
    if authorize.decision(cloud, call, "iam:PassRole", role, passed) != "allow":
        raise authorize.denied(call, "iam:PassRole", role)
    held = role_named(role) if arns.parse(role).account_id == call.account_id else None
    if held is None or not _trusts_ses(held, call, found.name):
        raise _invalid(call, "InvalidFirehoseDestination", f"Could not assume IAM role <{role}>.")


def _trusts_ses(role: Any, call: Call, name: str) -> bool:
    """With the keys of SES's own examples (Developer Guide, event-publishing-add-event-destination-firehose)."""
    source = configuration_set_arn(call.account_id, call.region, name)
    account = (call.account_id,)
    keys = {"aws:sourceaccount": account, "aws:sourcearn": (source,), "sts:externalid": account}
    trust = role.assume_role_policy_document
    who = iam_policy.service(sns_topics.SES)
    return iam_policy.decide([trust], "sts:AssumeRole", role.arn, caller=who, keys=keys) == "allow"


def _check_eventbridge(_cloud: Cloud, call: Call, _found: ConfigurationSet, target: Mapping[str, Any]) -> None:
    """Only the default bus of the same account and Region (SES API v2, EventBridgeDestination)."""
    partition = arns.partition_of(call.region)
    if target["EventBusArn"] != f"arn:{partition}:events:{call.region}:{call.account_id}:event-bus/default":
        raise _invalid(call, "InvalidParameterValue", "Only the default event bus is supported.")


def _check_pinpoint(_cloud: Cloud, call: Call, _found: ConfigurationSet, target: Mapping[str, Any]) -> None:
    """Still taken here, so that there are old ones to be found; what SES says of new ones today is not known."""
    application = arns.parse(target.get("ApplicationArn", ""))
    if (application.service, application.account_id) != ("mobiletargeting", call.account_id):
        raise _invalid(call, "InvalidParameterValue", f"Invalid Pinpoint application ARN <{application}>.")


_Check = Callable[[Cloud, Call, ConfigurationSet, Mapping[str, Any]], None]
_CHECKS: Mapping[str, _Check] = MappingProxyType(
    {
        "KinesisFirehoseDestination": _check_firehose,
        "CloudWatchDestination": _check_cloudwatch,
        "SnsDestination": _check_sns,
        "EventBridgeDestination": _check_eventbridge,
        "PinpointDestination": _check_pinpoint,
    }
)


class Happening(msgspec.Struct, frozen=True):
    """One event of a message that was sent through a configuration set."""

    kind: Kind
    sent: Sent
    details: dict[str, Any]
    region: str
    name: str
    at: datetime

    @property
    def set_arn(self) -> str:
        return configuration_set_arn(self.sent.account_id, self.region, self.name)

    @property
    def record(self) -> dict[str, Any]:
        return payloads.event(self.kind, self.sent, self.details)


def publish(cloud: Cloud, event: Happening, *, copies: int = 1) -> list[str]:
    """To every destination of the set that wants such events; the topics that had it."""
    found = cloud.state.configuration_sets.get((event.sent.account_id, event.region), {}).get(event.name)
    wanted = payloads.matching_type(event.kind)
    told = []
    for destination in list(found.destinations.values()) if found else []:
        if not destination["Enabled"] or wanted not in destination["MatchingEventTypes"]:
            continue
        if "SnsDestination" in destination:
            told += _to_topic(cloud, event, destination["SnsDestination"]["TopicArn"], copies=copies)
        else:
            _keep(cloud, event, destination)
    return told


def _to_topic(cloud: Cloud, event: Happening, topic: str, *, copies: int) -> list[str]:
    """Without the topic's leave the event is lost, and the destination stays."""
    account_id = event.sent.account_id
    if not sns_topics.ses_may_publish(cloud, topic, account_id=account_id, source_arn=event.set_arn):
        return []
    sns_topics.publish(cloud, topic, json.dumps(event.record), copies=copies)
    return [topic]


def _keep(cloud: Cloud, event: Happening, destination: Mapping[str, Any]) -> None:
    """There are no CloudWatch, Firehose and the rest here: what they would have got is kept for the control API."""
    kind = next(kind for kind in _CHECKS if kind in destination)
    target = destination[kind]
    body: dict[str, Any] = event.record
    if kind == "CloudWatchDestination":
        body = {"metric": event.kind, "dimensions": _dimensions(event, target["DimensionConfigurations"])}
    elif kind == "EventBridgeDestination":
        body = _on_bus(event)
    where = target.get("DeliveryStreamArn") or target.get("EventBusArn") or target.get("ApplicationArn") or "CloudWatch"
    kept = Published(event.sent.account_id, event.region, event.name, destination["Name"], kind, where, body)
    with cloud.state.lock:
        cloud.state.published.append(kept)


def _dimensions(event: Happening, wanted: list[dict[str, str]]) -> dict[str, str]:
    """The value from a message tag, a header or a link tag, else the default."""
    record, details = event.record, event.details
    sources: dict[str, dict[str, Any]] = {
        "MESSAGE_TAG": {name: values[0] for name, values in record["mail"]["tags"].items() if values},
        "EMAIL_HEADER": {each["name"].lower(): each["value"] for each in record["mail"]["headers"]},
        "LINK_TAG": {name: values[0] for name, values in (details.get("linkTags") or {}).items() if values},
    }
    found = {}
    for each in wanted:
        name, source = each["DimensionName"], each["DimensionValueSource"]
        key = name.lower() if source == "EMAIL_HEADER" else name
        found[name] = str(sources[source].get(key, each["DefaultDimensionValue"]))
    return found


_DETAIL_TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        "Send": "Email Sent",
        "Reject": "Email Rejected",
        "Bounce": "Email Bounced",
        "Complaint": "Email Complaint Received",
        "Delivery": "Email Delivered",
        "Open": "Email Opened",
        "Click": "Email Clicked",
        "Rendering Failure": "Email Rendering Failed",
        "DeliveryDelay": "Email Delivery Delayed",
        "Subscription": "Email Subscribed",
    }
)


def _on_bus(event: Happening) -> dict[str, Any]:
    """The envelope of EventBridge around SES's record (Developer Guide, monitoring-eventbridge)."""
    return {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": _DETAIL_TYPES[event.kind],
        "source": "aws.ses",
        "account": event.sent.account_id,
        "time": stamp(event.at),
        "region": event.region,
        "resources": [event.set_arn],
        "detail": event.record,
    }
