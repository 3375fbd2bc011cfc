"""No document, whoever wrote it, makes reading or deciding slow: the bar is 100 ms of processor time."""

import json
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest

from broker.policies.document import MAX_READ, DocumentError, read, read_any
from broker.policies.evaluate import Decision, evaluate
from broker.policies.wildcards import matches
from tests.own_time import own_time
from tests.policies.examples import IDENTITY, SEND, SESSION, Json, policy

AT_ONCE = 0.3  # seconds of processor time; 0.1 is the bar, and a shared machine may be three times slower


def many(kind: str, values: list[str], key: str = "ses:FromAddress") -> str:
    """A document as long as any that is read, with as many of these values as fit."""
    kept: list[Json] = []
    room = MAX_READ - 400
    for value in values:
        room -= len(json.dumps(value)) + 2
        if room < 0:
            break
        kept.append(value)
    return policy(Condition={kind: {key: kept}})


def statements(one: dict[str, Json]) -> str:
    """As many of this statement as fit."""
    return json.dumps({"Version": "2012-10-17", "Statement": [one] * ((MAX_READ - 100) // (len(json.dumps(one)) + 2))})


SENT = msgspec.structs.replace(
    SEND,
    caller_account=None,
    caller_arn=SESSION,
    recipients=[f"recipient.{number}@example.org" for number in range(50)],
)
ANY: dict[str, Json] = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
SETS, KINDS = ("ForAllValues", "ForAnyValue"), ("Like", "LikeIfExists")
NUMBERS = range(100_000)
LETTERS = "abcdefghijklmnopqrstuvwxyz"

SLOW = {
    "stars and one letter": many("StringLike", ["*e" * 5_000 + "b"]),
    "stars and question marks": many("StringLike", ["*?e" * 2_000 + "b"] * 3),
    "thousands of patterns": many("StringLike", [f"*{number}*b" for number in NUMBERS]),
    "thousands of patterns with gaps": many(
        "StringLike", [f"*?{letter}?{number}*" for number in NUMBERS for letter in LETTERS]
    ),
    "thousands of the same with gaps": many("StringLike", [f"*{letter}?*x" for letter in LETTERS] * 1_000),
    "variables": many("StringLike", ["${aws:username}" * 10 + f"{number}" for number in NUMBERS]),
    "variables that nest": many("StringEquals", ["${${${" * 1_000 + "}}}" * 1_000]),
    "networks": many(
        "IpAddress", [f"{number % 250}.{number // 250}.0.0/16" for number in range(250, 10_000)], "aws:SourceIp"
    ),
    "networks of IPv6": many("IpAddress", [f"{number:x}::/32" for number in range(1, 65_000)], "aws:SourceIp"),
    "dates": many("DateEquals", [f"{number}-01-01" for number in range(1000, 9999)], "aws:CurrentTime"),
    "numbers": many("NumericEquals", [f"{number}e999" for number in NUMBERS], "aws:EpochTime"),
    "ARNs": many("ArnLike", ["*:" * 5 + f"*{number}" for number in NUMBERS], "aws:PrincipalArn"),
    "statements": statements(ANY | {"Effect": "Deny", "Action": "*?*x"}),
    "statements about others": statements(ANY | {"Principal": {"AWS": "333333333333"}}),
    "statements that nearly fit": statements(
        ANY | {"Condition": {"ForAllValues:StringLike": {"ses:Recipients": "*?a*"}}}
    ),
    "conditions": policy(Condition={"ForAllValues:StringNotLike": {f"my:{number}": "*" for number in range(1_000)}}),
    "conditions on recipients": policy(
        Condition={f"{over}:StringNot{kind}": {"ses:Recipients": ["*?q?*"] * 400} for over in SETS for kind in KINDS}
    ),
    "actions": policy(Action=["ses:*?*" + "a?" * 30 + "x"] * 200),
    "resources": policy(Resource=["*:" * 5 + "*a" * 20] * 200),
    "resources with stars that end segments": policy(Resource=["a*:*:*:*:*:*x"] * 800),
    "principals": policy(Principal={"AWS": [f"arn:aws:iam::{number:012}:user/a" for number in range(400)]}),
}


@pytest.mark.parametrize("name", SLOW)
def test_no_document_makes_deciding_slow(name: str) -> None:
    text = SLOW[name]
    assert MAX_READ // 4 < len(text) <= MAX_READ
    verdict, spent = own_time(lambda: evaluate([text], SENT, identity_arn=IDENTITY))

    assert verdict.decision in Decision
    assert len(verdict.reason) < 4_000
    assert spent < AT_ONCE


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 4_000 + "b",
        "*" + "?a" * 2_000,
        "?*" * 8_000,
        "*" * 30_000 + "b",
        "a?" * 2_048 + "b",
        "*a?" * 1_300 + "b",
        "*" + "a" * 2_000 + "?b*",
    ],
)
def test_no_pattern_is_slow_with_the_longest_text(pattern: str) -> None:
    _, spent = own_time(lambda: matches(pattern, "a" * 4_096, None))

    assert spent < AT_ONCE


def endless() -> dict[str, object]:
    nested: dict[str, object] = {}
    nested["Statement"] = nested
    return nested


def deep() -> dict[str, object]:
    nested: dict[str, object] = {}
    for _ in range(100_000):
        nested = {"Statement": nested}
    return nested


REFUSED: dict[str, Callable[[], str | dict[str, object]]] = {
    "ten megabytes": lambda: "x" * 10_000_000,
    "ten megabytes of statements": lambda: '{"Statement":[' + ",".join(["{}"] * 3_000_000) + "]}",
    "ten megabytes, decoded": lambda: {"Statement": ["x" * 1_000] * 10_000},
    "a decoded list that is long": lambda: {"Statement": [{}] * 1_000_000},
    "lists in lists": lambda: "[" * 30_000,
    "objects in objects": lambda: '{"a":' * 6_000,
    "objects in objects, closed": lambda: '{"a":' * 5_000 + "1" + "}" * 5_000,
    "objects in objects, decoded": deep,
    "an object in itself": endless,
    "many empty statements": lambda: '{"Statement":[' + ",".join(["{}"] * 10_000) + "]}",
    "a number of 30,000 digits": lambda: '{"Statement":' + "9" * 30_000 + "}",
    "a number beyond any": lambda: '{"Statement":1e999999}',
    "a key twice among thousands": lambda: "{" + ",".join(f'"{number}":1' for number in range(3_000)) + ',"0":1}',
    "NaN": lambda: '{"Statement":NaN}',
    "infinity, decoded": lambda: {"Statement": float("inf")},
    "half a surrogate pair": lambda: policy(Sid="\ud800"),
    "half a surrogate pair, not escaped": lambda: policy(Sid="x").replace('"x"', '"\ud800"'),
    "what JSON has not": lambda: {"Statement": {1, 2}},
}


def refusal(given: str | dict[str, object]) -> str:
    """Why it is not read."""
    with pytest.raises(DocumentError) as refused:
        read_any(given)
    return str(refused.value)


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_document_is_refused_at_once_and_in_little_memory(name: str) -> None:
    given = REFUSED[name]()
    refused, spent = own_time(lambda: refusal(given))
    tracemalloc.start()
    refusal(given)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert refused.endswith(".")
    assert len(refused) < 400
    assert spent < AT_ONCE
    assert peak < 20_000_000


def test_the_longest_document_that_is_read_is_read() -> None:
    room = MAX_READ - len(policy(Sid=""))

    assert read(policy(Sid="x" * room)).statements[0].sid == "x" * room
    with pytest.raises(DocumentError, match="16385 characters"):
        read(policy(Sid="x" * (room + 1)))
    assert read_any(json.loads(policy(Sid="x" * (room - 100)))).statements
    with pytest.raises(DocumentError, match="more than 16384"):
        read_any(json.loads(policy(Sid="x" * (room + 100))))


@pytest.mark.parametrize(("number", "length"), [(17, 4_000), (1_001, 1), (1, 4_097)])
def test_recipients_that_no_send_has_are_refused(number: int, length: int) -> None:
    """The longest documents cost as much as the texts that they are compared with are long, all together."""
    with pytest.raises(ValueError, match="ses:recipients is too long or has too many values"):
        evaluate([policy()], msgspec.structs.replace(SENT, recipients=["x" * length] * number), identity_arn=IDENTITY)
