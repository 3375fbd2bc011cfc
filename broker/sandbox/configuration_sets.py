"""Configuration sets and their event destinations, in both versions of the SES API."""

import re
from collections.abc import Mapping
from typing import Any

from broker.sandbox import authorize, event_destinations, sns_topics
from broker.sandbox.arns import configuration_set_arn
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.state import ConfigurationSet

MAX_DESTINATIONS = 10
MAX_SETS = 10_000
VALIDATED = "Successfully validated SNS topic for Amazon SES event publishing."
"""The plain text that SES publishes to a topic that becomes an event destination."""


def create(cloud: Cloud, call: Call) -> dict[str, Any]:
    name = call.params.get("ConfigurationSetName") or call.params["ConfigurationSet"]["Name"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise AwsError(
            "BadRequestException" if call.api_version == "2" else "InvalidConfigurationSet", f"Bad name {name}"
        )
    if call.params.get("Tags"):
        authorize.require(cloud, call, "ses:TagResource", configuration_set_arn(call.account_id, call.region, name))
    _check_tls_policy(call.params.get("DeliveryOptions", {}))
    known = _known(cloud, call)
    with cloud.state.lock:
        if len(known) >= MAX_SETS:
            code = "LimitExceededException" if call.api_version == "2" else "LimitExceeded"
            raise AwsError(code, f"Maximum of {MAX_SETS} configuration sets reached.")
        if name in known:
            code = "AlreadyExistsException" if call.api_version == "2" else "ConfigurationSetAlreadyExists"
            raise AwsError(code, f"Configuration set <{name}> already exists.")
        known[name] = ConfigurationSet(name, dict(call.params))
    return {}


def put_delivery_options(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Sets what is given and clears what is left out."""
    given: dict[str, Any] = {
        name: call.params[name] for name in ("TlsPolicy", "SendingPoolName") if name in call.params
    }
    _check_tls_policy(given)
    _named(cloud, call).settings["DeliveryOptions"] = given
    return {}


def _check_tls_policy(options: Mapping[str, Any]) -> None:
    if options.get("TlsPolicy", "OPTIONAL") not in {"REQUIRE", "OPTIONAL"}:
        raise AwsError("BadRequestException", f"Invalid TLS policy <{options['TlsPolicy']}>.")


def describe(cloud: Cloud, call: Call) -> dict[str, Any]:
    return {"ConfigurationSetName": _named(cloud, call).name} | _named(cloud, call).settings


def describe_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    found = _named(cloud, call)
    return {
        "ConfigurationSet": {"Name": found.name},
        "EventDestinations": [_v1(each) for each in found.destinations.values()],
    }


def list_names(cloud: Cloud, call: Call) -> dict[str, Any]:
    return {"ConfigurationSets": sorted(_known(cloud, call))}


def list_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    return {"ConfigurationSets": [{"Name": name} for name in sorted(_known(cloud, call))]}


def delete(cloud: Cloud, call: Call) -> dict[str, Any]:
    del _known(cloud, call)[_named(cloud, call).name]
    return {}


def create_destination(cloud: Cloud, call: Call) -> dict[str, Any]:
    found, destination = _named(cloud, call), _destination(call)
    with cloud.state.lock:
        if destination["Name"] in found.destinations:
            code = "AlreadyExistsException" if call.api_version == "2" else "EventDestinationAlreadyExists"
            raise AwsError(code, f"Event destination <{destination['Name']}> already exists.")
        if len(found.destinations) >= MAX_DESTINATIONS:
            code = "LimitExceededException" if call.api_version == "2" else "LimitExceeded"
            raise AwsError(code, f"Maximum of {MAX_DESTINATIONS} event destinations reached.")
        event_destinations.check(cloud, call, found, destination)
        found.destinations[destination["Name"]] = destination
    _greet(cloud, destination)
    return {}


def update_destination(cloud: Cloud, call: Call) -> dict[str, Any]:
    found, destination = _named(cloud, call), _destination(call)
    with cloud.state.lock:
        _existing(call, found, destination["Name"])
        event_destinations.check(cloud, call, found, destination)
        found.destinations[destination["Name"]] = destination
    _greet(cloud, destination)
    return {}


def delete_destination(cloud: Cloud, call: Call) -> dict[str, Any]:
    found = _named(cloud, call)
    del found.destinations[_existing(call, found, call.params["EventDestinationName"])]
    return {}


def get_destinations(cloud: Cloud, call: Call) -> dict[str, Any]:
    return {"EventDestinations": list(_named(cloud, call).destinations.values())}


def _known(cloud: Cloud, call: Call) -> dict[str, ConfigurationSet]:
    return cloud.state.configuration_sets.setdefault((call.account_id, call.region), {})


def _named(cloud: Cloud, call: Call) -> ConfigurationSet:
    return cloud.state.configuration_set((call.account_id, call.region), call.params["ConfigurationSetName"])


def _existing(call: Call, found: ConfigurationSet, name: str) -> str:
    if name not in found.destinations:
        code = "NotFoundException" if call.api_version == "2" else "EventDestinationDoesNotExist"
        raise AwsError(code, f"Event destination <{name}> does not exist.")
    return name


def _destination(call: Call) -> dict[str, Any]:
    """The destination in the shape of version 2, whichever version the call speaks."""
    given = dict(call.params["EventDestination"])
    if call.api_version == "2":
        given |= {"Name": call.params["EventDestinationName"]}
    else:
        kinds = [re.sub(r"(?<!^)(?=[A-Z])", "_", kind).upper() for kind in given["MatchingEventTypes"]]
        given |= {"MatchingEventTypes": kinds, "SnsDestination": _renamed(given.pop("SNSDestination", None))}
        given = {key: value for key, value in given.items() if value is not None}
    return {"Enabled": False} | given


def _renamed(destination: dict[str, Any] | None) -> dict[str, Any] | None:
    return {"TopicArn": destination["TopicARN"]} if destination else None


def _v1(destination: dict[str, Any]) -> dict[str, Any]:
    words = [kind.lower().split("_") for kind in destination["MatchingEventTypes"]]
    kinds = [first + "".join(word.capitalize() for word in rest) for first, *rest in words]
    sns = destination.get("SnsDestination")
    found = {"Name": destination["Name"], "Enabled": destination["Enabled"], "MatchingEventTypes": kinds}
    return found | ({"SNSDestination": {"TopicARN": sns["TopicArn"]}} if sns else {})


def _greet(cloud: Cloud, destination: dict[str, Any]) -> None:
    if "SnsDestination" in destination:
        sns_topics.publish(cloud, destination["SnsDestination"]["TopicArn"], VALIDATED)
