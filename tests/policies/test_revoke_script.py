"""The owner's own script: in order, for each account, and quoted so that nothing in it can act."""

import shlex
from typing import Any

import pytest

from broker.policies.arns import parse_identity_arn
from broker.policies.deny import documents
from broker.policies.plan import policy_name
from broker.policies.revoke_script import Target, deny_name, revoke_script
from broker.policies.validate import refusals
from broker.policies.withdraw import Withdrawal
from tests.policies.examples import DELEGATE, GRANT, IDENTITY
from tests.policies.test_withdraw import OTHER, shared

ELSEWHERE = "arn:aws:ses:us-east-1:333333333333:identity/example.org"


def target(arn: str = IDENTITY, **more: Any) -> Target:
    given: dict[str, Any] = {"going": Withdrawal((policy_name(1, 1),), {}, ()), "denied": (DELEGATE,), **more}
    return Target(identity=parse_identity_arn(arn), grants=(GRANT,), **given)


def commands(script: str) -> list[list[str]]:
    """The calls of SES that a shell would make."""
    lines = [line for line in script.splitlines() if line.startswith("aws sesv2")]
    return [shlex.split(line.removesuffix(" || :")) for line in lines]


def test_in_an_account_every_deny_comes_before_every_removal() -> None:
    script = revoke_script(
        [target(), target(ELSEWHERE), target("arn:aws:ses:us-east-1:111111111111:identity/b.example.com")]
    )

    assert [
        ("create-email-identity-policy", "eu-west-1"),
        ("create-email-identity-policy", "us-east-1"),
        ("delete-email-identity-policy", "eu-west-1"),
        ("delete-email-identity-policy", "us-east-1"),
        ("create-email-identity-policy", "us-east-1"),
        ("delete-email-identity-policy", "us-east-1"),
    ] == [(words[2], words[words.index("--region") + 1]) for words in commands(script)]
    assert "# Accounts: 111111111111, 333333333333." in script


def test_a_shared_policy_is_put_without_those_who_go_and_not_deleted() -> None:
    going = Withdrawal((), {policy_name(1, 1): shared(OTHER)}, ())

    (words,) = commands(revoke_script([target(going=going, denied=())]))

    assert ["update-email-identity-policy", policy_name(1, 1), shared(OTHER)] == [words[2], words[8], words[10]]


def test_where_a_deny_would_shut_out_others_there_is_none_and_it_says_so() -> None:
    script = revoke_script([target(denied=())])

    assert "No Deny" in script
    assert ["delete-email-identity-policy"] == [words[2] for words in commands(script)]


def test_what_is_left_is_named_and_cannot_act() -> None:
    script = revoke_script([target(residual=("Payroll\nrm -rf /",), going=Withdrawal((), {}, (policy_name(2, 1),)))])

    assert '"Payroll\\nrm -rf /" is not the broker\'s' in script
    assert not [line for line in script.splitlines() if line.startswith("rm")]
    assert f"{policy_name(2, 1)} cannot be read" in script


@pytest.mark.parametrize("name", ["o'brien@example.com", "`id`@example.com", "$(id)@example.com", "a;id@example.com"])
def test_an_address_cannot_leave_its_quotes(name: str) -> None:
    script = revoke_script([target(f"arn:aws:ses:eu-west-1:111111111111:identity/{name}")])

    assert {name} == {words[words.index("--email-identity") + 1] for words in commands(script)}
    (look,) = [line for line in script.splitlines() if line.startswith("held=")]
    assert name in shlex.split(look.removeprefix("held=$(").partition(") || ")[0])


def test_the_deny_has_a_name_that_ses_takes() -> None:
    (deny,) = documents([DELEGATE], identity_arn=IDENTITY)

    assert [] == refusals(deny, identity_arn=IDENTITY, name=deny_name(deny))
