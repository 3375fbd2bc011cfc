"""The answer names the statement and the conditions that decided, and what came closest where nothing did."""

import json

import msgspec
import pytest

from broker.policies.context import Send
from broker.policies.evaluate import Decision, Verdict, evaluate
from tests.policies.examples import DELEGATE, IDENTITY, SEND, STRANGER, Json, conditional, policy

DENY = policy(Effect="Deny", Sid="NoWay")
OTHER = policy(Principal={"AWS": STRANGER})
NOBODY = Send(action="ses:SendEmail")
BY_SERVICE = Send(action="ses:SendEmail", caller_service="cognito-idp.amazonaws.com")


def reason(text: str, send: Send = SEND) -> str:
    return evaluate([text], send, identity_arn=IDENTITY).reason


def sending(**changes: object) -> Send:
    return msgspec.structs.replace(SEND, **changes)


def test_the_answer_says_which_statement_decided() -> None:
    assert evaluate([OTHER, policy(Sid="Yes")], SEND, identity_arn=IDENTITY) == Verdict(
        Decision.allow, 1, "Yes", "Statement Yes of policies[1] allows it."
    )
    assert evaluate([policy(), policy(Sid="Too")], SEND, identity_arn=IDENTITY).policy == 0
    assert evaluate([policy(), DENY], SEND, identity_arn=IDENTITY) == Verdict(
        Decision.explicit_deny, 1, "NoWay", "Statement NoWay of policies[1] denies it."
    )
    assert evaluate([], SEND, identity_arn=IDENTITY) == Verdict(
        Decision.implicit_deny, None, None, "No policy of the identity allows anything."
    )


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        (
            conditional({"StringEquals": {"ses:FromAddress": "newsletter@example.com"}}),
            {"from_address": "ceo@example.com"},
            "From `ceo@example.com` does not match `newsletter@example.com`.",
        ),
        (
            conditional({"StringEquals": {"ses:FeedbackAddress": "bounces@example.com"}}),
            {"feedback_address": None},
            "Return-Path is not in the request, and is compared with `bounces@example.com`.",
        ),
        (
            conditional({"ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}}),
            {"recipients": ["a@example.org", "b@example.net", "c@example.com"]},
            "Recipient `b@example.net`, `c@example.com` does not match `*@example.org`.",
        ),
        (
            conditional({"DateLessThan": {"aws:CurrentTime": "2026-03-01T12:00:00Z"}}),
            {},
            "The time `2026-03-01T12:00:00Z` is not before `2026-03-01T12:00:00Z`.",
        ),
        (
            conditional({"IpAddress": {"aws:SourceIp": ["192.0.2.0/24"] * 5}}),
            {},
            "The source IP `203.0.113.7` is not within `192.0.2.0/24`, `192.0.2.0/24`, `192.0.2.0/24` and 2 more.",
        ),
        (
            conditional({"Bool": {"aws:SecureTransport": "true"}}),
            {"secure_transport": False},
            "TLS to SES is `false`, and must be `true`.",
        ),
        (
            conditional({"Null": {"ses:Recipients": "false"}}),
            {"recipients": []},
            "Recipient is not in the request, and must be.",
        ),
        (conditional({"Null": {"ses:FromAddress": "true"}}), {}, "From is in the request, and must not be."),
        (policy(), {"caller_account": STRANGER}, "The caller `333333333333` is none of `222222222222`."),
        (policy(), {"action": "ses:SendRawEmail"}, "The action `ses:SendRawEmail` is none of `ses:SendEmail`."),
        (
            policy(Resource=f"{IDENTITY}.org", Sid="Other"),
            {},
            f"Statement Other is about `{IDENTITY}.org`, not about `{IDENTITY}`.",
        ),
    ],
)
def test_an_implicit_deny_says_what_was_missing(text: str, changes: dict[str, object], expected: str) -> None:
    assert reason(text, sending(**changes)) == expected


