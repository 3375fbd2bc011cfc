"""Sentences about any policy say what SES would do, and their examples show it."""

import json
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.evaluate import Decision, evaluate
from broker.policies.explain_policies import Explanation, explain_policies
from broker.policies.terms import Terms
from tests.policies.examples import (
    ADDRESS_IDENTITY,
    DELEGATE,
    IDENTITY,
    NOW,
    STRANGER,
    Json,
    compiled,
    conditional,
    good_terms,
    policy,
)
from tests.policies.test_lint_examples import EXAMPLES


def explained(*texts: str) -> Explanation:
    return explain_policies(texts, identity_arn=IDENTITY, now=NOW)


def may(*texts: str) -> list[str]:
    return [claim.sentence for claim in explained(*texts).may]


def cannot(*texts: str) -> list[str]:
    return [claim.sentence for claim in explained(*texts).cannot]


@given(good_terms())
def test_the_examples_show_what_the_sentences_say(agreed: Terms) -> None:
    """For what we compile, every sentence has an example, but for a limit that shuts nobody out."""
    text = compiled(agreed)
    said = explained(text)

    assert all(claim.example for claim in said.may)
    for claims, wanted in ((said.may, True), (said.cannot, False)):
        for claim in claims:
            if claim.example is None:
                assert re.search(r"every recipient matches (.* )?\*([, ]|\.$)", claim.sentence)
            else:
                decision = evaluate([text], claim.example, identity_arn=IDENTITY).decision
                assert wanted is (decision is Decision.allow)


@given(good_terms(), good_terms(), st.sampled_from(["Allow", "Deny"]))
def test_examples_hold_for_all_policies_together(one: Terms, other: Terms, effect: str) -> None:
    texts = [compiled(one), compiled(other).replace('"Allow"', f'"{effect}"')]
    said = explained(*texts)

    for claims, wanted in ((said.may, True), (said.cannot, False)):
        for claim in claims:
            if claim.example is not None:
                decision = evaluate(texts, claim.example, identity_arn=IDENTITY).decision
                assert wanted is (decision is Decision.allow)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        # IAM User Guide, reference_policies_elements_condition_operators.
        (
            {"StringEquals": {"ses:FromAddress": ["a@example.com", "b@example.com"]}},
            "From is a@example.com or b@example.com",
        ),
        ({"StringLike": {"ses:FromDisplayName": "Marketing"}}, "the From name is Marketing"),
        ({"StringLike": {"ses:FromDisplayName": "Big *"}}, 'the From name matches "Big *"'),
        ({"StringEqualsIgnoreCase": {"ses:FromAddress": "a@b.com"}}, "From is, in any letter case, a@b.com"),
        (
            {"StringNotEquals": {"ses:FeedbackAddress": "a@b.com"}},
            "the Return-Path is not a@b.com (a request without one passes)",
        ),
        (
            {"StringNotLike": {"ses:FeedbackAddress": ["a@*", "b@*"]}, "Null": {"ses:FeedbackAddress": "false"}},
            "the Return-Path does not match a@* or b@* and the request has the Return-Path",
        ),
        ({"StringEqualsIfExists": {"ses:FromDisplayName": "x"}}, "the From name is x (a request without one passes)"),
        ({"Null": {"ses:FeedbackAddress": "true"}}, "the request has no Return-Path"),
        ({"Null": {"ses:Recipients": "false"}}, "the request has a recipient"),
        (
            {"ForAllValues:StringLike": {"ses:Recipients": "*@a.org"}},
            "every recipient matches *@a.org (a request without recipients passes)",
        ),
        (
            {"ForAllValues:StringLike": {"ses:Recipients": "*@a.org"}, "Null": {"ses:Recipients": "false"}},
            "every recipient matches *@a.org and the request has a recipient",
        ),
        ({"ForAnyValue:StringLike": {"ses:Recipients": "*@a.org"}}, "at least one recipient matches *@a.org"),
        ({"ForAnyValue:StringNotLike": {"ses:Recipients": "*@a.org"}}, "at least one recipient does not match *@a.org"),
        (
            {"ForAllValues:StringNotLike": {"ses:Recipients": "*@a.org"}},
            "every recipient does not match *@a.org (a request without recipients passes)",
        ),
        ({"Bool": {"aws:SecureTransport": "true"}}, "the call comes over TLS"),
        ({"Bool": {"aws:SecureTransport": "false"}}, "the call comes without TLS"),
        ({"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "::1"]}}, "the caller's IP is within 203.0.113.0/24 or ::1"),
        (
            {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}},
            "the caller's IP is not within 203.0.113.0/24 (a request without one passes)",
        ),
        ({"DateLessThan": {"aws:CurrentTime": "2026-07-01"}}, "it is before 1 Jul 2026 00:00 UTC"),
        (
            {"DateLessThanEquals": {"aws:CurrentTime": "2026-07-01T02:00:00+02:00"}},
            "it is until and including 1 Jul 2026 00:00 UTC",
        ),
        ({"DateGreaterThan": {"aws:EpochTime": "1772366400"}}, "it is after 1 Mar 2026 12:00 UTC"),
        ({"DateGreaterThanEquals": {"aws:CurrentTime": "2026-02-01T00:00Z"}}, "it is from 1 Feb 2026 00:00 UTC"),
        ({"NumericLessThan": {"aws:EpochTime": "99"}}, "aws:EpochTime is below 99"),
        (
            {"ArnLike": {"aws:SourceArn": "arn:aws:x:*:1:y"}},
            "the resource that a service acts for matches arn:aws:x:*:1:y",
        ),
    ],
)
def test_a_condition_is_put_into_words(condition: dict[str, Json], expected: str) -> None:
    [said] = may(conditional(condition))

    assert said == f"Account {DELEGATE} may use SendEmail, if {expected}."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Account 222222222222 may use SendEmail without any condition."),
        ({"Principal": "*"}, "Anybody may use SendEmail without any condition."),
        (
            {"Principal": {"Service": "x.amazonaws.com"}},
            "The service x.amazonaws.com may use SendEmail without any condition.",
        ),
        (
            {"Principal": {"AWS": "AIDACKCEVSQ6C2EXAMPLE"}},
            "A deleted principal (AIDACKCEVSQ6C2EXAMPLE) may use SendEmail without any condition.",
        ),
        (
            {"Principal": {"AWS": f"arn:aws:sts::{DELEGATE}:assumed-role/sender/i-0"}},
            "Session sender of account 222222222222 may use SendEmail without any condition.",
        ),
        (
            {"Principal": None, "NotPrincipal": {"AWS": STRANGER}},
            "Everybody but account 333333333333 may use SendEmail without any condition.",
        ),
        (
            {"Action": None, "NotAction": ["ses:SendBounce"]},
            "Account 222222222222 may use every action but SendBounce without any condition.",
        ),
        ({"Action": "*"}, "Account 222222222222 may use every action without any condition."),
        ({"Action": "ses:Send*"}, "Account 222222222222 may use whatever fits Send* without any condition."),
    ],
)
def test_a_statement_is_put_into_words(changes: dict[str, Json], expected: str) -> None:
    assert may(policy(**changes)) == [expected]


