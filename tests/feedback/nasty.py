"""Malformed payloads: a table of mutations of the guide's examples, and some made by hand."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from tests.feedback.guide import EXAMPLES, READER

LONG = "a" * 1_000_000
Mutation = Callable[[dict[str, Any]], Any]


def _details(payload: dict[str, Any]) -> str:
    return next(name for name in payload if name not in {"eventType", "notificationType", "mail"})


def _everywhere(value: Any) -> Mutation:
    """Every leaf is this value."""

    def mutate(payload: dict[str, Any]) -> Any:
        def walk(node: Any) -> Any:
            if isinstance(node, dict):
                return {name: walk(each) for name, each in node.items()}
            return [walk(each) for each in node] if isinstance(node, list) else value

        return walk(payload) | {name: payload[name] for name in ("eventType", "notificationType") if name in payload}

    return mutate


def _mail(**changes: Any) -> Mutation:
    return lambda payload: payload | {"mail": payload["mail"] | changes}


def _detail(value: Any) -> Mutation:
    return lambda payload: payload | {_details(payload): value}


def _recipients(value: Any) -> Mutation:
    """Every list of the details is this."""

    def mutate(payload: dict[str, Any]) -> Any:
        name = _details(payload)
        told = {key: value if isinstance(each, list) else each for key, each in payload[name].items()}
        return payload | {name: told}

    return mutate


MUTATIONS: dict[str, Mutation] = {
    "lists where text belongs": _everywhere(["x"]),
    "numbers where text belongs": _everywhere(-1e308),
    "objects where text belongs": _everywhere({"a": {"b": []}}),
    "null everywhere": _everywhere(None),
    "truth everywhere": _everywhere(True),
    "empty texts": _everywhere(""),
    "NUL in every text": _everywhere("a\0@b"),
    "a mail that is text": lambda payload: payload | {"mail": "mail"},
    "no message id": _mail(messageId=None),
    "an impossible time": _mail(timestamp="2026-13-45T99:99:99Z"),
    "a time of the first day": _mail(timestamp="0001-01-01T00:00:00+23:59"),
    "a time of the last day": _mail(timestamp="9999-12-31T23:59:59-23:59"),
    "headers that are numbers": _mail(headers=[1, None, [], {"name": 7, "value": {}}], commonHeaders=[[], "x"]),
    "RFC 2047 without an end": _mail(source="=?utf-8?B?" + "4" * 5000, destination=["=?x?Q?=?= <<>", "<a@b", ">c@d<"]),
    "tags that are odd": _mail(tags={"": [""], "a": None, "b": {"c": 1}, "ses:configuration-set": [["x"]]}),
    "details that are a list": _detail([{}]),
    "details that are missing": _detail(None),
    "recipients that are odd": _recipients(
        [None, 7, [], {}, {"emailAddress": ["x"]}, "\u202e <>", {"emailAddress": {}}]
    ),
    "too many recipients": _recipients([{"emailAddress": "a@b", "topicName": "t"}] * 20_000),
}


def _deep(depth: int, inner: str = "1") -> str:
    return '{"a":' * depth + inner + "}" * depth


_MAIL = json.dumps(EXAMPLES["E bounce"][0]["mail"])
BY_HAND: dict[str, str] = {
    "nothing": "",
    "blanks": " " * 1_000_000,
    "a long text": LONG,
    "a lone bracket": "{",
    "nested lists": "[" * 200_000,
    "nested objects": _deep(100_000),
    "nested just so deep": f'{{"eventType":"New","mail":{_MAIL},"new":{_deep(900)}}}',
    "nested deep in the mail": f'{{"eventType":"Send","mail":{{"x":{_deep(900)}}}}}',
    "a number": "1" * 4000,
    "a huge number": f'{{"eventType":"Delivery","mail":{_MAIL},"delivery":{{"processingTimeMillis":{"9" * 400}}}}}',
    "a huge exponent": f'{{"eventType":"Delivery","mail":{_MAIL},"delivery":{{"processingTimeMillis":1e999}}}}',
    "not a number": f'{{"eventType":"Delivery","mail":{_MAIL},"delivery":{{"processingTimeMillis":NaN}}}}',
    "infinity": '{"eventType":-Infinity}',
    "a key twice": f'{{"eventType":"Send","eventType":"Bounce","mail":{_MAIL},"mail":{_MAIL},"send":{{}}}}',
    "half a character": f'{{"eventType":"Send\\ud800","mail":{_MAIL}}}',
    "half a character that is meant": '{"eventType":"\ud800"}',
    "a byte order mark": "\ufeff{}",
    "NUL before it": "\0{}",
    "a long type": json.dumps({"eventType": LONG, "mail": EXAMPLES["E send"][0]["mail"]}),
    "a long time": json.dumps(
        {"eventType": "Send", "mail": {"messageId": "m", "timestamp": "2026" + " " * 900_000 + "x"}}
    ),
    "a long address": json.dumps(
        {"eventType": "Send", "mail": EXAMPLES["E send"][0]["mail"] | {"destination": ["<" * 500_000 + READER]}}
    ),
    "a long name of a type in an address": json.dumps(
        {
            "eventType": "Bounce",
            "mail": EXAMPLES["E send"][0]["mail"],
            "bounce": {"bouncedRecipients": [{"emailAddress": READER, "diagnosticCode": "x-" + "a-" * 400_000}]},
        }
    ),
    "many tags": json.dumps(
        {"eventType": "Send", "mail": EXAMPLES["E send"][0]["mail"] | {"tags": {f"t{n}": ["v"] for n in range(60_000)}}}
    ),
    "many headers": json.dumps(
        {
            "eventType": "Send",
            "mail": EXAMPLES["E send"][0]["mail"] | {"headers": [{"name": "From", "value": "a"}] * 20_000},
        }
    ),
    "many destinations": json.dumps(
        {
            "eventType": "Send",
            "mail": EXAMPLES["E send"][0]["mail"] | {"destination": [f"r{n}@b" for n in range(50_000)]},
        }
    ),
    "many link tags": json.dumps(
        {
            "eventType": "Click",
            "mail": EXAMPLES["E send"][0]["mail"],
            "click": {"linkTags": {f"t{n}": "v" for n in range(60_000)}},
        }
    ),
    "many unknown things": json.dumps(
        {"eventType": "New", "mail": EXAMPLES["E send"][0]["mail"]}
        | {f"k{n}": {"timestamp": "x"} for n in range(20_000)}
    ),
}


def malformed() -> Iterator[tuple[str, str]]:
    """Name and text of each."""
    for example, (payload, *_) in EXAMPLES.items():
        for name, mutate in MUTATIONS.items():
            yield f"{name}: {example}", json.dumps(mutate(deepcopy(payload)))
    yield from BY_HAND.items()
