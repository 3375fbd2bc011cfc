"""Every policy in AWS's own pages, retyped, and what the linter has to say about it.

Three of them do not do what the text beside them says: the pattern, the display name and the dates.
"""

import json

import pytest

from broker.policies.findings import Finding
from broker.policies.lint import lint
from tests.policies.examples import NOW, Json

OWNER = "888888888888"
IDENTITY = f"arn:aws:ses:us-east-1:{OWNER}:identity/example.com"
SENDER = "arn:aws:ses:us-east-1:999999999999:identity/sender@example.com"
ANATOMY = "arn:aws:ses:us-east-1:123456789012:identity/example.com"
BOTH: Json = ["ses:SendEmail", "ses:SendRawEmail"]
ACCOUNT: Json = {"AWS": ["123456789012"]}
SEPTEMBER: Json = {
    "DateGreaterThan": {"aws:CurrentTime": "2018-08-31T12:00Z"},
    "DateLessThan": {"aws:CurrentTime": "2018-10-01T12:00Z"},
}


def statement(
    sid: str, *, principal: Json = ACCOUNT, action: Json = BOTH, resource: str = IDENTITY, **more: Json
) -> dict[str, Json]:
    given: dict[str, Json] = {"Sid": sid, "Effect": "Allow", "Resource": resource, "Principal": principal}
    return {**given, "Action": action, **more}


def where(condition: Json) -> dict[str, Json]:
    """A statement around one of policy-anatomy's conditions."""
    return statement("AuthorizeAccount", resource=ANATOMY, Condition=condition)


