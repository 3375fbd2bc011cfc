"""Policies that are not ours and still let the delegate send are named after a revoke."""

from datetime import timedelta

import pytest

from broker.policies.residual import still_allowed, within
from broker.policies.terms import Action
from tests.policies.examples import DELEGATE, IDENTITY, NOW, ROLE, SESSION, STRANGER, USER, Json, conditional, policy


def found(*texts: str, principal: str = DELEGATE, action: Action | str = Action.send) -> list[str]:
    observed = {f"p{number}": text for number, text in enumerate(texts)}
    return still_allowed(observed, principals=[principal], actions=[action], identity_arn=IDENTITY, now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Principal": {"AWS": f"arn:aws:iam::{DELEGATE}:root"}},
        {"Principal": {"AWS": USER}},  # a user of the account that is asked about
        {"Principal": "*"},
        {"Principal": None, "NotPrincipal": {"AWS": STRANGER}},
        {"Action": "ses:*"},
        {"Action": ["ses:SendRawEmail", "SES:SENDEMAIL"]},
        {"Action": None, "NotAction": "ses:SendBounce"},
        {"Condition": {"StringEquals": {"ses:FromAddress": "somebody@example.com"}}},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": (NOW + timedelta(seconds=1)).isoformat()}}},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": ["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"]}}},
        {"Condition": {"DateGreaterThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
        {"Condition": {"DateLessThanIfExists": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}},
        {"Condition": {"DateLessThanEquals": {"aws:CurrentTime": NOW.isoformat()}}},
        {"Condition": {"DateLessThan": {"aws:TokenIssueTime": "2020-01-01T00:00:00Z"}}},
    ],
)
def test_an_allow_that_may_still_work_is_named(changes: dict[str, Json]) -> None:
    assert found(policy(**changes)) == ["p0"]


@pytest.mark.parametrize(
    "changes",
    [
        {"Effect": "Deny"},
        {"Principal": {"AWS": STRANGER}},
        {"Principal": {"Service": "cognito-idp.amazonaws.com"}},
        {"Principal": None, "NotPrincipal": {"AWS": DELEGATE}},
        {"Action": "ses:SendRawEmail"},
        {"Action": "ses:GetEmailIdentity"},
        {"Resource": IDENTITY.replace("example", "other")},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": NOW.isoformat()}}},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": []}}},
        {"Condition": {"DateLessThanEquals": {"aws:EpochTime": int(NOW.timestamp()) - 1}}},
    ],
)
def test_what_cannot_let_them_send_is_not_named(changes: dict[str, Json]) -> None:
    assert found(policy(**changes)) == []


def test_our_own_policies_are_not_residual() -> None:
    observed = {"delegation-broker-0-1": policy(), "Newsletter": policy()}

    left = still_allowed(observed, principals=[DELEGATE], actions=["ses:SendEmail"], identity_arn=IDENTITY, now=NOW)

    assert left == ["Newsletter"]


def test_a_policy_that_cannot_be_read_is_named() -> None:
    assert found("not json") == ["p0"]


def test_an_unconditional_deny_shuts_an_allow() -> None:
    assert found(policy(), policy(Effect="Deny", Action="ses:*")) == []
    assert found(policy(Principal={"AWS": USER}), policy(Effect="Deny", Principal={"AWS": USER})) == []


@pytest.mark.parametrize(
    "deny",
    [
        policy(Effect="Deny", Action="ses:SendRawEmail"),
        policy(Effect="Deny", Principal={"AWS": USER}),
        policy(Effect="Deny", Principal=None, NotPrincipal={"AWS": STRANGER}),
        policy(Effect="Deny", Principal=None, NotPrincipal={"AWS": DELEGATE}),
        policy(Effect="Deny", Resource=IDENTITY.replace("example", "other")),
        conditional({"Bool": {"aws:SecureTransport": "false"}}, effect="Deny"),
    ],
)
def test_a_deny_that_leaves_a_gap_does_not_count(deny: str) -> None:
    assert found(policy(), deny) == ["p0"]


def test_bulk_counts_with_either_of_its_actions() -> None:
    assert found(policy(Action="ses:SendBulkEmail"), action=Action.send_bulk) == ["p0"]


def test_a_role_is_still_let_in_by_its_account_and_by_a_session_of_it() -> None:
    assert found(policy(), principal=ROLE) == ["p0"]
    assert found(policy(Principal={"AWS": SESSION}), principal=ROLE) == ["p0"]


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("ann@example.com", "example.com", True),
        ("mail.example.com", "example.com", True),
        ("ann@mail.Example.com", "example.COM", True),
        ("example.com", "example.com", False),
        ("example.com", "mail.example.com", False),
        ("badexample.com", "example.com", False),
        ("ann@example.com", "bob@example.com", False),
        ("mail.example.com", "ann@example.com", False),
    ],
)
def test_an_address_or_subdomain_is_within_its_domain(inner: str, outer: str, *, expected: bool) -> None:
    assert expected is within(inner, outer)
