"""Operators, set operators and missing keys, as the IAM User Guide has them.

The pages are reference_policies_elements_condition_operators, reference_policies_multi-value-conditions,
reference_policies_condition-single-vs-multi-valued-context-keys and reference_policies_variables.
"""

import pytest

from broker.policies.conditions import holds as condition_holds
from broker.policies.context import ContextValue, Send, request_of
from broker.policies.document import read
from broker.policies.evaluate import Decision, evaluate
from tests.policies.examples import DELEGATE, IDENTITY, SESSION, USER, Json, policy


def holds(
    condition: Json,
    context: dict[str, ContextValue] | None = None,
    *,
    caller_arn: str = USER,
    version: str = "2012-10-17",
) -> bool:
    text = policy(Condition=condition, Version=version, Principal="*")
    send = Send(action="ses:SendEmail", caller_arn=caller_arn, context=context or {})
    return evaluate([text], send, identity_arn=IDENTITY).decision is Decision.allow


FINANCE = "arn:aws:someservice:*:111122223333:finance/*"
STORE = "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt"


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
        ("NumericEquals", "1e3", "1000", True),
        ("NumericEquals", "1.5E-1", "0.15", True),
        ("NumericLessThan", "1e400", "9" * 40, True),
        ("NumericEquals", ".5", "0.50", True),
        ("NumericEquals", "5.", "+5", True),
        ("NumericEquals", "10.00000000000000000000000001", "10", False),
        ("NumericEquals", 1e22, "10000000000000000000000", True),
        ("NumericEquals", "1" * 41, "1" * 41, False),  # longer than any number that means anything
        ("NumericLessThan", "1e1000", "1", False),
        ("NumericEquals", "0x10", "16", False),
        ("NumericEquals", "1_0", "10", False),
        ("NumericEquals", " 1", "1", False),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("NumericGreaterThanEquals", "10", "11", True),
        ("NumericLessThanEquals", "10", "9", True),
        ("NumericLessThanEquals", "10", "11", False),
        ("NumericGreaterThan", "1", "0", False),
        ("NumericNotEquals", "10", "10.0", False),
        ("NumericNotEquals", "ten", "10", True),
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
        ("DateEquals", "2026-03-01T17:30:00+05:30", "2026-03-01T12:00:00Z", True),
        ("DateEquals", "2026-03-01T06:30:00-05:30", "2026-03-01T12:00:00Z", True),
        ("DateEquals", "2026-03-01T12:00:00.5Z", "2026-03-01T12:00:00.500000Z", True),
        ("DateEquals", "2026-03-01T12:00:00.05Z", "2026-03-01T12:00:00.5Z", False),
        ("DateEquals", "2026-03-01T12:00:00.123456789Z", "2026-03-01T12:00:00.123456Z", True),
        ("DateEquals", "2026-03-01t12:00z", "2026-03-01T12:00:00Z", True),
        ("DateEquals", "2026-03", "2026-03-01T00:00:00Z", True),
        ("DateEquals", "2026", "2026-01-01T00:00:00Z", True),
        ("DateEquals", "2026-03-01", "2026-03-01T00:00:00Z", True),
        ("DateEquals", "2026-03-01T12:34", "2026-03-01T12:34:00Z", True),
        ("DateEquals", "2026-03-01T12:34:56", "2026-03-01T12:34:56Z", True),
        ("DateEquals", "1772366400.5", "2026-03-01T12:00:00.5Z", True),
        ("DateEquals", "-1000000", "1969-12-20T10:13:20Z", True),
        ("DateGreaterThanEquals", "2026-03-01", "2026-03-02", True),
        ("DateGreaterThanEquals", "2026-03-01", "2026-02-28", False),
        ("DateLessThanEquals", "2026-03-01", "2026-02-28", True),
        ("DateLessThanEquals", "2026-03-01", "2026-03-02", False),
        ("DateNotEquals", "2026-03-01", "2026-03-02", True),
        ("DateEquals", "2026-03-01 12:00:00Z", "2026-03-01T12:00:00Z", False),
        ("DateEquals", "2026-03-01T25:00:00Z", "2026-03-01T25:00:00Z", False),
        ("DateEquals", "2026-02-30", "2026-02-30", False),
        ("DateEquals", "2026-03-01T12:00:00Z" + "0" * 100, "2026-03-01T12:00:00Z" + "0" * 100, False),
        ("DateEquals", "99999999999999", "99999999999999", False),
        ("DateEquals", "999999999999", "999999999999", False),
        ("DateLessThan", "2026-13-01", "2026-03-01", False),
        ("DateLessThan", "2026-03-01T12:00:00+99:00", "2020-03-01", False),
        ("DateLessThan", "tomorrow", "2026-03-01", False),
        ("DateNotEquals", "tomorrow", "2026-03-01", True),
        # Bool
        ("Bool", "true", True, True),
        ("Bool", True, "true", True),
        ("Bool", "false", True, False),
        ("Bool", ["true", "false"], False, True),
        ("Bool", "TRUE", True, True),
        ("Bool", "true", "True", True),
        ("Bool", "yes", "yes", False),
        ("Bool", "true", "1", False),
        # Binary
        ("BinaryEquals", "QmluYXJ5", "QmluYXJ5", True),
        ("BinaryEquals", "QmluYXJ5", "qmluYXJ5", False),
        ("BinaryEquals", "QmluYXJ=", "QmluYXI=", True),  # other unused bits, the same bytes
        ("BinaryEquals", "not base64!", "not base64!", False),
        ("BinaryEquals", "Qmlu!YXJ5", "QmluYXJ5", False),
        ("BinaryEquals", "QmluYXJ5", "Qmlu!YXJ5", False),
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
        ("IpAddress", "2001:db8::1/32", "2001:db8:ffff::", True),
        ("IpAddress", "2001:db8::/32", "2001:db9::", False),
        ("IpAddress", "2001:db8::1", "2001:db8::1", True),
        ("IpAddress", "2001:db8::1", "2001:db8::2", False),
        ("IpAddress", "::ffff:203.0.113.0/120", "203.0.113.9", True),  # IPv4 within IPv6 is the same host (RFC 4291)
        ("IpAddress", "::ffff:203.0.113.0/120", "203.0.114.0", False),
        ("IpAddress", "203.0.113.0/24", "::ffff:203.0.113.9", True),
        ("IpAddress", "203.0.113.0/24", "::ffff:203.0.114.9", False),
        ("NotIpAddress", "203.0.113.0/24", "::ffff:cb00:7109", False),
        ("IpAddress", "::ffff:0:0/96", "203.0.113.9", True),
        ("IpAddress", "::ffff:0:0/95", "203.0.113.9", False),
        ("IpAddress", "::fffe:203.0.113.9", "203.0.113.9", False),
        ("IpAddress", "::203.0.113.9", "203.0.113.9", False),
        ("IpAddress", "203.0.113.0/255.255.255.0", "203.0.113.1", False),  # "standard CIDR format"
        ("IpAddress", "203.0.113.0/0.0.0.255", "203.0.113.1", False),
        ("IpAddress", "203.0.113.0/33", "203.0.113.1", False),
        ("IpAddress", "203.0.113.0/", "203.0.113.0", False),
        ("IpAddress", "fe80::1%eth0", "fe80::1%eth0", False),
        ("IpAddress", "fe80::%1/64", "fe80::1", False),
        ("IpAddress", "203.0.113.0/24", "203.0.113.0/25", False),  # a request comes from one address
        ("IpAddress", "203.0.113.0/24", "203.0.113.7/32", True),
        ("IpAddress", "203.0.113.0/24", "203.000.113.7", False),
        ("IpAddress", "2001:db8::/32" + "0" * 100, "2001:db8::", False),
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
        ("ArnNotLike", "arn:aws:sns:*:124:topic", "arn:aws:sns:eu-west-1:123:topic", True),
        ("ArnNotEquals", "arn:aws:sns:*:123:topic", "arn:aws:sns:eu-west-1:123:topic", False),
        # the example of the page: StringLike lets a star reach over a colon, ArnLike does not
        ("StringLike", FINANCE, STORE, True),
        ("ArnLike", FINANCE, STORE, False),
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
        ("${my:one}", "a", False),  # nor does one that could have several
        ("${my:one, 'b'}", "b", True),
        ("${unclosed", "${unclosed", True),
        ("$5 off*", "$5 off!", True),
    ],
)
def test_policy_variables_are_filled_from_the_request(wanted: str, given: str, expected: bool) -> None:
    assert (
        holds({"StringLike": {"my:Key": wanted}}, {"my:Key": given, "my:two": ["a", "b"], "my:one": ["a"]}) == expected
    )