# (page and example, statements, the identity, expected codes)
EXAMPLES: list[tuple[str, list[dict[str, Json]], str, set[str]]] = [
    (
        "sending-authorization-policy-examples: marketing pattern",
        [statement("AuthorizeMarketer", Condition={"StringLike": {"ses:FromAddress": "marketing+.*@example.com"}})],
        IDENTITY,
        {"regex_pattern", "no_end_date"},
    ),
    (
        "sending-authorization-policy-examples: two IAM users",
        [
            statement(
                "AuthorizeIAMUser",
                principal={"AWS": ["arn:aws:iam::111122223333:user/John", "arn:aws:iam::444455556666:user/Jane"]},
            )
        ],
        IDENTITY,
        {"no_from_limit", "no_end_date"},
    ),
    (
        "sending-authorization-policy-examples: Cognito, of 2022",
        [statement("AuthorizeService", principal={"Service": ["cognito-idp.amazonaws.com"]})],
        IDENTITY,
        {"service_without_source", "no_from_limit", "no_end_date"},
    ),
    (
        "identity-authorization-policy-examples: Cognito, with its source",
        [
            statement(
                "AuthorizeService",
                principal={"Service": ["cognito-idp.amazonaws.com"]},
                Condition={
                    "StringEquals": {
                        "aws:SourceAccount": OWNER,
                        "aws:SourceArn": f"arn:aws:cognito-idp:us-east-1:{OWNER}:userpool/your-user-pool-id-goes-here",
                    }
                },
            )
        ],
        IDENTITY,
        {"unproven_key", "no_from_limit", "no_end_date"},
    ),
    (
        "sending-authorization-policy-examples: organization",
        [
            statement(
                "AuthorizeOrg",
                principal="*",
                Condition={"StringEquals": {"aws:PrincipalOrgID": "o-xxxxxxxxxxx"}},
            )
        ],
        IDENTITY,
        {"principal_by_condition", "unproven_key", "no_from_limit", "no_end_date"},
    ),
    (
        "sending-authorization-policy-examples: exact From",
        [statement("AuthorizeFromAddress", Condition={"StringEquals": {"ses:FromAddress": "sender@example.com"}})],
        IDENTITY,
        {"no_end_date"},
    ),
    (
        "sending-authorization-policy-examples: September",
        [statement("ControlTimePeriod", Condition=SEPTEMBER)],
        IDENTITY,
        {"noon_window", "ended", "no_from_limit"},
    ),
    (
        "sending-authorization-policy-examples: raw only",
        [statement("ControlAction", action=["ses:SendRawEmail"])],
        IDENTITY,
        {"raw_only", "no_from_limit", "no_end_date"},
    ),
    (
        "sending-authorization-policy-examples: display name",
        [statement("AuthorizeFromAddress", Condition={"StringLike": {"ses:FromDisplayName": "Marketing"}})],
        IDENTITY,
        {"exact_match", "no_from_limit", "no_end_date"},
    ),
    (
        "sending-authorization-policy-examples: multiple statements",
        [
            statement(
                "AuthorizeAWS",
                principal={"AWS": ["111111111111", "222222222222"]},
                resource=SENDER,
                Condition={"StringLike": {"ses:FromAddress": "*@example.com", "ses:FeedbackAddress": "*@example.com"}},
            ),
            statement(
                "AuthorizeInternal",
                principal={"AWS": "arn:aws:iam::333333333333:user/Jane"},
                resource=SENDER,
                Condition={"ForAllValues:StringLike": {"ses:Recipients": "*@example.com"}},
            ),
        ],
        SENDER,
        {"all_values_without_null", "address_identity", "no_end_date"},
    ),
    (
        "policy-anatomy: main example, of 2022",
        [
            statement(
                "AuthorizeAccount",
                resource=ANATOMY,
                action=["ses:SendEmail", "ses:SendTemplatedEmail", "ses:SendRawEmail", "ses:SendBulkTemplatedEmail"],
            )
        ],
        ANATOMY,
        {"no_from_limit", "no_end_date", "bulk_without_pair"},
    ),
    (
        "policy-anatomy: StringLike",
        [where({"StringLike": {"ses:FromAddress": "invoicing*@example.com"}})],
        ANATOMY,
        {"no_end_date"},
    ),
    (
        "policy-anatomy: StringNotLike",
        [where({"StringNotLike": {"ses:FromAddress": "*admin*example.com"}})],
        ANATOMY,
        {"exclusion_by_spelling", "negated_absent", "no_end_date"},
    ),
    (
        "policy-anatomy: after July 30",
        [where({"DateLessThan": {"aws:CurrentTime": "2019-07-30T00:00:00Z"}})],
        ANATOMY,
        {"ends_before_the_day", "ended", "no_from_limit"},
    ),
    (
        "policy-anatomy: ses:Send*",
        [statement("AuthorizeAccount", resource=ANATOMY, action="ses:Send*")],
        ANATOMY,
        {"send_star", "no_from_limit", "no_end_date"},
    ),
    (
        "sending-authorization-identity-owner-tasks-information: one user",
        [statement("stmt1", principal={"AWS": "arn:aws:iam::123456789012:user/John"})],
        IDENTITY,
        {"no_from_limit", "no_end_date"},
    ),
    (
        "identity-authorization-policies: management by the own account",
        [
            statement(
                "AuthorizeAccount",
                resource=ANATOMY,
                action=["ses:GetEmailIdentity", "ses:UpdateEmailIdentityPolicy", "ses:DeleteEmailIdentity"],
            )
        ],
        ANATOMY,
        {"no_end_date"},
    ),
    (
        "identity-authorization-policy-examples: two Deny statements",
        [
            statement("DenyGet", resource=ANATOMY, action=["ses:GetEmailIdentityPolicies"], Effect="Deny"),
            statement("DenyPut", resource=ANATOMY, action=["ses:PutEmailIdentityDkimAttributes"], Effect="Deny"),
        ],
        ANATOMY,
        {"deny_covers_owner"},
    ),
    (
        "control-user-access: IAM's own policies are refused on an identity",
        [{"Effect": "Allow", "Action": ["ses:*"], "Resource": "*"}],
        IDENTITY,
        {"missing_element"},
    ),
    (
        "control-user-access: API version 2, with a principal",
        [statement("V2", Condition={"StringEquals": {"ses:ApiVersion": "2"}})],
        IDENTITY,
        {"no_from_limit", "no_end_date"},
    ),
    (
        "control-user-access: recipients, with a principal",
        [statement("To", Condition={"ForAllValues:StringLike": {"ses:Recipients": ["*@example.com"]}})],
        IDENTITY,
        {"all_values_without_null", "no_from_limit", "no_end_date"},
    ),
    (
        "control-user-access: SendBounce, with a principal",
        [
            statement(
                "Bounce", action=["ses:SendBounce"], Condition={"StringEquals": {"ses:FromAddress": "b@example.com"}}
            )
        ],
        IDENTITY,
        {"no_end_date"},
    ),
    (
        "control-user-access: Return-Path, with a principal",
        [statement("Path", Condition={"StringEquals": {"ses:FeedbackAddress": "feedback@example.com"}})],
        IDENTITY,
        {"no_from_limit", "no_end_date"},
    ),
    (
        "Amazon Cognito Developer Guide: upper-case prefix of actions and key",
        [
            statement(
                "stmnt1",
                principal={"Service": "email.cognito-idp.amazonaws.com"},
                action=["SES:SendEmail", "SES:SendRawEmail"],
                Condition={
                    "StringEquals": {"AWS:SourceAccount": OWNER},
                    "ArnLike": {"aws:SourceArn": f"arn:aws:cognito-idp:us-east-1:{OWNER}:userpool/pool"},
                },
            )
        ],
        IDENTITY,
        {"misspelt_key", "unproven_key", "no_from_limit", "no_end_date"},
    ),
]


def findings(statements: list[dict[str, Json]], identity_arn: str) -> list[Finding]:
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return lint({"example": document}, identity_arn=identity_arn, now=NOW)


@pytest.mark.parametrize(
    ("statements", "identity_arn", "expected"), [pytest.param(*rest, id=name) for name, *rest in EXAMPLES]
)
def test_an_example_of_aws_gets_its_findings(
    statements: list[dict[str, Json]], identity_arn: str, expected: set[str]
) -> None:
    assert expected == {str(each.code) for each in findings(statements, identity_arn)}


@pytest.mark.parametrize(
    ("example", "code", "words"),
    [
        ("marketing pattern", "regex_pattern", "a dot is a dot"),
        ("display name", "exact_match", "only Marketing itself fits"),
        ("September", "noon_window", "the afternoon of 31 Aug and the morning of 1 Oct are inside"),
        ("after July 30", "ends_before_the_day", "on 30 Jul 2019 itself it is over already"),
    ],
)
def test_where_aws_is_mistaken_the_reader_is_told_how(example: str, code: str, words: str) -> None:
    said = next(
        findings(statements, identity_arn) for name, statements, identity_arn, _ in EXAMPLES if name.endswith(example)
    )

    assert any(each.code == code and words in each.detail for each in said)
