"""Operators, set operators and missing keys, as the IAM User Guide has them.

The pages are reference_policies_elements_condition_operators, reference_policies_multi-value-conditions,
reference_policies_condition-single-vs-multi-valued-context-keys and reference_policies_variables.
"""

import pytest

from broker.policies.context import ContextValue, Send
from broker.policies.evaluate import Decision, evaluate
from tests.policies.examples import DELEGATE, IDENTITY, SESSION, USER, Json, policy


def holds(
    condition: Json,
    context: dict[str, ContextValue] | None = None,
    *,
    caller_arn: str = USER,
    version: str = "2012-10-17",
) -> bool:
    text = policy(Condition=condition, Version=version)
    send = Send(action="ses:SendEmail", caller_arn=caller_arn, context=context or {})
    return evaluate([text], send, identity_arn=IDENTITY).decision is Decision.allow


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "expected"),
    [
        # String: case-sensitive, wildcards in …Like only
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a*", "a*", True),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", "a", "a", False),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringEqualsIgnoreCase", "aB", "Ab", True),
        ("StringNotEqualsIgnoreCase", "aB", "Ab", False),
        ("StringLike", "*@example.com", "a.b@example.com", True),
        ("StringLike", "*@example.com", "@example.com", True),
        ("StringLike", "*@example.com", "a@example.com.org", False),
        ("StringLike", "*@example.com", "a@EXAMPLE.com", False),
        ("StringLike", "?@b", "a@b", True),
        ("StringLike", "?@b", "@b", False),
        ("StringLike", "marketing+.*@example.com", "marketing+x@example.com", False),  # the dot is a dot
        ("StringLike", "marketing+.*@example.com", "marketing+.x@example.com", True),
        ("StringLike", "a*b*c", "a\nb@.c", True),  # a star crosses everything
        ("StringLike", "a**c", "ac", True),
        ("StringLike", "[ab]", "a", False),
        ("StringLike", "Marketing", "Marketing team", False),
        ("StringNotLike", "*admin*", "badminton@b", False),
        ("StringNotLike", "*admin*", "Admin@b", True),
        ("StringNotLike", ["*a*", "*b*"], "b", False),
        # Numeric
        ("NumericEquals", "10", "10.0", True),
        ("NumericNotEquals", "10", "11", True),
        ("NumericLessThan", "10", "9.99", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericLessThanEquals", 10, 10, True),
        ("NumericGreaterThan", "-1", "0", True),
        ("NumericGreaterThan", "1", "1.00", False),
        ("NumericGreaterThanEquals", "10", "9", False),
        ("NumericEquals", "ten", "ten", False),
        ("NumericLessThan", "10", "NaN", False),
        ("NumericLessThan", "10", "\u0663", False),
        # Date
        ("DateEquals", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", True),
        ("DateNotEquals", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z", False),
        ("DateLessThan", "2026-03-01T12:00Z", "2026-03-01T11:59:59Z", True),
        ("DateLessThan", "2026-03-01T12:00Z", "2026-03-01T12:00:00Z", False),
        ("DateLessThanEquals", "2026-03-01T12:00Z", "2026-03-01T12:00:00Z", True),
        ("DateGreaterThan", "2026-03-01T12:00:00", "2026-03-01T12:00:00.001Z", True),
        ("DateGreaterThan", "2026-03-01T12:00:00", "2026-03-01T12:00:00Z", False),
        ("DateGreaterThanEquals", "2026-03-01", "2026-03-01T00:00:00Z", True),
        ("DateGreaterThanEquals", "2026-03", "2026-02-28T23:59:59Z", False),
        ("DateGreaterThan", "2026", "2026-01-01T00:00:01Z", True),
        ("DateEquals", "1772366400", "2026-03-01T12:00:00Z", True),
        ("DateEquals", 1772366400, "2026-03-01T12:00:00Z", True),
        ("DateLessThan", "2026-03-01T12:00:00-0500", "2026-03-01T16:59:59Z", True),
        ("DateLessThan", "2026-13-01", "2026-03-01", False),
        ("DateLessThan", "2026-03-01T12:00:00+99:00", "2020-03-01", False),
        ("DateLessThan", "tomorrow", "2026-03-01", False),
        ("DateNotEquals", "tomorrow", "2026-03-01", True),
        # Bool
        ("Bool", "true", True, True),
        ("Bool", True, "true", True),
        ("Bool", "false", True, False),
        ("Bool", ["true", "false"], False, True),
        ("Bool", "yes", "yes", False),
        # Binary
        ("BinaryEquals", "QmluYXJ5", "QmluYXJ5", True),
        ("BinaryEquals", "QmluYXJ5", "qmluYXJ5", False),
        ("BinaryEquals", "not base64!", "not base64!", False),
        # IP
        ("IpAddress", "203.0.113.0/24", "203.0.113.255", True),
        ("IpAddress", "203.0.113.0/24", "203.0.114.0", False),
        ("IpAddress", "203.0.113.7", "203.0.113.7", True),
        ("IpAddress", "203.0.113.7/24", "203.0.113.9", True),
        ("IpAddress", "2001:db8::/32", "2001:DB8:0:0::1", True),
        ("IpAddress", "0.0.0.0/0", "2001:db8::1", False),
        ("IpAddress", "0.0.0.0/0", "::1", False),
        ("IpAddress", "::/0", "203.0.113.1", False),
        ("IpAddress", ["203.0.113.0/24", "2001:db8::/32"], "2001:db8::1", True),
        ("NotIpAddress", "203.0.113.0/24", "203.0.113.1", False),
        ("NotIpAddress", "203.0.113.0/24", "2001:db8::1", True),
        ("NotIpAddress", ["203.0.113.0/24", "198.51.100.0/24"], "198.51.100.1", False),
        ("IpAddress", "everywhere", "203.0.113.1", False),
        # ARN: each of the six parts alone
        ("ArnEquals", "arn:aws:sns:*:123:topic-?", "arn:aws:sns:eu-west-1:123:topic-1", True),
        ("ArnLike", "arn:aws:sns:*:123:topic", "arn:aws:sns:a:b:123:topic", False),
        ("ArnEquals", "topic:1", "topic:1", False),
        ("ArnLike", "arn:*", "arn:aws:sns:eu-west-1:123:topic", False),
        ("ArnLike", "arn:aws:sns:eu-west-1:123:*", "arn:aws:sns:eu-west-1:123:a:b/c", True),
        ("ArnLike", "arn:aws:sns:eu-west-1:123:topic", "ARN:aws:sns:eu-west-1:123:topic", False),
        ("ArnNotLike", "arn:aws:sns:*:123:topic", "arn:aws:sns:eu-west-1:123:topic", False),
        ("ArnNotEquals", "arn:aws:sns:*:123:topic", "arn:aws:sns:eu-west-1:124:topic", True),
        # no value in the policy matches nothing
        ("StringEquals", [], "a", False),
        ("StringNotEquals", [], "a", True),
    ],
)
def test_an_operator_compares_as_documented(operator: str, wanted: Json, given: ContextValue, expected: bool) -> None:
    assert holds({operator: {"my:Key": wanted}}, {"my:key": given}) == expected


NEGATED = (
    "StringNotEquals",
    "StringNotEqualsIgnoreCase",
    "StringNotLike",
    "NumericNotEquals",
    "DateNotEquals",
    "NotIpAddress",
)
POSITIVE = (
    "StringEquals",
    "StringLike",
    "NumericEquals",
    "DateLessThan",
    "Bool",
    "BinaryEquals",
    "IpAddress",
    "ArnLike",
)


@pytest.mark.parametrize("operator", [*POSITIVE, *NEGATED, "ArnNotEquals", "ArnNotLike"])
def test_a_missing_key_fails_a_positive_and_satisfies_a_negated_operator(operator: str) -> None:
    assert holds({operator: {"my:Key": "1"}}) == ("Not" in operator)
    assert holds({f"{operator}IfExists": {"my:Key": "1"}})


@pytest.mark.parametrize(
    ("given", "is_there"), [(None, False), ([], False), ("", True), ("x", True), (False, True), (["a", "b"], True)]
)
def test_null_asks_whether_a_key_is_there(given: ContextValue, is_there: bool) -> None:
    assert holds({"Null": {"my:Key": "false"}}, {"my:Key": given}) == is_there
    assert holds({"Null": {"my:Key": True}}, {"my:Key": given}) != is_there
    assert holds({"Null": {"my:Key": ["true", "false"]}}, {"my:Key": given})


@pytest.mark.parametrize(
    ("operator", "given", "expected"),
    [
        # every value of the request matches one of the policy
        ("ForAllValues:StringLike", ["x1", "y1"], True),
        ("ForAllValues:StringLike", ["x1", "z"], False),
        ("ForAllValues:StringLike", "x1", True),
        ("ForAllValues:StringLike", [], True),
        ("ForAllValues:StringLike", None, True),
        ("ForAllValues:StringLike", [""], False),
        # one does
        ("ForAnyValue:StringLike", ["z", "y1"], True),
        ("ForAnyValue:StringLike", ["z"], False),
        ("ForAnyValue:StringLike", [], False),
        ("ForAnyValue:StringLike", None, False),
        # none of the policy's values matches each / one of the request's
        ("ForAllValues:StringNotLike", ["a", "b"], True),
        ("ForAllValues:StringNotLike", ["a", "x1"], False),
        ("ForAllValues:StringNotLike", None, True),
        ("ForAnyValue:StringNotLike", ["x1", "a"], True),
        ("ForAnyValue:StringNotLike", ["x1", "y1"], False),
        ("ForAnyValue:StringNotLike", None, False),
        # a missing key and IfExists
        ("ForAnyValue:StringLikeIfExists", None, True),
        ("ForAnyValue:StringLikeIfExists", [], False),
        ("ForAnyValue:StringNotLikeIfExists", None, True),
        ("StringLikeIfExists", [], False),
        ("StringNotLike", [], True),
        ("ForAllValues:StringLikeIfExists", None, True),
        ("ForAnyValue:StringLikeIfExists", ["a"], False),
        ("forallvalues:stringlike", ["x1"], True),
    ],
)
def test_set_operators_look_at_each_value(operator: str, given: ContextValue, expected: bool) -> None:
    assert holds({operator: {"my:Key": ["x*", "y*"]}}, {"my:Key": given}) == expected


def test_several_keys_and_operators_are_an_and() -> None:
    condition: Json = {"StringEquals": {"a": "1", "b": "2"}, "NumericLessThan": {"c": "3"}}

    assert holds(condition, {"a": "1", "b": "2", "c": 2})
    assert not holds(condition, {"a": "1", "b": "2", "c": 3})
    assert not holds(condition, {"a": "1", "b": "x", "c": 2})


def test_one_key_in_two_spellings_is_two_conditions() -> None:
    condition: Json = {"StringLike": {"my:key": "a*", "MY:KEY": "*b"}}

    assert holds(condition, {"My:Key": "ab"})
    assert not holds(condition, {"My:Key": "a"})


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [
        ("${aws:username}@example.com", "ann@example.com", True),
        ("${AWS:UserName}@example.com", "ann@example.com", True),
        ("${aws:username}@example.com", "bob@example.com", False),
        ("${my:missing}", "", False),
        ("${my:missing, 'team'}@example.com", "team@example.com", True),
        ("${aws:username, 'team'}", "ann", True),
        ("${my:missing,'a*'}", "ab", False),  # wildcards of a value are ordinary characters
        ("${*}${?}${$}*", "*?$x", True),
        ("${*}", "x", False),
        ("${my:two}", "a", False),  # a key with several values fills nothing
        ("${unclosed", "${unclosed", True),
        ("$5 off*", "$5 off!", True),
    ],
)
def test_policy_variables_are_filled_from_the_request(wanted: str, given: str, expected: bool) -> None:
    assert holds({"StringLike": {"my:Key": wanted}}, {"my:Key": given, "my:two": ["a", "b"]}) == expected


