"""Identities as SES shows them to their owner."""

import pytest

from tests.sandbox.aws import Account, Aws, refusal


@pytest.fixture
def owner(aws: Aws) -> Account:
    return aws.account()


def test_a_verified_domain_tells_what_a_sender_needs(owner: Account) -> None:
    owner.verify("Example.com")

    found = owner.client("sesv2").get_email_identity(EmailIdentity="example.COM")

    assert (
        found["IdentityType"],
        found["VerifiedForSendingStatus"],
        found["VerificationStatus"],
        found["FeedbackForwardingStatus"],
    ) == ("DOMAIN", True, "SUCCESS", True)
    assert (
        found["DkimAttributes"]["Status"],
        found["DkimAttributes"]["SigningEnabled"],
        len(found["DkimAttributes"]["Tokens"]),
    ) == ("SUCCESS", True, 3)
    assert found["MailFromAttributes"] == {"BehaviorOnMxFailure": "USE_DEFAULT_VALUE"}
    assert found["Policies"] == {}
    assert "ConfigurationSetName" not in found


def test_an_identity_that_is_asked_for_waits_for_verification(owner: Account) -> None:
    v2 = owner.client("sesv2")

    v2.create_email_identity(EmailIdentity="example.com")

    found = v2.get_email_identity(EmailIdentity="example.com")
    assert (found["VerifiedForSendingStatus"], found["VerificationStatus"]) == (False, "PENDING")
    assert refusal(lambda: v2.create_email_identity(EmailIdentity="example.com"))[0] == "AlreadyExistsException"


def test_identities_are_per_account_and_region(aws: Aws, owner: Account) -> None:
    owner.verify("example.com")

    elsewhere = refusal(
        lambda: owner.client("sesv2", region="us-east-1").get_email_identity(EmailIdentity="example.com")
    )
    somebody = refusal(lambda: aws.account().client("sesv2").get_email_identity(EmailIdentity="example.com"))

    assert "NotFoundException" == elsewhere[0] == somebody[0]


def test_identities_are_listed_page_by_page(owner: Account) -> None:
    names = [f"site-{number:02d}.example.com" for number in range(5)]
    for name in names:
        owner.verify(name)
    v2 = owner.client("sesv2")

    first = v2.list_email_identities(PageSize=2)
    second = v2.list_email_identities(PageSize=2, NextToken=first["NextToken"])
    third = v2.list_email_identities(PageSize=2, NextToken=second["NextToken"])

    pages = [[each["IdentityName"] for each in page["EmailIdentities"]] for page in (first, second, third)]
    assert [names[0:2], names[2:4], names[4:]] == pages
    assert "NextToken" not in third


def test_an_account_starts_in_the_sandbox(owner: Account) -> None:
    before = owner.client("sesv2").get_account()
    owner.leave_sandbox()
    after = owner.client("sesv2").get_account()

    assert (before["ProductionAccessEnabled"], before["SendQuota"]["Max24HourSend"]) == (False, 200.0)
    assert (after["ProductionAccessEnabled"], after["SendQuota"]["Max24HourSend"]) == (True, 50_000.0)


def test_an_owner_sets_mail_from_and_default_configuration_set(owner: Account) -> None:
    owner.verify("example.com")
    v2 = owner.client("sesv2")
    v2.create_configuration_set(ConfigurationSetName="default")

    v2.put_email_identity_mail_from_attributes(EmailIdentity="example.com", MailFromDomain="bounce.example.com")
    v2.put_email_identity_configuration_set_attributes(EmailIdentity="example.com", ConfigurationSetName="default")

    found = v2.get_email_identity(EmailIdentity="example.com")
    assert found["MailFromAttributes"]["MailFromDomain"] == "bounce.example.com"
    assert found["ConfigurationSetName"] == "default"


def test_version_1_lists_and_verifies_too(owner: Account) -> None:
    owner.verify("example.com")
    v1 = owner.client("ses")

    v1.verify_email_identity(EmailAddress="me@example.org")

    found = v1.get_identity_verification_attributes(Identities=["example.com", "me@example.org", "none.example"])
    statuses = {name: each["VerificationStatus"] for name, each in found["VerificationAttributes"].items()}
    assert statuses == {"example.com": "Success", "me@example.org": "Pending"}
    assert v1.list_identities(IdentityType="EmailAddress")["Identities"] == ["me@example.org"]


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("ses", "list_identity_policies", "ValidationError"),
        ("sesv2", "send_email", "BadRequestException"),
        ("sns", "subscribe", "ValidationError"),
        ("sts", "assume_role", "ValidationError"),
    ],
)
def test_a_missing_parameter_is_a_refusal(aws: Aws, owner: Account, service: str, operation: str, code: str) -> None:
    client = aws.client(service, owner.keys, careless=True)

    assert code == refusal(getattr(client, operation))[0]
