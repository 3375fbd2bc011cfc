"""The owner's own script: in order, for each account, and quoted so that nothing in it can act."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from broker.policies.arns import parse_identity_arn
from broker.policies.deny import documents, shut_out
from broker.policies.plan import DENY, policy_name
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


# SES as far as Denies need it: it keeps each policy as a file, and refuses one that is there or names one of "unknown".
AWS = """#!/bin/sh
[ "$1" = sts ] && exec echo 111111111111
name=held/$8 policy=${10}
case $2 in
create-email-identity-policy)
    if [ -e "$name" ]; then
        echo "An error occurred (AlreadyExistsException): Policy $8 already exists" >&2
        exit 254
    fi
    for one in $(cat unknown); do
        case $policy in *$one*)
            echo "An error occurred (BadRequestException): Invalid principal in policy" >&2
            exit 254 ;;
        esac
    done
    echo "$policy" >"$name" ;;
delete-email-identity-policy)
    rm "$name" ;;
esac
"""


def run(script: str, place: Path) -> set[str]:
    """Runs it as a shell does, and answers with all whom SES's Denies shut out then."""
    path = os.pathsep.join([str(place), os.environ["PATH"]])
    subprocess.run(["/bin/sh"], input=script, cwd=place, env={"PATH": path}, text=True, check=True, timeout=60)
    held = [each.read_text() for each in (place / "held").iterdir()]
    return {who for number, text in enumerate(held) for who in shut_out({policy_name(DENY, number): text}, IDENTITY)}


@pytest.mark.parametrize(
    ("many", "unknown", "most"), [(1, 0, 1), (1, 1, 0), (2, 1, 1), (3, 0, 1), (3, 2, 1), (9, 2, 2), (100, 1, 6)]
)
def test_whom_ses_does_not_know_keeps_nobody_else_from_being_denied(
    tmp_path: Path, many: int, unknown: int, most: int
) -> None:
    """In few policies, as SES takes 20 for one identity; and run again it adds none."""
    accounts = [f"{number:012d}" for number in range(2, many + 2)]
    (tmp_path / "held").mkdir()
    (tmp_path / "aws").write_text(AWS)
    (tmp_path / "aws").chmod(0o755)
    (tmp_path / "unknown").write_text("\n".join(accounts[:unknown]))
    script = revoke_script([target(denied=tuple(accounts))])

    denied = run(script, tmp_path)
    names = {each.name for each in (tmp_path / "held").iterdir()}
    again = run(script, tmp_path)

    assert set(accounts[unknown:]) == denied == again
    assert len(names) <= most
    assert names == {each.name for each in (tmp_path / "held").iterdir()}
    lifts = [line.removeprefix("#   ") for line in script.splitlines() if line.startswith(("#   aws", "#   for"))]
    assert set() == run("\n".join([*lifts, ":"]), tmp_path)