def test_a_negated_operator_holds_where_a_variable_cannot_be_filled() -> None:
    assert holds({"StringNotEquals": {"my:Key": ["b", "${my:missing}"]}}, {"my:Key": "a"})
    assert not holds({"StringNotEquals": {"my:Key": ["a", "${my:missing}"]}}, {"my:Key": "a"})
    assert holds({"StringNotEquals": {"my:Key": ["b", "${my:missing, 'c'}"]}}, {"my:Key": "a"})


def test_variables_are_ordinary_text_before_2012() -> None:
    condition: Json = {"StringEquals": {"my:Key": "${aws:username}"}}

    assert holds(condition, {"my:Key": "${aws:username}"}, version="2008-10-17")
    assert not holds(condition, {"my:Key": "ann"}, version="2008-10-17")


@pytest.mark.parametrize("operator", ["StringEquals", "StringEqualsIgnoreCase", "StringLike"])
def test_every_operator_of_strings_takes_variables(operator: str) -> None:
    assert holds({operator: {"my:Key": "${aws:username}"}}, {"my:Key": "ann"})
    assert not holds({operator: {"my:Key": "${my:missing}"}}, {"my:Key": "ann"})
    assert not holds({operator: {"my:Key": "${my:missing}"}}, {"my:Key": "${my:missing}"})


