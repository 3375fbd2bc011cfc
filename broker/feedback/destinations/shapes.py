"""Event destinations in SES's shape and in ours, and what is wrong with one that is asked for. Pure."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from broker.connections.permissions import PREFIX
from broker.errors import Conflict, Flaw, Invalid
from broker.feedback.destinations.views import (
    CloudWatch,
    DestinationChange,
    DestinationView,
    Dimension,
    DimensionSource,
    EventBridge,
    Firehose,
    Kind,
    NewDestination,
    Pinpoint,
    Sns,
)
from broker.feedback.set_rules import DESTINATION

# End of support notice on every page of the Amazon Pinpoint guides.
PINPOINT = (
    "AWS ended support for Amazon Pinpoint on October 30, 2026, so no Pinpoint destination can be made or changed: "
    "use eventbridge or firehose. One that is there can be kept or removed."
)
OURS = f"{DESTINATION} is the broker's own destination, which carries this route: remove the route instead."
TARGETS = {
    Kind.cloudwatch: "CloudWatchDestination",
    Kind.firehose: "KinesisFirehoseDestination",
    Kind.eventbridge: "EventBridgeDestination",
    Kind.sns: "SnsDestination",
    Kind.pinpoint: "PinpointDestination",
}

Target = CloudWatch | Firehose | EventBridge | Sns | Pinpoint


class Where(msgspec.Struct, frozen=True):
    """The configuration set that destinations are of."""

    partition: str
    region: str
    account_id: str
    name: str

    @property
    def bus_arn(self) -> str:
        return f"arn:{self.partition}:events:{self.region}:{self.account_id}:event-bus/default"


def where_is(set_arn: str) -> Where:
    """From the ARN of a configuration set."""
    _, partition, _, region, account_id, resource = set_arn.split(":", 5)
    return Where(partition, region, account_id, resource.partition("/")[2])


def asked(given: NewDestination | DestinationChange) -> dict[Kind, Target]:
    """The targets that are named."""
    named = {kind: getattr(given, kind.value) for kind in Kind}
    return {kind: target for kind, target in named.items() if target is not None}


def definition_of(wanted: NewDestination, where: Where) -> dict[str, Any]:
    """What to ask SES for; `Invalid` with the field, `Conflict` for our own name."""
    if wanted.name == DESTINATION:
        raise Conflict(OURS)
    targets = asked(wanted)
    if len(targets) != 1:
        detail = "Name exactly one of cloudwatch, firehose, eventbridge and sns."
        raise Invalid(detail, flaws=(Flaw("", detail),))
    return _common(wanted.event_types, enabled=wanted.enabled) | _target(targets, where)


def changed(held: Mapping[str, Any], change: DestinationChange, where: Where) -> dict[str, Any]:
    """What to ask SES for where `held` is what it has; `Invalid` with the field, `Conflict` for what must stay."""
    if held["Name"] == DESTINATION:
        raise Conflict(OURS)
    if TARGETS[Kind.pinpoint] in held:
        raise Conflict(PINPOINT)
    targets = asked(change)
    if len(targets) > 1:
        detail = "Name at most one of cloudwatch, firehose, eventbridge and sns."
        raise Invalid(detail, flaws=(Flaw("", detail),))
    types = held["MatchingEventTypes"] if change.event_types is None else change.event_types
    enabled = bool(held.get("Enabled")) if change.enabled is None else change.enabled
    kept = {name: held[name] for name in TARGETS.values() if name in held}
    return _common(types, enabled=enabled) | (_target(targets, where) if targets else kept)


def _common(types: tuple[str, ...] | list[str], *, enabled: bool) -> dict[str, Any]:
    return {"Enabled": enabled, "MatchingEventTypes": [str(each).upper() for each in dict.fromkeys(types)]}


def _target(targets: Mapping[Kind, Target], where: Where) -> dict[str, Any]:
    ((kind, target),) = targets.items()
    flaws = tuple(Flaw(f"/{kind.value}{pointer}", detail) for pointer, detail in _flaws(target, where))
    if flaws:
        raise Invalid(" ".join(flaw.detail for flaw in flaws), flaws=flaws)
    return {TARGETS[kind]: _as_ses(target, where)}


def _as_ses(target: Target, where: Where) -> dict[str, Any]:
    match target:
        case CloudWatch():
            return {"DimensionConfigurations": [_dimension(each) for each in target.dimensions]}
        case Firehose():
            return {"IamRoleArn": target.role_arn, "DeliveryStreamArn": target.stream_arn}
        case EventBridge():
            return {"EventBusArn": where.bus_arn}
        case Sns():
            return {"TopicArn": target.topic_arn}
        case Pinpoint():
            return {"ApplicationArn": target.application_arn}


def _dimension(given: Dimension) -> dict[str, str]:
    return {
        "DimensionName": given.name,
        "DimensionValueSource": given.source.upper(),
        "DefaultDimensionValue": given.default,
    }


def _flaws(target: Target, where: Where) -> list[tuple[str, str]]:
    """Pointers below the target and sentences."""
    place = f"{where.region}:{where.account_id}"
    match target:
        case CloudWatch():
            names = [each.name for each in target.dimensions]
            return [] if len(set(names)) == len(names) else [("/dimensions", "Each dimension's name must be unique.")]
        case Firehose():
            role = rf"arn:{where.partition}:iam::{where.account_id}:role/{PREFIX}[\w+=,.@-]{{1,46}}"
            stream = rf"arn:{where.partition}:firehose:{place}:deliverystream/[A-Za-z0-9_.-]{{1,64}}"
            return _unless(
                role, target.role_arn, "/role_arn", f"a role of account {where.account_id} named {PREFIX}…"
            ) + _unless(
                stream,
                target.stream_arn,
                "/stream_arn",
                f"a Data Firehose stream of account {where.account_id} in {where.region}",
            )
        case EventBridge():
            known = target.bus_arn in (None, where.bus_arn)
            return [] if known else [("/bus_arn", f"SES supports the default bus only: {where.bus_arn}.")]
        case Sns():
            if target.topic_arn.endswith(f":{where.name}"):
                return [("/topic_arn", "This is the broker's own topic, which hears all events already.")]
            topic = rf"arn:{where.partition}:sns:{place}:[A-Za-z0-9_-]{{1,256}}"
            wanted = f"a standard SNS topic of account {where.account_id} in {where.region}"
            return _unless(topic, target.topic_arn, "/topic_arn", wanted)
        case Pinpoint():
            return [("", PINPOINT)]


def _unless(pattern: str, value: str, pointer: str, wanted: str) -> list[tuple[str, str]]:
    fits = re.fullmatch(pattern, value, re.ASCII)
    return [] if fits else [(pointer, f"Must be the ARN of {wanted}.")]


def shown(held: Mapping[str, Any]) -> DestinationView | None:
    """A destination of SES's as we show it; None for a kind that is newer than we are."""
    kind = next((kind for kind, name in TARGETS.items() if name in held), None)
    if kind is None:
        return None
    return DestinationView(
        name=held["Name"],
        kind=kind,
        enabled=bool(held.get("Enabled")),
        event_types=[each.lower() for each in held.get("MatchingEventTypes", ())],
        ours=held["Name"] == DESTINATION,
        note=PINPOINT if kind is Kind.pinpoint else OURS if held["Name"] == DESTINATION else None,
        **{kind.value: _READERS[kind](held[TARGETS[kind]])},
    )


def _read_cloudwatch(target: Mapping[str, Any]) -> CloudWatch:
    dimensions = target.get("DimensionConfigurations", ())
    return CloudWatch(
        tuple(
            Dimension(
                each["DimensionName"],
                DimensionSource(each["DimensionValueSource"].lower()),
                each["DefaultDimensionValue"],
            )
            for each in dimensions
        )
    )


_READERS: Mapping[Kind, Callable[[Mapping[str, Any]], Any]] = MappingProxyType(
    {
        Kind.cloudwatch: _read_cloudwatch,
        Kind.firehose: lambda target: Firehose(target["IamRoleArn"], target["DeliveryStreamArn"]),
        Kind.eventbridge: lambda target: EventBridge(target["EventBusArn"]),
        Kind.sns: lambda target: Sns(target["TopicArn"]),
        Kind.pinpoint: lambda target: Pinpoint(target.get("ApplicationArn", "")),
    }
)
