"""Roles are assumed under their trust policies, ExternalId included."""

import json
from typing import Any

import pytest

from tests.sandbox.aws import Account, Aws, allow, refusal


def trust(principal: str, external_id: str | None = None) -> dict[str, Any]:
    more = {"Condition": {"StringEquals": {"sts:ExternalId": external_id}}} if external_id else {}
    return allow("sts:AssumeRole", principal={"AWS": principal}, **more)


def denied(caller: str, role: str) -> tuple[str, str]:
    return "AccessDenied", f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}"


@pytest.fixture
def broker(aws: Aws) -> Account:
    return aws.account()


@pytest.fixture
def owner(aws: Aws) -> Account:
    return aws.account()


def test_a_role_is_assumed_with_its_external_id(owner: Account, broker: Account) -> None:
    role = owner.make_role("ses-broker", trust(f"arn:aws:iam::{broker.id}:root", "id-1"))

    keys = broker.assume(role, ExternalId="id-1")

    found = broker.client("sts", keys=keys).get_caller_identity()
    assert (owner.id, f"arn:aws:sts::{owner.id}:assumed-role/ses-broker/test-session") == (
        found["Account"],
        found["Arn"],
    )


@pytest.mark.parametrize("given", [{}, {"ExternalId": "id-2"}, {"ExternalId": "ID-1"}])
def test_a_missing_or_wrong_external_id_is_refused(owner: Account, broker: Account, given: dict[str, str]) -> None:
    role = owner.make_role("ses-broker", trust(broker.id, "id-1"))

    assert denied(broker.arn, role) == refusal(lambda: broker.assume(role, **given))


def test_an_account_that_is_not_trusted_is_refused(aws: Aws, owner: Account, broker: Account) -> None:
    role, stranger = owner.make_role("ses-broker", trust(broker.id, "id-1")), aws.account()

    assert denied(stranger.arn, role) == refusal(lambda: stranger.assume(role, ExternalId="id-1"))


def test_a_missing_role_is_refused_like_an_untrusted_caller(owner: Account, broker: Account) -> None:
    role = f"arn:aws:iam::{owner.id}:role/none"

    assert denied(broker.arn, role) == refusal(lambda: broker.assume(role))


def test_a_user_needs_its_own_permission_too(owner: Account, broker: Account) -> None:
    role = owner.make_role("ses-broker", trust(broker.id))
    arn, keys = broker.make_user("worker")
    _, allowed = broker.make_user("allowed", policy=allow("sts:AssumeRole", role))

    without = refusal(lambda: broker.client("sts", keys=keys).assume_role(RoleArn=role, RoleSessionName="test"))
    broker.client("sts", keys=allowed).assume_role(RoleArn=role, RoleSessionName="test")

    assert denied(arn, role) == without


def test_a_role_may_be_trusted_by_its_arn(owner: Account, broker: Account) -> None:
    own = broker.make_role("worker", trust(broker.id), policy=allow("sts:AssumeRole", "*"))
    role = owner.make_role("ses-broker", trust(own, "id-1"))
    worker = broker.client("sts", keys=broker.assume(own))

    worker.assume_role(RoleArn=role, RoleSessionName="test", ExternalId="id-1")

    assert refusal(lambda: broker.assume(role, ExternalId="id-1"))[0] == "AccessDenied"


def test_a_user_named_by_a_role_of_its_account_needs_no_permission(owner: Account) -> None:
    arn, keys = owner.make_user("worker")
    role = owner.make_role("sender", trust(arn))

    found = owner.client("sts", keys=keys).assume_role(RoleArn=role, RoleSessionName="test")

    assert f"arn:aws:sts::{owner.id}:assumed-role/sender/test" == found["AssumedRoleUser"]["Arn"]


def test_a_denial_in_the_trust_policy_wins(owner: Account, broker: Account) -> None:
    document = trust(broker.id)
    document["Statement"].append({"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"})
    role = owner.make_role("ses-broker", document)

    assert refusal(lambda: broker.assume(role))[0] == "AccessDenied"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"RoleSessionName": "with space"}, "ValidationError"),
        ({"DurationSeconds": 7200}, "ValidationError"),
        ({"Policy": "{"}, "MalformedPolicyDocument"),
        ({"Policy": json.dumps(allow(["ses:Get" + "x" * 3000], "*"))}, "PackedPolicyTooLarge"),
    ],
)
def test_malformed_requests_are_refused(owner: Account, broker: Account, given: dict[str, Any], code: str) -> None:
    role = owner.make_role("ses-broker", trust(broker.id))
    call = {"RoleArn": role, "RoleSessionName": "test"} | given

    assert code == refusal(lambda: broker.client("sts").assume_role(**call))[0]