@pytest.mark.parametrize(
    ("operator", "value"),
    [("NumericEquals", "1"), ("DateEquals", "2026"), ("Bool", "true"), ("BinaryEquals", "QQ=="), ("IpAddress", "::1")],
)
def test_no_other_operator_takes_variables(operator: str, value: str) -> None:
    assert not holds({operator: {"my:Key": "${my:other}"}}, {"my:Key": value, "my:other": value})
    assert not holds({"Null": {"my:absent": "${my:other}"}}, {"my:other": "true"})


def test_a_variable_may_stand_in_an_arn() -> None:
    condition: Json = {"ArnLike": {"my:Key": "arn:aws:sns:*:${aws:PrincipalAccount}:${aws:username}-*"}}

    assert holds(condition, {"my:Key": f"arn:aws:sns:eu-west-1:{DELEGATE}:ann-topic"})
    assert holds(condition, {"my:Key": f"arn:aws:sns:eu-west-1:{DELEGATE}:ann-a:b"})
    assert not holds(condition, {"my:Key": f"arn:aws:sns:eu-west-1:{DELEGATE}:bob-topic"})
    assert not holds({"ArnLike": {"my:Key": "${aws:username}:a:b:c:d:e:f"}}, {"my:Key": "ann:a:b:c:d:e"})
    assert holds({"ArnLike": {"my:Key": "${aws:username}:a:b:c:d:e:f"}}, {"my:Key": "ann:a:b:c:d:e:f"})


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


FEDERATED = f"arn:aws:sts::{DELEGATE}:federated-user/ann"


@pytest.mark.parametrize(
    ("caller", "arn", "kind", "name"),
    [
        (USER, USER, "User", "ann"),
        (SESSION, f"arn:aws:iam::{DELEGATE}:role/sender", "AssumedRole", None),
        (FEDERATED, FEDERATED, "FederatedUser", None),
        (f"arn:aws:iam::{DELEGATE}:root", f"arn:aws:iam::{DELEGATE}:root", "Account", None),
        (DELEGATE, f"arn:aws:iam::{DELEGATE}:root", "Account", None),
        (f"arn:aws-cn:iam::{DELEGATE}:root", f"arn:aws-cn:iam::{DELEGATE}:root", "Account", None),
    ],
)
def test_every_kind_of_caller_has_its_keys(caller: str, arn: str, kind: str, name: str | None) -> None:
    """IAM User Guide, reference_policies_condition-keys (aws:PrincipalArn) and reference_policies_variables."""
    condition: Json = {"StringEquals": {"aws:PrincipalArn": arn, "aws:PrincipalType": kind}}

    assert holds(condition, caller_arn=caller)
    assert holds({"Null": {"aws:username": "false" if name else "true"}}, caller_arn=caller)
    assert holds({"StringEquals": {"aws:username": name or "x"}}, caller_arn=caller) == (name is not None)


def test_a_condition_alone_compares_from_with_its_case() -> None:
    (condition,) = (
        read(policy(Condition={"StringEquals": {"ses:FromAddress": "Ann@example.com"}})).statements[0].conditions
    )
    request = request_of(Send(action="ses:SendEmail", from_address="ann@example.com"))

    assert not condition_holds(condition, request, variables=False)
    assert condition_holds(condition, request, variables=False, from_case_sensitive=False)


def test_a_condition_without_regard_to_case_fills_variables_all_the_same() -> None:
    text = policy(Condition={"StringLike": {"ses:FromAddress": "${aws:UserName}@Example.com"}})
    send = Send(action="ses:SendEmail", caller_arn=USER, from_address="Ann@example.COM")

    assert evaluate([text], send, identity_arn=IDENTITY).decision is Decision.implicit_deny
    assert evaluate([text], send, identity_arn=IDENTITY, from_case_sensitive=False).decision is Decision.allow


def test_the_context_replaces_and_removes_derived_keys() -> None:
    assert holds({"StringEquals": {"aws:username": "bob"}}, {"AWS:USERNAME": "bob"})
    assert holds({"Null": {"aws:username": "true"}}, {"aws:username": None})
