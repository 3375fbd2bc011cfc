"""AWS's error texts as they come, and what is made of them."""

import pytest

from broker.policies.advice import Advice, explain_error
from broker.policies.causes import About
from broker.policies.terms import Action
from tests.own_time import own_time
from tests.policies.examples import ADDRESS_IDENTITY, DELEGATE, IDENTITY, STRANGER, terms

GRANT = About.of(identity_arn=IDENTITY, terms=terms())
USER = f"arn:aws:iam::{DELEGATE}:user/mailer"

TEXTS = [
    # boto3#3873
    (
        "Email address is not verified. The following identities failed the check in region EU-WEST-1: a@example.com",
        "identity_not_verified",
        {"region": "EU-WEST-1", "identities": "a@example.com"},
    ),
    ("Email address is not verified.", "identity_not_verified", {}),
    # SES Developer Guide, troubleshoot-smtp
    (
        f"554 Access denied: User `{USER}' is not authorized to perform `ses:SendRawEmail' on resource `{IDENTITY}'",
        "not_authorized",
        {"caller": USER, "action": "ses:SendRawEmail", "resource": IDENTITY},
    ),
    (
        f"User: {USER} is not authorized to perform: ses:SendEmail on resource: {IDENTITY} because no policy allows it",
        "not_authorized",
        {"caller": USER, "action": "ses:SendEmail", "resource": IDENTITY},
    ),
    # aws-sdk-js#1146
    (
        f"The address 'Ann <Ann@example.com>' does not align with the given ARN '{ADDRESS_IDENTITY}'",
        "not_aligned",
        {"address": "Ann <Ann@example.com>", "arn": ADDRESS_IDENTITY},
    ),
    ('MessageRejected: "Ann" <Ann@example.com> does not align with the given ARN', "not_aligned", {}),
    # floci, PR 1750
    (
        "LimitExceededException: Number of policies for example.com exceeds max allowed 20",
        "policies_full",
        {"identity": "example.com"},
    ),
    ("PolicyName is invalid. Policy names must only include alpha-numeric characters", "policy_name", {}),
    # amazon-cognito-developer-guide#41
    (
        "InvalidPolicy: Unknown or unapplicable condition field 'AWS:SourceAccount'",
        "unknown_condition_key",
        {"key": "AWS:SourceAccount"},
    ),
    # terraform-provider-aws#22549
    (f"InvalidPolicy: Invalid principal: '{USER}'", "invalid_principal", {"principal": USER}),
    (
        "ConfigurationSetDoesNotExist: Configuration set <news> does not exist.",
        "configuration_set_missing",
        {"name": "news"},
    ),
    ("Configuration set `news' does not exist", "configuration_set_missing", {"name": "news"}),
    ("Code: ConfigurationSetDoesNotExist", "configuration_set_missing", {}),
    ("454 Throttling failure: Maximum sending rate exceeded.", "throttled", {}),
    ("454 Throttling failure: Daily message quota exceeded.", "throttled", {}),
    ("TooManyRequestsException: Too many requests", "throttled", {}),
    ("AccountSendingPausedException: Sending is disabled for this account", "sending_paused", {}),
    ("Sending paused for this account. For more information, please check the inbox", "sending_paused", {}),
    ("MailFromDomainNotVerifiedException", "mail_from_not_verified", {}),
    ("Your account is in the Amazon SES sandbox", "sandbox", {}),
    ("Connection reset by peer", "unknown", {}),
]


@pytest.mark.parametrize(("text", "kind", "found"), TEXTS)
def test_each_text_is_known_by_its_words(text: str, kind: str, found: dict[str, str]) -> None:
    advice = explain_error(text)

    assert (kind, found) == (advice.kind, advice.found)
    assert all(cause.sentence.endswith((".", ":")) and cause.fix and cause.check for cause in advice.causes)
    assert advice.causes


def sentences(advice: Advice) -> list[str]:
    return [cause.sentence for cause in advice.causes]


def test_another_region_than_the_identitys_comes_first() -> None:
    text = "Email address is not verified. The following identities failed the check in region US-EAST-1: a@example.com"

    assert "through us-east-1" in sentences(explain_error(text, GRANT))[0]


def test_a_failed_sender_means_a_missing_arn_and_a_failed_recipient_the_sandbox() -> None:
    begin = "Email address is not verified. The following identities failed the check in region EU-WEST-1: "

    sender = sentences(explain_error(begin + "newsletter@example.com", GRANT))
    recipient = sentences(explain_error(begin + "ann@example.org", GRANT))

    assert ("ARN was not passed" in sender[0], "sandbox" in recipient[0]) == (True, True)


def test_an_action_outside_of_the_terms_comes_first() -> None:
    text = f"User `{USER}' is not authorized to perform `ses:SendTemplatedEmail' on resource `{IDENTITY}'"

    first = explain_error(text, GRANT).causes[0]

    assert "terms do not permit ses:SendTemplatedEmail" in first.sentence
    assert Action.send_templated.value in first.fix


def test_another_account_than_the_agreed_one_comes_first() -> None:
    caller = f"arn:aws:iam::{STRANGER}:user/ann"
    text = f"User `{caller}' is not authorized to perform `ses:SendEmail' on resource `{IDENTITY}'"

    assert STRANGER in sentences(explain_error(text, GRANT))[0]


def test_a_refusal_on_a_configuration_set_is_the_senders_own_iam() -> None:
    """aws-cdk#34402, medplum#10102."""
    resource = f"arn:aws:ses:eu-west-1:{DELEGATE}:configuration-set/news"
    text = f"User `{USER}' is not authorized to perform `ses:SendEmail' on resource `{resource}'"

    (only,) = explain_error(text, GRANT).causes

    assert resource in only.fix


def test_a_key_in_the_wrong_case_is_told_its_spelling() -> None:
    (only,) = explain_error("Unknown or unapplicable condition field 'AWS:SourceAccount'").causes

    assert only.fix == "Write aws:SourceAccount."


HOSTILE = (
    "",
    "\0" * 5000,
    "Email address is not verified. " + "a@" * 100_000,
    "user: " * 50_000,
    "the address '" * 20_000,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_read_in_no_time(text: str) -> None:
    _, spent = own_time(lambda: explain_error(text, GRANT))

    assert spent < 0.5
