"""Identities as SES shows them to their owner."""

import pytest

from tests.sandbox.aws import Account, Aws, refusal


@pytest.fixture
def owner(aws: Aws) -> Account:
    return aws.account()


def test_a_verified_domain_tells_what_a_sender_needs(owner: Account) -> None:
    owner.verify("Example.com")

    found = owner.client("sesv2").get_email_identity(EmailIdentity="example.COM")

    assert ("DOMAIN", True, "SUCCESS", True) == (
        found["IdentityType"],
        found["VerifiedForSendingStatus"],
        found["VerificationStatus"],
        found["FeedbackForwardingStatus"],
    )
    assert ("SUCCESS", True, 3) == (
        found["DkimAttributes"]["Status"],
        found["DkimAttributes"]["SigningEnabled"],
        len(found["DkimAttributes"]["Tokens"]),
    )
    assert {"BehaviorOnMxFailure": "USE_DEFAULT_VALUE"} == found["MailFromAttributes"]
    assert {} == found["Policies"]
    assert "ConfigurationSetName" not in found


def test_an_identity_that_is_asked_for_waits_for_verification(owner: Account) -> None:
    v2 = owner.client("sesv2")

    v2.create_email_identity(EmailIdentity="example.com")

    found = v2.get_email_identity(EmailIdentity="example.com")
    assert (False, "PENDING") == (found["VerifiedForSendingStatus"], found["VerificationStatus"])
    assert "AlreadyExistsException" == refusal(lambda: v2.create_email_identity(EmailIdentity="example.com"))[0]


def test_identities_are_per_account_and_region(aws: Aws, owner: Account) -> None:
    owner.verify("example.com")

    elsewhere = refusal(lambda: owner.client("sesv2", region="us-east-1").get_email_identity(EmailIdentity="example.com"))
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

    assert (False, 200.0) == (before["ProductionAccessEnabled"], before["SendQuota"]["Max24HourSend"])
    assert (True, 50_000.0) == (after["ProductionAccessEnabled"], after["SendQuota"]["Max24HourSend"])


def test_an_owner_sets_mail_from_and_default_configuration_set(owner: Account) -> None:
    owner.verify("example.com")
    v2 = owner.client("sesv2")
    v2.create_configuration_set(ConfigurationSetName="default")

    v2.put_email_identity_mail_from_attributes(EmailIdentity="example.com", MailFromDomain="bounce.example.com")
    v2.put_email_identity_configuration_set_attributes(EmailIdentity="example.com", ConfigurationSetName="default")

    found = v2.get_email_identity(EmailIdentity="example.com")
    assert "bounce.example.com" == found["MailFromAttributes"]["MailFromDomain"]
    assert "default" == found["ConfigurationSetName"]


def test_version_1_lists_and_verifies_too(owner: Account) -> None:
    owner.verify("example.com")
    v1 = owner.client("ses")

    v1.verify_email_identity(EmailAddress="me@example.org")

    found = v1.get_identity_verification_attributes(Identities=["example.com", "me@example.org", "none.example"])
    statuses = {name: each["VerificationStatus"] for name, each in found["VerificationAttributes"].items()}
    assert {"example.com": "Success", "me@example.org": "Pending"} == statuses
    assert ["me@example.org"] == v1.list_identities(IdentityType="EmailAddress")["Identities"]


def test_a_missing_parameter_is_a_refusal(aws: Aws, owner: Account) -> None:
    client = owner.client("ses")
    client.meta.events.register("before-parameter-build.*.*", lambda params, **_: params.pop("Identity", None))
    client.meta.config.parameter_validation = False
    client._serializer = client._serializer  # noqa: SLF001 — only the check in the client is off

    assert "ValidationError" in refusal(lambda: client.list_identity_policies(Identity="example.com"))[0]
