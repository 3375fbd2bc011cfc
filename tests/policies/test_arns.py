"""What identity ARNs and principals are, and who covers whom."""

import pytest

from broker.policies.arns import IdentityArn, covers, parse_identity_arn, plain, principal_account
from tests.policies.examples import ADDRESS_IDENTITY, DELEGATE, IDENTITY, ROLE, SESSION, STRANGER, USER


def test_an_identity_arn_is_taken_apart_and_put_together() -> None:
    identity = parse_identity_arn(IDENTITY)

    assert identity == IdentityArn("aws", "eu-west-1", "111111111111", "example.com")
    assert identity.is_domain
    assert str(identity) == IDENTITY


def test_an_address_identity_is_no_domain_and_keeps_its_spelling() -> None:
    identity = parse_identity_arn(ADDRESS_IDENTITY)

    assert not identity.is_domain
    assert (identity.name, identity.domain) == ("Ann@example.com", "example.com")


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws-cn:ses:cn-north-1:111111111111:identity/example.cn",
        "arn:aws-us-gov:ses:us-gov-west-1:111111111111:identity/xn--bcher-kva.example",
        "arn:aws:ses:ap-southeast-2:111111111111:identity/o'neil+x@example.com",
    ],
)
def test_other_partitions_and_odd_names_are_read(text: str) -> None:
    assert text == str(parse_identity_arn(text))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is not the ARN"),
        ("example.com", "is not the ARN"),
        ("arn:aws:sns:eu-west-1:111111111111:identity/example.com", "is not the ARN"),
        ("arn:aws:ses:eu-west-1:111111111111:configuration-set/x", "is not the ARN"),
        ("arn:aws-moon:ses:eu-west-1:111111111111:identity/example.com", "partition"),
        ("arn:aws:ses:*:111111111111:identity/example.com", "Region"),
        ("arn:aws:ses:eu-west-1:11111111111:identity/example.com", "twelve digits"),
        (
            "arn:aws:ses:eu-west-1:\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661:identity/a.b",
            "twelve",
        ),
        ("arn:aws:ses:eu-west-1:111111111111:identity/", "neither"),
        ("arn:aws:ses:eu-west-1:111111111111:identity/localhost", "neither"),
        ("arn:aws:ses:eu-west-1:111111111111:identity/*.example.com", "neither"),
        ("arn:aws:ses:eu-west-1:111111111111:identity/a b@example.com", "neither"),
        ("arn:aws:ses:eu-west-1:111111111111:identity/example.com\n", "neither"),
    ],
)
def test_what_is_no_identity_arn_is_refused_with_a_sentence(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part) as refused:
        parse_identity_arn(text)

    assert str(refused.value).endswith(".") or str(refused.value).endswith(").")


@pytest.mark.parametrize("text", [DELEGATE, f"arn:aws:iam::{DELEGATE}:root", USER, ROLE, SESSION])
def test_every_form_of_a_principal_has_its_account(text: str) -> None:
    assert principal_account(text) == DELEGATE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "22222222222",
        "2222222222222",
        f"{DELEGATE}\n",
        "arn:aws:iam::222222222222:group/x",
        "arn:aws:iam::222222222222:user/",
        "arn:aws:iam::222222222222:user/a*",
        "arn:aws:iam:eu-west-1:222222222222:user/a",
        "arn:aws:iam::22222222222:root",
        "arn:aws:s3:::bucket",
        "cognito-idp.amazonaws.com",
        f"arn:aws:iam::{DELEGATE}:user/{'a' * 65}",
        f"arn:aws:iam::{DELEGATE}:user/{'a' * 600}/b",
    ],
)
def test_what_is_no_principal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an account id"):
        principal_account(text)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (DELEGATE, f"arn:aws:iam::{DELEGATE}:root"),
        (f"arn:aws:iam::{DELEGATE}:root", DELEGATE),
        (DELEGATE, USER),
        (DELEGATE, ROLE),
        (f"arn:aws:iam::{DELEGATE}:root", SESSION),
        (ROLE, SESSION),
        (f"arn:aws:iam::{DELEGATE}:role/sender", SESSION),
        (USER, USER),
        ("*", USER),
        ("*", "cognito-idp.amazonaws.com"),
        ("AIDAEXAMPLEEXAMPLE12", "AIDAEXAMPLEEXAMPLE12"),
    ],
)
def test_the_wider_principal_covers_the_narrower(outer: str, inner: str) -> None:
    assert covers(outer, inner)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (USER, DELEGATE),
        (SESSION, ROLE),
        (STRANGER, USER),
        (ROLE, USER),
        (f"arn:aws:iam::{DELEGATE}:user/ann", USER),  # another path is another user
        (f"arn:aws:iam::{DELEGATE}:user/mail/Ann", USER),  # names have case
        (f"arn:aws:iam::{STRANGER}:role/sender", SESSION),
        (f"arn:aws-cn:iam::{DELEGATE}:root", USER),
        (USER, "*"),
    ],
)
def test_no_principal_covers_a_wider_or_another_one(outer: str, inner: str) -> None:
    assert not covers(outer, inner)


def test_only_the_account_has_two_spellings() -> None:
    assert plain(f"arn:aws-us-gov:iam::{DELEGATE}:root") == DELEGATE
    assert plain(USER) == USER
    assert plain("arn:aws:iam::2:root") == "arn:aws:iam::2:root"
