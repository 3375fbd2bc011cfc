"""The table of permissions and what is made from it."""

import json

import pytest

from broker.connections.permissions import TABLE, Form, Role, unscoped
from broker.connections.role_documents import role_policy, session_policy, trust_policy
from broker.gateways import ses, ses_sets

ACCOUNT = "111111111111"
IDENTITY = f"arn:aws:ses:eu-west-1:{ACCOUNT}:identity/example.com"


@pytest.mark.parametrize("role", list(Role))
def test_a_role_gets_exactly_the_actions_of_its_rows(role: Role) -> None:
    policy = role_policy(role, ACCOUNT, "aws")

    granted = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert {row.action for row in TABLE if row.role is role and not row.by_hand} == granted


@pytest.mark.parametrize("role", list(Role))
def test_only_rights_without_a_resource_level_are_given_on_everything(role: Role) -> None:
    on_everything = [s for s in role_policy(role, ACCOUNT, "aws")["Statement"] if s["Resource"] == "*"]

    assert [{row.action for row in unscoped(role)}] == [set(s["Action"]) for s in on_everything]


def test_an_owner_gives_no_right_to_send_and_none_outside_ses_that_it_cannot_leave_out() -> None:
    rows = [row for row in TABLE if row.role is Role.OWNER]

    assert not any("Send" in row.action or "Publish" in row.action for row in rows)
    assert {"sns:Subscribe", "sns:GetTopicAttributes", "sns:Unsubscribe"} == {
        row.action for row in rows if not row.action.startswith("ses:")
    }
    assert all(row.optional for row in rows if not row.action.startswith("ses:"))


def test_a_session_that_listens_can_touch_one_topic_only() -> None:
    topic = f"arn:aws:sns:eu-west-1:{ACCOUNT}:bounces"
    (statement,) = json.loads(session_policy(ses.LISTEN, [topic]))["Statement"]

    assert (topic, ["sns:GetTopicAttributes", "sns:Subscribe"]) == (statement["Resource"], statement["Action"])


@pytest.mark.parametrize(
    ("partition", "resource"),
    [
        ("aws", f"arn:aws:ses:*:{ACCOUNT}:identity/*"),
        ("aws-us-gov", f"arn:aws-us-gov:ses:*:{ACCOUNT}:identity/*"),
        ("aws-cn", f"arn:aws-cn:ses:*:{ACCOUNT}:identity/*"),
    ],
)
def test_resources_are_in_the_partition_of_the_installation(partition: str, resource: str) -> None:
    policy = role_policy(Role.OWNER, ACCOUNT, partition)

    assert resource == policy["Statement"][0]["Resource"]


def test_what_a_delegate_gives_is_limited_to_what_carries_our_prefix() -> None:
    policy = role_policy(Role.DELEGATE, ACCOUNT, "aws")

    assert {
        f"arn:aws:ses:*:{ACCOUNT}:configuration-set/delegation-broker-*",
        f"arn:aws:sns:*:{ACCOUNT}:delegation-broker-*",
        f"arn:aws:iam::{ACCOUNT}:role/delegation-broker-*",
        "arn:aws:ses:*:*:identity/*",  # only to send, and only to the simulator
        "*",
    } == {statement["Resource"] for statement in policy["Statement"]}


def test_a_role_can_be_passed_to_ses_only() -> None:
    """Service Authorization Reference, Amazon SES: the operation comes with iam:PassedToService ses.amazonaws.com."""
    statements = role_policy(Role.DELEGATE, ACCOUNT, "aws")["Statement"]

    assert [{"StringEquals": {"iam:PassedToService": "ses.amazonaws.com"}}] == [
        statement.get("Condition") for statement in statements if "iam:PassRole" in statement["Action"]
    ]


def test_a_session_passes_a_role_only_where_one_is_named() -> None:
    held, role = f"arn:aws:ses:eu-west-1:{ACCOUNT}:configuration-set/x", f"arn:aws:iam::{ACCOUNT}:role/x"
    without = json.loads(session_policy(ses_sets.WRITE, [held]))["Statement"]
    given = json.loads(session_policy(ses_sets.WRITE, [held, role]))["Statement"]

    assert [held] == [statement["Resource"] for statement in without]
    assert [held, role] == [statement["Resource"] for statement in given]
    assert ["iam:PassRole"] == given[1]["Action"]
    assert "Condition" in given[1]


def test_trust_names_our_account_and_demands_the_external_id() -> None:
    statement = trust_policy("999999999999", "aws", "secret-of-this-account")["Statement"][0]

    assert {"AWS": "arn:aws:iam::999999999999:root"} == statement["Principal"]
    assert {"StringEquals": {"sts:ExternalId": "secret-of-this-account"}} == statement["Condition"]


def test_a_session_that_writes_can_touch_one_identity_only() -> None:
    statements = json.loads(session_policy(ses.WRITE, [IDENTITY]))["Statement"]

    assert [IDENTITY] == [statement["Resource"] for statement in statements]
    assert [["ses:CreateEmailIdentityPolicy", "ses:DeleteEmailIdentityPolicy"]] == [s["Action"] for s in statements]


def test_a_session_that_reads_cannot_write() -> None:
    statements = json.loads(session_policy(ses.READ, [IDENTITY]))["Statement"]

    actions = {action for statement in statements for action in statement["Action"]}
    assert {row.action for row in TABLE if row.operation in ses.READ} == actions


def test_a_session_policy_fits_what_sts_takes() -> None:
    """AssumeRole takes 2,048 characters (STS API Reference); the longest domain has 253."""
    longest = IDENTITY.replace("example.com", "x" * 253)

    assert len(session_policy(ses.READ, [longest])) < 2048


def test_a_scoped_operation_needs_a_resource_of_its_form() -> None:
    with pytest.raises(ValueError, match="No resource is of the form identity"):
        session_policy(["GetEmailIdentity"], ["arn:aws:sns:eu-west-1:111111111111:topic"])


def test_an_operation_outside_the_table_has_no_session() -> None:
    with pytest.raises(ValueError, match="DeleteEmailIdentity is not in the table"):
        session_policy(["DeleteEmailIdentity"], [IDENTITY])


def test_the_owner_is_told_of_every_right_that_cannot_be_limited() -> None:
    """SetIdentityNotificationTopic and its kin know no resource level (Service Authorization Reference)."""
    assert {row.action for row in TABLE if row.form is Form.ANY and row.role is Role.OWNER} == {
        right.action for right in unscoped(Role.OWNER)
    }
    assert "ses:SetIdentityNotificationTopic" in {right.action for right in unscoped(Role.OWNER)}