def test_what_is_refused_is_said_too() -> None:
    text = conditional({"StringEquals": {"ses:FromAddress": "a@example.com"}})

    assert cannot(text) == [
        "Statement 0 permits nothing unless From is a@example.com.",
        (
            "Nobody may use SendRawEmail, SendTemplatedEmail, SendBulkTemplatedEmail or SendBulkEmail"
            " and nobody can send over SMTP."
        ),
        "Nobody else may do anything by these policies.",
    ]


def test_an_example_shows_the_refused_send_itself() -> None:
    """As a reader sees it: an address for an address, and no field that another one takes back."""
    conditions: dict[str, Json] = {
        "StringLike": {"ses:FromAddress": "a@example.com"},
        "IpAddress": {"aws:SourceIp": "203.0.113.0/24"},
        "Bool": {"aws:SecureTransport": "true"},
    }
    shown = [claim.example for claim in explained(conditional(conditions)).cannot][:3]

    sender, network, tls = [each for each in shown if each is not None]
    assert sender.from_address is not None
    assert "@" in sender.from_address
    assert sender.from_address != "a@example.com"
    assert network.source_ip is not None
    assert not network.source_ip.startswith("203.0.113.")
    assert tls.secure_transport is False
    assert [None] * 3 == [sender.context, network.context, tls.context]


def test_a_deny_is_said_first_and_taken_from_every_allow() -> None:
    deny = policy(Effect="Deny", Principal="*", Condition={"StringLike": {"ses:FromAddress": "ceo@*"}})

    assert may(policy(), deny) == [
        "Account 222222222222 may use SendEmail without any condition; what is denied comes off."
    ]
    assert cannot(policy(), deny)[0] == "Nobody may use SendEmail when From matches ceo@*, whatever else is allowed."


def test_an_allow_that_is_denied_altogether_has_no_example() -> None:
    assert [None] == [claim.example for claim in explained(policy(), policy(Effect="Deny")).may]


def test_a_statement_that_never_holds_permits_nothing() -> None:
    text = conditional(
        {
            "DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"},
            "DateGreaterThan": {"aws:CurrentTime": "2026-02-01T00:00:00Z"},
        }
    )

    assert may(text) == ["Statement 0 permits nothing: its conditions never hold together."]


def test_bulk_under_an_address_condition_is_not_promised() -> None:
    """SES gives SendBulkEmail no address keys (Service Authorization Reference, Amazon SES v2)."""
    text = policy(
        Action=["ses:SendBulkTemplatedEmail", "ses:SendBulkEmail"],
        Condition={"StringEquals": {"ses:FromAddress": "a@example.com"}},
    )

    assert may(text) == ["Account 222222222222 may use SendBulkTemplatedEmail, if From is a@example.com."]
    assert cannot(text)[0].startswith("Statement 0 names SendBulkEmail and never permits it")


def test_a_statement_about_another_identity_says_nothing() -> None:
    assert may(policy(Resource=ADDRESS_IDENTITY)) == []


@pytest.mark.parametrize(
    ("statements", "identity_arn"),
    [pytest.param(each[1], each[2], id=each[0]) for each in EXAMPLES if "refused" not in each[0]],
)
def test_aws_own_examples_are_explained(statements: list[dict[str, Json]], identity_arn: str) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": statements})
    said = explain_policies([text], identity_arn=identity_arn, now=NOW + timedelta(days=1))

    for claim in (*said.may, *said.cannot):
        assert claim.sentence.endswith(".")
        assert claim.sentence[0].isupper()
