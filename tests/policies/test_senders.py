"""Who may send by policies that are not ours is read off what they mean."""

from datetime import UTC, datetime

import pytest

from broker.policies.senders import Sender, senders, together
from tests.policies.examples import DELEGATE, END, IDENTITY, NOW, ROLE, STRANGER, Json, conditional, policy
from tests.policies.test_adopt import several

UNTIL: dict[str, Json] = {"DateLessThan": {"aws:CurrentTime": "2026-03-31T12:00:00Z"}}


def found(**policies: str) -> list[Sender]:
    return senders(policies, identity_arn=IDENTITY, now=NOW)


def test_a_sender_is_named_with_its_limits() -> None:
    document = policy(
        Principal={"AWS": f"arn:aws:iam::{DELEGATE}:root"},
        Action=["ses:SendEmail", "ses:GetEmailIdentity"],
        Condition={**UNTIL, "StringLike": {"ses:FromAddress": ["a@example.com", "b*@example.com"]}},
    )

    expected = Sender(
        principal=DELEGATE,
        kind="account",
        account_id=DELEGATE,
        actions=("ses:SendEmail",),
        from_addresses=("a@example.com", "b*@example.com"),
        conditions=("it is before 31 Mar 2026 12:00 UTC", "From matches a@example.com or b*@example.com"),
        ends_at=END,
        policies=("agency",),
    )
    assert [expected] == found(agency=document)


@pytest.mark.parametrize(
    ("document", "kind", "account"),
    [
        (policy(Principal="*"), "anybody", None),
        (policy(Principal=None, NotPrincipal={"AWS": STRANGER}), "anybody", None),
        (policy(Principal={"Service": "cognito-idp.amazonaws.com"}), "service", None),
        (policy(Principal={"AWS": ROLE}), "role", DELEGATE),
        (policy(Principal={"AWS": "AIDAJQABLZS4A3QDU576Q"}), "deleted", None),
        (policy(Action="ses:Send*"), "account", DELEGATE),
        (policy(Action=None, NotAction="ses:SendBounce"), "account", DELEGATE),
        (conditional({"DateLessThan": {"aws:CurrentTime": ["2020-01-01", "2030-01-01"]}}), "account", DELEGATE),
        (conditional({"DateGreaterThan": {"aws:CurrentTime": "2026-05-01"}}), "account", DELEGATE),
    ],
)
def test_everybody_who_may_send_is_found(document: str, kind: str, account: str | None) -> None:
    assert [(kind, account)] == [(each.kind, each.account_id) for each in found(old=document)]


@pytest.mark.parametrize(
    "document",
    [
        policy(Effect="Deny"),
        policy(Action="ses:GetEmailIdentity"),
        policy(Resource="arn:aws:ses:eu-west-1:111111111111:identity/other.example"),
        conditional({"DateLessThan": {"aws:CurrentTime": "2026-02-01"}}),
        conditional(
            {
                "DateLessThan": {"aws:CurrentTime": "2026-04-01"},
                "DateGreaterThan": {"aws:CurrentTime": "2026-05-01"},
            }
        ),
        policy(Action="ses:SendBulkEmail", Condition={"StringLike": {"ses:FromAddress": "*@example.com"}}),
        several({}, {"Effect": "Deny", "Principal": "*", "Action": "*"}),
        "not a policy",
    ],
)
def test_who_can_never_send_is_left_out(document: str) -> None:
    assert [] == found(old=document)


def test_a_deny_in_another_policy_counts() -> None:
    assert [] == found(old=policy(), ban=policy(Effect="Deny", Action="ses:*"))


def test_a_negated_from_is_no_list_of_addresses() -> None:
    (sender,) = found(old=conditional({"StringNotLike": {"ses:FromAddress": "ceo@*"}}))

    assert () == sender.from_addresses
    assert "does not match ceo@*" in sender.conditions[0]


def test_each_principal_is_summed_up_once() -> None:
    """The widest of each: the last end, every action, any From where one policy does not limit it."""
    limited = conditional({**UNTIL, "StringEquals": {"ses:FromAddress": "a@example.com"}})
    later = policy(Action="ses:SendRawEmail", Condition={"DateLessThan": {"aws:CurrentTime": "2027-01-01"}})

    (one,) = together(found(one=limited, two=later))

    assert (("ses:SendEmail", "ses:SendRawEmail"), (), ("one", "two")) == (
        one.actions,
        one.from_addresses,
        one.policies,
    )
    assert datetime(2027, 1, 1, tzinfo=UTC) == one.ends_at
    assert together(found(one=limited, two=policy()))[0].ends_at is None
