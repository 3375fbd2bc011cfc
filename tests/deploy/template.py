"""Reads deploy/aws/broker.yaml as CloudFormation does, as far as it is used there."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).parents[2] / "deploy" / "aws" / "broker.yaml"
NO_VALUE = {"Ref": "AWS::NoValue"}


# With CloudFormation's short forms: `!Sub x` is `{"Fn::Sub": x}`.
_Loader: Any = type("_Loader", (yaml.SafeLoader,), {})


def _short(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short)


def load() -> dict[str, Any]:
    """The template as JSON would have it."""
    loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader=_Loader)  # noqa: S506 — a safe loader of our own
    return loaded


class Stack:
    """The resources of a stack with these parameters; a queue's Ref is its URL below `queues_url`."""

    def __init__(self, *, account_id: str, region: str, queues_url: str = "https://sqs", **given: Any) -> None:
        self._template = load()
        self._account_id, self._queues_url = account_id, queues_url
        defaults = {name: each["Default"] for name, each in self._template["Parameters"].items()}
        lists = {n for n, each in self._template["Parameters"].items() if each["Type"] == "CommaDelimitedList"}
        self._values = {
            "AWS::AccountId": account_id,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            **{name: value.split(",") if name in lists else value for name, value in (defaults | given).items()},
        }

    @property
    def resources(self) -> dict[str, Any]:
        """Those whose condition holds, with all functions worked out."""
        made = self._template["Resources"].items()
        return {name: self.worked_out(each) for name, each in made if self._holds(each.get("Condition"))}

    @property
    def outputs(self) -> dict[str, Any]:
        made = self._template["Outputs"].items()
        return {name: self.worked_out(each["Value"]) for name, each in made if self._holds(each.get("Condition"))}

    def worked_out(self, value: Any) -> Any:
        """The value without functions; entries that come to `AWS::NoValue` are left out."""
        if isinstance(value, list):
            return [self.worked_out(each) for each in value if not self._is_nothing(each)]
        if not isinstance(value, dict):
            return value
        match list(value.items()):
            case [("Ref", name)]:
                return self._ref(name)
            case [("Fn::Sub", text)]:
                return re.sub(r"\$\{([^}]+)\}", lambda found: str(self._ref(found[1])), text)
            case [("Fn::GetAtt", [name, attribute])]:
                return self._attribute(name, attribute)
            case [("Fn::If", [name, yes, no])]:
                return self.worked_out(yes if self._holds(name) else no)
            case _:
                return {key: self.worked_out(each) for key, each in value.items() if not self._is_nothing(each)}

    def _is_nothing(self, value: Any) -> bool:
        if isinstance(value, Mapping) and list(value) == ["Fn::If"]:
            name, yes, no = value["Fn::If"]
            return self._is_nothing(yes if self._holds(name) else no)
        return bool(value == NO_VALUE)

    def _holds(self, name: str | None) -> bool:
        return name is None or self._truth(self._template["Conditions"][name])

    def _truth(self, condition: Any) -> bool:
        match list(condition.items()):
            case [("Fn::Not", [inner])]:
                return not self._truth(inner)
            case [("Fn::Equals", [one, other])]:
                return bool(self._joined(one) == self._joined(other))
        raise AssertionError(condition)

    def _joined(self, value: Any) -> Any:
        if isinstance(value, Mapping) and list(value) == ["Fn::Join"]:
            return value["Fn::Join"][0].join(self.worked_out(value["Fn::Join"][1]))
        return self.worked_out(value)

    def _ref(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if self._template["Resources"][name]["Type"] == "AWS::SQS::Queue":
            return f"{self._queues_url}/{self._account_id}/{self._attribute(name, 'QueueName')}"
        return name

    def _attribute(self, name: str, attribute: str) -> str:
        queue = self._template["Resources"][name]["Properties"]["QueueName"]
        found: dict[str, str] = {
            "QueueName": queue,
            "Arn": f"arn:aws:sqs:{self._values['AWS::Region']}:{self._account_id}:{queue}",
        }
        return found[attribute]