@pytest.mark.parametrize(
    ("condition", "changes", "expected"),
    [
        (
            {"StringLike": {"ses:FromAddress": "*@example.com"}},
            {},
            "From `newsletter@example.com` matches `*@example.com`",
        ),
        (
            {"StringEquals": {"ses:FromAddress": ["a@b.c", "newsletter@example.com"]}},
            {},
            "From `newsletter@example.com` matches one of `a@b.c`, `newsletter@example.com`",
        ),
        (
            {"StringNotLike": {"ses:FromAddress": ["a", "b"]}},
            {},
            "From `newsletter@example.com` does not match `a`, `b`",
        ),
        (
            {"ForAnyValue:StringNotLike": {"ses:Recipients": "*@example.org"}},
            {"recipients": ["a@example.org", "b@example.net"]},
            "recipient `b@example.net` does not match `*@example.org`",
        ),
        ({"StringNotEquals": {"ses:FromAddress": "x"}}, {"from_address": None}, "From is not in the request"),
        ({"Null": {"ses:FromAddress": "false"}}, {}, "From is in the request"),
        ({"Null": {"ses:FromAddress": "true"}}, {"from_address": None}, "From is not in the request"),
        ({"Bool": {"aws:SecureTransport": "true"}}, {}, "TLS to SES is `true`"),
        (
            {"DateGreaterThan": {"aws:CurrentTime": "2026"}},
            {},
            "the time `2026-03-01T12:00:00Z` is after `2026`",
        ),
        (
            {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
            {},
            "the source IP `203.0.113.7` is not within `192.0.2.0/24`",
        ),
        ({"NumericLessThan": {"my:n": "10"}}, {"context": {"my:n": 9}}, "`my:n` `9` is below `10`"),
        (
            {"StringNotEquals": {"a": "1", "b": "1", "c": "1", "d": "1"}},
            {},
            "`a` is not in the request; `b` is not in the request; `c` is not in the request; and 1 more condition",
        ),
        (
            {"StringNotEquals": {"a": "1", "b": "1", "c": "1", "d": "1", "e": "1"}},
            {},
            "`a` is not in the request; `b` is not in the request; `c` is not in the request; and 2 more conditions",
        ),
    ],
)
def test_the_conditions_that_decided_are_named(condition: Json, changes: dict[str, object], expected: str) -> None:
    send = sending(**changes)

    assert reason(conditional(condition), send) == f"Statement 0 allows it: {expected}."
    assert reason(conditional(condition, effect="Deny"), send) == f"Statement 0 denies it: {expected}."


def test_all_conditions_that_failed_are_named() -> None:
    two: Json = {"StringEquals": {"ses:FromAddress": "a@b.c"}, "Bool": {"aws:SecureTransport": "false"}}
    many: Json = {"StringEquals": {"a": "1", "b": "1", "c": "1", "d": "1"}}
    more: Json = {"StringEquals": {"a": "1", "b": "1", "c": "1", "d": "1", "e": "1"}}

    assert reason(conditional(two)) == (
        "From `newsletter@example.com` does not match `a@b.c`. TLS to SES is `true`, and must be `false`."
    )
    assert reason(conditional(many)).endswith(
        "`c` is not in the request, and is compared with `1`. 1 more condition is not satisfied."
    )
    assert reason(conditional(more)).endswith(" 2 more conditions are not satisfied.")


def test_a_value_that_fails_among_others_is_named_alone() -> None:
    all_of: Json = {"ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}}
    any_of: Json = {"ForAnyValue:StringLike": {"ses:Recipients": "*@example.com"}}
    two = sending(recipients=["a@example.org", "b@example.net"])

    assert reason(conditional(all_of), two) == "Recipient `b@example.net` does not match `*@example.org`."
    assert reason(conditional(any_of), two) == (
        "Recipient `a@example.org`, `b@example.net` does not match `*@example.com`."
    )


def test_long_texts_are_cut_in_a_reason() -> None:
    told = reason(conditional({"StringEquals": {"ses:FromAddress": "x" * 5_000}}), sending(from_address="y" * 500))

    assert told == f"From `{'y' * 119}…` does not match `{'x' * 119}…`."


def test_what_is_negated_is_told_so() -> None:
    assert reason(policy(Action=None, NotAction="ses:*")) == "The action `ses:SendEmail` is one of `ses:*`."
    assert (
        reason(policy(Principal=None, NotPrincipal={"AWS": DELEGATE}))
        == "The caller `222222222222` is one of `222222222222`."
    )
    assert reason(policy(), NOBODY) == "The unknown caller is none of `222222222222`."
    assert reason(policy(), BY_SERVICE) == "The caller `cognito-idp.amazonaws.com` is none of `222222222222`."
    assert reason(policy(Resource=None, NotResource="*")) == (
        f"Statement 0 is about everything but `*`, not about `{IDENTITY}`."
    )


def statement(**changes: Json) -> Json:
    listed: Json = json.loads(policy(**changes))["Statement"][0]
    return listed


def closest(*listed: Json, send: Send = SEND) -> str | None:
    return evaluate([{"Version": "2012-10-17", "Statement": listed}], send, identity_arn=IDENTITY).statement


def test_what_came_closest_is_the_resource_then_the_caller_then_the_action_then_the_conditions() -> None:
    other: Json = {"StringEquals": {"ses:FromAddress": "x"}}
    two: Json = {"StringEquals": {"ses:FromAddress": "x", "ses:FeedbackAddress": "y"}}
    resource = statement(Sid="Resource", Resource=f"{IDENTITY}x")
    caller = statement(Sid="Caller", Principal={"AWS": STRANGER})
    action = statement(Sid="Action", Action="ses:SendRawEmail")

    assert closest(resource, caller) == "Caller"
    assert closest(caller, action, resource) == "Action"
    assert closest(action, statement(Sid="Two", Condition=two)) == "Two"
    assert closest(statement(Sid="Two", Condition=two), statement(Sid="One", Condition=other)) == "One"
    assert closest(statement(Sid="Deny", Effect="Deny", Condition=other), resource) == "Resource"


def test_of_statements_that_came_equally_close_the_first_is_named() -> None:
    other: Json = {"StringEquals": {"ses:FromAddress": "x"}}
    far: list[dict[str, Json]] = [
        {"Principal": {"AWS": STRANGER}},
        {"Action": "ses:SendRawEmail"},
        {"Resource": f"{IDENTITY}x"},
    ]

    for changes in far:
        assert closest(statement(Sid="A", Condition=other, **changes), statement(Sid="B", **changes)) == "A"
    assert closest(statement(Sid="A", Condition=other), statement(Sid="B", Condition=other)) == "A"


def test_the_closest_statement_is_the_one_that_is_named() -> None:
    far = json.loads(policy(Sid="Far", Principal={"AWS": STRANGER}))["Statement"][0]
    two = json.loads(
        policy(Sid="Two", Condition={"StringEquals": {"ses:FromAddress": "x", "ses:FeedbackAddress": "y"}})
    )["Statement"][0]
    near = json.loads(policy(Sid="Near", Condition={"StringEquals": {"ses:FromAddress": "x"}}))["Statement"][0]

    verdict = evaluate([{"Version": "2012-10-17", "Statement": [far, two, near, far]}], SEND, identity_arn=IDENTITY)

    assert (verdict.policy, verdict.statement) == (0, "Near")


def test_a_statement_without_sid_is_named_by_its_place() -> None:
    assert evaluate([policy()], SEND, identity_arn=IDENTITY).statement == "0"
