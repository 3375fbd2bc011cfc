"""Sending authorization policies: stored, validated, limited and read back as SES does it."""

import json
from typing import Any

import pytest

from tests.sandbox.aws import Account, Aws, allow, refusal

ARN = "arn:aws:ses:eu-west-1:{}:identity/example.com"


@pytest.fixture
def delegate(aws: Aws) -> Account:
    return aws.account()


@pytest.fixture
def owner(aws: Aws) -> Account:
    account = aws.account()
    account.verify("example.com")
    return account


def policy(owner: Account, delegate: Account, **more: Any) -> dict[str, Any]:
    return allow(["ses:SendEmail"], ARN.format(owner.id), principal={"AWS": f"arn:aws:iam::{delegate.id}:root"}, **more)


def create(owner: Account, document: dict[str, Any], name: str = "partner") -> None:
    owner.client("sesv2").create_email_identity_policy(
        EmailIdentity="example.com", PolicyName=name, Policy=json.dumps(document, indent=4)
    )


def stored(owner: Account) -> dict[str, str]:
    found: dict[str, str] = owner.client("sesv2").get_email_identity_policies(EmailIdentity="example.com")["Policies"]
    return found


def test_a_policy_is_read_back_without_insignificant_whitespace(owner: Account, delegate: Account) -> None:
    document = policy(owner, delegate)

    create(owner, document)

    assert {"partner": json.dumps(document, separators=(",", ":"))} == stored(owner)


def test_the_identity_shows_its_policies(owner: Account, delegate: Account) -> None:
    create(owner, policy(owner, delegate))

    found = owner.client("sesv2").get_email_identity(EmailIdentity="example.com")

    assert stored(owner) == found["Policies"]


def test_a_name_is_created_once(owner: Account, delegate: Account) -> None:
    create(owner, policy(owner, delegate))

    assert refusal(lambda: create(owner, policy(owner, delegate)))[0] == "AlreadyExistsException"


def test_a_policy_is_updated_and_deleted(owner: Account, delegate: Account) -> None:
    v2 = owner.client("sesv2")
    create(owner, policy(owner, delegate))
    changed = policy(owner, delegate) | {"Id": "changed"}

    v2.update_email_identity_policy(EmailIdentity="example.com", PolicyName="partner", Policy=json.dumps(changed))
    after_update = stored(owner)
    v2.delete_email_identity_policy(EmailIdentity="example.com", PolicyName="partner")

    assert {"partner": json.dumps(changed, separators=(",", ":"))} == after_update
    assert stored(owner) == {}


def test_unknown_identities_and_names_are_not_found(owner: Account, delegate: Account) -> None:
    v2 = owner.client("sesv2")
    text = json.dumps(policy(owner, delegate))

    unknown = refusal(lambda: v2.get_email_identity_policies(EmailIdentity="example.net"))
    missing = refusal(
        lambda: v2.update_email_identity_policy(EmailIdentity="example.com", PolicyName="none", Policy=text)
    )

    assert unknown == ("NotFoundException", "Email identity example.net does not exist.")
    assert missing == ("NotFoundException", "Policy none does not exist.")


def test_an_identity_has_room_for_twenty_policies(owner: Account, delegate: Account) -> None:
    for number in range(20):
        create(owner, policy(owner, delegate), f"policy-{number}")

    assert refusal(lambda: create(owner, policy(owner, delegate), "policy-20"))[0] == "LimitExceededException"


@pytest.mark.parametrize(
    "change",
    [
        {"Resource": "*"},
        {"Resource": "arn:aws:ses:eu-west-1:123456789012:identity/example.com"},
        {"Principal": {"AWS": "nobody"}},
        {"Principal": {"AWS": "999999999999"}},
        {"Principal": {"AWS": "arn:aws:iam::{delegate}:user/missing"}},
        {"Principal": {"AWS": "arn:aws:iam::{delegate}:role/missing"}},
        {"Condition": {"StringEquals": {"AWS:SourceAccountt": "1"}}},
        {"Condition": {"StringIs": {"ses:FromAddress": "a@example.com"}}},
        {"Effect": "Permit"},
        {"Action": "s3:GetObject"},
        {"Sid": "x" * 4096},
    ],
)
def test_what_ses_cannot_use_is_refused_and_not_stored(
    owner: Account, delegate: Account, change: dict[str, Any]
) -> None:
    text = json.dumps(change).replace("{delegate}", delegate.id)

    code, _ = refusal(lambda: create(owner, policy(owner, delegate, **json.loads(text))))

    assert code == "BadRequestException"
    assert stored(owner) == {}


def test_names_have_letters_digits_dashes_and_underscores(owner: Account, delegate: Account) -> None:
    code, message = refusal(lambda: create(owner, policy(owner, delegate), "a.b"))

    assert code == "BadRequestException"
    assert "Policy names must only include alpha-numeric characters, dashes, and underscores." in message


def test_users_and_roles_that_exist_are_principals(owner: Account, delegate: Account) -> None:
    user, _ = delegate.make_user("mailer")
    role = delegate.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": delegate.id}))

    create(owner, policy(owner, delegate, Principal={"AWS": [user, role, delegate.arn]}))

    assert [user, role, delegate.arn] == json.loads(stored(owner)["partner"])["Statement"][0]["Principal"]["AWS"]


def test_both_versions_of_the_api_share_the_policies(owner: Account, delegate: Account) -> None:
    v1 = owner.client("ses")
    text = json.dumps(policy(owner, delegate), separators=(",", ":"))

    v1.put_identity_policy(Identity="example.com", PolicyName="one", Policy=text)
    v1.put_identity_policy(Identity="example.com", PolicyName="one", Policy=text)
    listed = v1.list_identity_policies(Identity="example.com")["PolicyNames"]
    read = v1.get_identity_policies(Identity="example.com", PolicyNames=["one", "none"])["Policies"]
    seen = stored(owner)
    v1.delete_identity_policy(Identity="example.com", PolicyName="one")
    v1.delete_identity_policy(Identity="example.com", PolicyName="one")

    assert listed == ["one"]
    assert {"one": text} == read == seen
    assert stored(owner) == {}


def test_policies_go_with_the_identity(owner: Account, delegate: Account) -> None:
    create(owner, policy(owner, delegate))

    owner.client("sesv2").delete_email_identity(EmailIdentity="example.com")
    owner.verify("example.com")

    assert stored(owner) == {}