def test_a_negated_operator_holds_where_a_variable_cannot_be_filled() -> None:
    assert holds({"StringNotEquals": {"my:Key": ["b", "${my:missing}"]}}, {"my:Key": "a"})
    assert not holds({"StringNotEquals": {"my:Key": ["a", "${my:missing}"]}}, {"my:Key": "a"})
    assert holds({"StringNotEquals": {"my:Key": ["b", "${my:missing, 'c'}"]}}, {"my:Key": "a"})


def test_variables_are_ordinary_text_before_2012() -> None:
    condition: Json = {"StringEquals": {"my:Key": "${aws:username}"}}

    assert holds(condition, {"my:Key": "${aws:username}"}, version="2008-10-17")
    assert not holds(condition, {"my:Key": "ann"}, version="2008-10-17")


def test_a_variable_may_stand_in_an_arn() -> None:
    condition: Json = {"ArnLike": {"my:Key": "arn:aws:sns:*:${aws:PrincipalAccount}:${aws:username}-*"}}

    assert holds(condition, {"my:Key": f"arn:aws:sns:eu-west-1:{DELEGATE}:ann-topic"})
    assert holds(condition, {"my:Key": f"arn:aws:sns:eu-west-1:{DELEGATE}:ann-a:b"})
    assert not holds(condition, {"my:Key": f"arn:aws:sns:eu-west-1:{DELEGATE}:bob-topic"})
    assert not holds({"ArnLike": {"my:Key": "${aws:username}:a:b:c:d:e:f"}}, {"my:Key": "ann:a:b:c:d:e"})
    assert holds({"ArnLike": {"my:Key": "${aws:username}:a:b:c:d:e:f"}}, {"my:Key": "ann:a:b:c:d:e:f"})


def test_variables_mean_nothing_in_numbers_and_dates() -> None:
    assert not holds({"NumericEquals": {"my:Key": "${my:other}"}}, {"my:Key": "1", "my:other": "1"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("aws:PrincipalArn", f"arn:aws:iam::{DELEGATE}:role/sender"),
        ("aws:PrincipalAccount", DELEGATE),
        ("aws:PrincipalType", "AssumedRole"),
    ],
)
def test_the_caller_answers_the_principal_keys(key: str, value: str) -> None:
    assert holds({"StringEquals": {key: value}}, caller_arn=SESSION)


def test_the_context_replaces_and_removes_derived_keys() -> None:
    assert holds({"StringEquals": {"aws:username": "bob"}}, {"AWS:USERNAME": "bob"})
    assert holds({"Null": {"aws:username": "true"}}, {"aws:username": None})
