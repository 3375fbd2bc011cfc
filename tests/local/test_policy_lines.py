"""`broker policy evaluate`: one answer a line, in order, whatever the line holds."""

import io
import json
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from broker.cli import main
from broker.local.policy_lines import MAX_LINE, answer, answer_all
from tests.local.programs import BROKER, SLOW_S, clean_environment
from tests.own_time import own_time
from tests.policies.examples import DELEGATE, IDENTITY, SESSION, Json, conditional, policy

Object = dict[str, Json]
ALLOW: Object = json.loads(policy(Sid="news"))


CONTEXT: Object = {"action": "ses:SendEmail", "context": {"a": "b"}}


def line(**changes: Json) -> bytes:
    """A line that is allowed, with fields of it replaced; None takes one away."""
    send: Object = {"action": "ses:SendEmail", "caller_account": DELEGATE}
    whole: Object = {"id": 1, "policies": [ALLOW], "identity_arn": IDENTITY, "send": send, **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def sending(condition: Json, **changes: Json) -> bytes:
    send: Object = {"action": "ses:SendEmail", "caller_account": DELEGATE, **changes}
    return line(policies=[json.loads(conditional(condition))], send=send)


def asked(text: bytes) -> Object:
    found: Object = json.loads(answer(text))
    return found


@contextmanager
def running() -> Iterator["subprocess.Popen[bytes]"]:
    """The command as a process of its own."""
    with subprocess.Popen(  # noqa: S603 — our own words
        [*BROKER, "policy", "evaluate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_answer_has_exactly_these_fields() -> None:
    assert asked(line()) == {
        "id": 1,
        "decision": "allow",
        "statement": "news",
        "reason": "Statement news allows it.",
    }
    assert asked(line(policies=[json.loads(policy(Effect="Deny"))])) == {
        "id": 1,
        "decision": "explicit_deny",
        "statement": "0",
        "reason": "Statement 0 denies it.",
    }
    assert asked(line(policies=[])) == {
        "id": 1,
        "decision": "implicit_deny",
        "statement": None,
        "reason": "No policy of the identity allows anything.",
    }


def test_an_implicit_deny_says_what_came_closest() -> None:
    condition: Json = {"StringEquals": {"ses:FromAddress": "newsletter@example.com"}}

    found = asked(sending(condition, **{"from": "ceo@example.com"}))

    assert "From `ceo@example.com` does not match `newsletter@example.com`." == found["reason"]


@pytest.mark.parametrize(
    ("field", "value", "key", "expected"),
    [
        ("from", "a@example.com", "ses:FromAddress", "a@example.com"),
        ("from_display_name", "Ann", "ses:FromDisplayName", "Ann"),
        ("feedback_address", "b@example.com", "ses:FeedbackAddress", "b@example.com"),
        ("recipients", ["c@example.org"], "ses:Recipients", "c@example.org"),
        ("source_ip", "203.0.113.7", "aws:SourceIp", "203.0.113.7"),
        ("secure_transport", True, "aws:SecureTransport", "true"),
        ("secure_transport", False, "aws:SecureTransport", "false"),
        ("time", "2026-03-01T12:00:00Z", "aws:CurrentTime", "2026-03-01T12:00:00Z"),
        ("time", "2026-03-01T12:00:00Z", "aws:EpochTime", "1772366400"),
        ("time", "2026-03-01T13:00+01:00", "aws:CurrentTime", "2026-03-01T12:00:00Z"),
        ("time", "2026-03-01T12:00:00", "aws:CurrentTime", "2026-03-01T12:00:00Z"),
        ("time", 1772366400, "aws:CurrentTime", "2026-03-01T12:00:00Z"),
        ("time", "1772366400", "aws:EpochTime", "1772366400"),
        ("time", "2026-03-01", "aws:EpochTime", "1772323200"),
        ("caller_account", DELEGATE, "aws:PrincipalAccount", DELEGATE),
        ("caller_arn", SESSION, "aws:PrincipalArn", f"arn:aws:iam::{DELEGATE}:role/sender"),
        ("caller_arn", f"arn:aws:iam::{DELEGATE}:user/x/y", "aws:PrincipalArn", f"arn:aws:iam::{DELEGATE}:user/x/y"),
        ("caller_arn", f"arn:aws:iam::{DELEGATE}:root", "aws:PrincipalArn", f"arn:aws:iam::{DELEGATE}:root"),
        ("caller_arn", SESSION, "aws:PrincipalAccount", DELEGATE),
        ("context", {"aws:UserAgent": "curl"}, "AWS:userAgent", "curl"),
        ("context", {"my:key": 1.5}, "my:Key", "1.5"),
        ("context", {"my:key": True}, "my:Key", "true"),
    ],
)
def test_each_field_answers_its_key_and_null_takes_it_away(field: str, value: Json, key: str, expected: str) -> None:
    equals: Json = {"ForAnyValue:StringEquals": {key: expected}}
    there: Json = {"Null": {key: "false"}}

    assert asked(sending(equals, **{field: value}))["decision"] == "allow"
    for absent in (Object(), Object({field: None})):
        send: Object = {"action": "ses:SendEmail", **absent}
        found = asked(line(policies=[json.loads(policy(Principal="*", Condition=there))], send=send))
        assert found["decision"] == "implicit_deny"


def test_the_context_adds_replaces_and_removes_keys() -> None:
    named: Json = {"StringEquals": {"ses:FromAddress": "b"}}
    absent: Json = {"Null": {"ses:FromAddress": "true"}}
    replaced: Object = {"from": "a", "context": {"ses:fromaddress": "b"}}
    removed: Object = {"from": "a", "context": {"ses:FromAddress": None}}

    assert asked(sending(named, **replaced))["decision"] == "allow"
    assert asked(sending(absent, **removed))["decision"] == "allow"


@pytest.mark.parametrize(
    "identifier", ['"a"', "1", "1.50", "12345678901234567890123", "null", "[1,{}]", '{"a":"\u00e9"}']
)
def test_an_id_of_any_kind_comes_back_as_it_was(identifier: str) -> None:
    good = line().replace(b'"id": 1', b'"id": ' + identifier.encode())
    bad = line(send=1).replace(b'"id": 1', b'"id": ' + identifier.encode())

    assert answer(good).startswith(b'{"id":' + identifier.encode() + b',"decision"')
    assert answer(bad).startswith(b'{"id":' + identifier.encode() + b',"error"')


def test_policies_are_objects_or_texts() -> None:
    assert asked(line(policies=[policy(Sid="news")])) == asked(line())


def test_fields_beside_those_of_a_line_are_passed_over() -> None:
    assert asked(line(expected="allow")) == asked(line())


@pytest.mark.parametrize(
    ("text", "identifier", "error"),
    [
        (b"nonsense", None, "JSON"),
        (b'{"id": 7', None, "truncated"),
        (b'{"id": 7, "policies": [', 7, "truncated"),
        (b'{"policies": [], "id": 7, "send"', None, "truncated"),
        (b"[]", None, "Expected `object`"),
        (b"7", None, "Expected `object`"),
        (b'{"id": 7, "x": "\xff"}', 7, "policies"),
        (b'{"id": "\xff"}', None, "policies"),
        (line(policies=None), 1, "policies"),
        (line(identity_arn=None), 1, "identity_arn"),
        (line(send=None), 1, "send"),
        (line(policies={}), 1, "$.policies"),
        (line(policies=[1]), 1, "not an object"),
        (line(policies=["{}"]), 1, "no statement"),
        (line(policies=[ALLOW, {"Statement": []}]), 1, "no statement"),
        (line(policies=[json.loads(policy(Effect="Deny")), "x"]), 1, "not JSON"),
        (line(identity_arn="example.com"), 1, "identity_arn"),
        (line(send={}), 1, "action"),
        (line(send={"action": None}), 1, "$.send.action"),
        (line(send={"action": "SendEmail"}), 1, "'SendEmail'"),
        (line(send={"action": "ses:SendEmail", "form": "a@b.c"}), 1, "form"),
        (line(send={"action": "ses:SendEmail", "from": 1}), 1, "$.send.from"),
        (line(send={"action": "ses:SendEmail", "recipients": "a@b.c"}), 1, "$.send.recipients"),
        (line(send={"action": "ses:SendEmail", "time": "noon"}), 1, "$.send.time"),
        (line(send={"action": "ses:SendEmail", "time": True}), 1, "$.send.time"),
        (line(send={"action": "ses:SendEmail", "caller_arn": "ann"}), 1, "'ann'"),
        (line(send={"action": "ses:SendEmail", "caller_account": "12"}), 1, "'12'"),
        (line(send={"action": "ses:SendEmail", "caller_account": "333333333333", "caller_arn": SESSION}), 1, "not in"),
        (line(send={"action": "ses:SendEmail", "context": {"a": {}}}), 1, "$.send.context"),
        (line(send={"action": "ses:SendEmail", "context": {"a": [None]}}), 1, "$.send.context"),
        (line().replace(b'"Allow"', b'"Allow", "Effect": "Deny"'), 1, "'Effect' appears twice"),
        (line().replace(b'"id": 1', b'"send": {"action": "ses:DeleteIdentity"}, "id": 1'), 1, "'send' appears twice"),
        (line().replace(b'"id": 1', b'"id": 2, "id": 1'), 1, "'id' appears twice"),
        (line().replace(b'"action"', b'"action": "ses:SendRawEmail", "\\u0061ction"'), 1, "'action' appears twice"),
        (line(send=CONTEXT).replace(b'"a": "b"', b'"a": "b", "a": "c"'), 1, "'a' appears twice"),
        (line().replace(b'"news"', b'"\\ud800"'), 1, "hex escape"),
        (line(policies=['{"Statement": "\\ud800"}']), 1, "surrogate"),
        (line().replace(b'"news"', b'"\xff"'), 1, "UTF-8"),
        (line().replace(b'"news"', b"NaN"), 1, "malformed"),
        (line(policies=['{"Statement": NaN}']), 1, "NaN"),
        (line(send={"action": "ses:SendEmail", "context": {"a": 0}}).replace(b'"a": 0', b'"a": 1e999'), 1, "range"),
    ],
)
def test_a_bad_line_gets_an_error_that_names_the_fault(text: bytes, identifier: Json, error: str) -> None:
    found = asked(text)

    assert {"id", "error"} == set(found)
    assert identifier == found["id"]
    assert error in str(found["error"])
    assert str(found["error"]).endswith(".")


@given(st.binary() | st.text().map(str.encode))
def test_any_line_at_all_gets_an_answer(text: bytes) -> None:
    assert {"id", "error"} == set(asked(text))


HOSTILE = {
    "ten megabytes of policy": line(policies=[{"Statement": ["x" * 10_000_000]}]),
    "ten megabytes of text": line(policies=["x" * 10_000_000]),
    "ten megabytes of escapes": line(policies=["\u00e9" * 2_000_000]),
    "a line that never ends": b'{"id": 1, "policies": ["' + b"x" * MAX_LINE + b'"]}',
    "nested lists": line().replace(b'"news"', b"[" * 1_000_000 + b"]" * 1_000_000),
    "nested objects": line(policies=['{"a":' * 6_000]),
    "a nested id": line().replace(b'"id": 1', b'"id": ' + b"[" * 1_000_000 + b"]" * 1_000_000),
    "a huge number": line().replace(b'"news"', b"9" * 30_000),
    "a very long list": line(policies=[{"Statement": [{}] * 2_000_000}]),
    "many policies": line(policies=[ALLOW] * 10_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_is_answered_at_once_and_in_bounded_memory(name: str) -> None:
    text = HOSTILE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, spent = own_time(lambda: asked(text))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

    assert "error" in found
    assert spent < 0.3  # the bar is 0.1 s; a shared machine may be three times slower
    assert grown < 3 * len(text) + 16_000_000


def test_a_line_that_is_too_long_is_passed_by_and_the_rest_goes_on() -> None:
    out = io.BytesIO()
    answer_all(io.BytesIO(HOSTILE["a line that never ends"] + b"\n" + line(id=2)), out)

    first, second = map(json.loads, out.getvalue().splitlines())
    assert (1, 2) == (first["id"], second["id"])
    assert "16777216 bytes" in first["error"]
    assert "allow" == second["decision"]


def test_lines_are_answered_in_order_and_empty_ones_not_at_all() -> None:
    lines = [line(id=1), b"", b"nonsense", b" \r", line(id=3) + b"\r"]

    shown = CliRunner().invoke(main, ["policy", "evaluate"], input=b"\xef\xbb\xbf" + b"\n".join(lines))

    assert 0 == shown.exit_code
    assert [1, None, 3] == [json.loads(each)["id"] for each in shown.output.splitlines()]


def test_each_line_is_answered_before_the_next_is_sent() -> None:
    with running() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(line(id=number) + b"\n")
            process.stdin.flush()
            assert number == json.loads(process.stdout.readline())["id"]
        process.stdin.close()

        assert 0 == process.wait(SLOW_S)
        assert process.stderr is not None
        assert b"" == process.stderr.read()


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with running() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(line() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(line() + b"\n" + line() + b"\n")
        process.stdin.close()

        assert 0 == process.wait(SLOW_S)
        assert b"" == process.stderr.read()


def test_the_example_of_the_help_works() -> None:
    shown = CliRunner().invoke(main, ["policy", "evaluate", "--help"]).output
    example = "\n".join(each.strip() for each in shown.partition("Example:")[2].partition("| tr")[0].splitlines())
    given_text = example.strip().removeprefix("echo '").rstrip().removesuffix("'").replace("\n", "")

    found = asked(given_text.encode())

    promised = shown.partition("broker policy evaluate\n")[2].partition("Options:")[0]
    assert msgspec.json.encode(found).decode() in "".join(each.strip() for each in promised.splitlines())
