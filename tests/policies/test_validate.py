"""What SES refuses when a policy is stored."""

import pytest

from broker.policies.validate import refusals
from tests.policies.examples import DELEGATE, IDENTITY, ROLE, Json, conditional, policy


def refused(text: str, *, name: str = "Newsletter") -> list[str]:
    return refusals(text, identity_arn=IDENTITY, name=name)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-xxxxxxxxxxx"}}},
        {"Principal": {"AWS": [DELEGATE, ROLE]}, "Action": ["ses:SendEmail", "SES:SendRawEmail"]},
        {"Principal": {"Service": ["email.cognito-idp.amazonaws.com"]}, "Action": "SES:Send*"},
        {"Principal": {"AWS": "AIDAQ3EGUDE7EXAMPLE12"}},
        {"Sid": "AuthorizeMarketer", "Action": "ses:DeleteEmailIdentity"},
        {"Version": "any string is taken"},
        {
            "Condition": {
                "StringLike": {"ses:FromAddress": "marketing+.*@example.com"},
                "NumericLessThan": {"aws:EpochTime": 1},
            }
        },
    ],
)
def test_policies_of_the_developer_guides_kind_are_taken(changes: dict[str, Json]) -> None:
    assert refused(policy(**changes)) == []


@pytest.mark.parametrize("name", ["a b", "a.b", "", "naïve", "x" * 65, "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    (text,) = refused(policy(), name=name)

    assert text.startswith("PolicyName is invalid.")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not JSON"),
        ("[]", "not an object"),
        ('{"Version":"2012-10-17"}', "no statement"),
        ('{"Version":"2012-10-17","Statement":[]}', "no statement"),
        (policy(Effect="allow"), "Effect"),
        (policy(Principal=None), "no Principal"),
        (policy(Principal={}), "at least one principal"),
        (policy(Principal={"AWS": []}), "at least one principal"),
        (policy(Principal={"AWS": "12345"}), "Invalid principal: '12345'"),
        (policy(Principal={"AWS": f"arn:aws-cn:iam::{DELEGATE}:root"}), "Invalid principal"),
        (policy(Principal={"AWS": f"arn:aws:iam::{DELEGATE}:user/*"}), "Invalid principal"),
        (policy(Principal={"Federated": "graph.facebook.com"}), "Invalid principal"),
        (policy(Principal={"Service": "example.com"}), "Invalid principal"),
        (policy(Principal={"aws": DELEGATE}), "element"),
        (policy(Action=None), "no Action"),
        (policy(Action="s3:GetObject"), "Invalid action"),
        (policy(Action=[]), "at least one action"),
        (policy(Resource=None), "no Resource"),
        (policy(Resource="*"), "resource"),
        (policy(Resource=[IDENTITY, IDENTITY.replace("example", "other")]), "resource"),
        (policy(Resource=None, NotResource=IDENTITY), "resource"),
        (policy(Sid="with space"), "alpha-numeric"),
        (policy(Surprise=1), "element"),
        (conditional({"StringEquals": {"AWS:SourceAccount": "1"}}), "condition field 'AWS:SourceAccount'"),
        (conditional({"StringEquals": {"ses:fromaddress": "a"}}), "condition field 'ses:fromaddress'"),
        (conditional({"StringEquals": {"aws:PrincipalTag/x": "a"}}), "condition field"),
        (conditional({"StringMatches": {"ses:FromAddress": "a"}}), "operator"),
        (conditional({"StringEquals": {"ses:FromAddress": []}}), "no value"),
        (policy(Condition={"StringEquals": {"ses:FromAddress": "x" * 4_000}}), "4096"),
    ],
)
def test_bad_documents_are_refused_with_the_reason(text: str, part: str) -> None:
    found = refused(text)

    assert len(found) == 1
    assert part in found[0]


def test_sids_are_unique_in_a_document() -> None:
    one = policy(Sid="a")
    twice = one.replace('"Statement": [', f'"Statement": [{one[one.index("[") + 1 : -2]}, ')

    assert refused(twice) == ["Statement IDs (SID) in a single policy must be unique."]
