"""Reading SES's answers about identities."""

import pytest

from broker.identities.facts import Attributes, Facts, Topics, facts_of, kind_of, overlaps

TOLD = {
    "IdentityType": "DOMAIN",
    "FeedbackForwardingStatus": True,
    "VerifiedForSendingStatus": True,
    "DkimAttributes": {"Status": "SUCCESS", "SigningEnabled": True},
    "MailFromAttributes": {"MailFromDomain": "mail.example.com", "MailFromDomainStatus": "SUCCESS"},
    "ConfigurationSetName": "own",
    "Policies": {"mine": "{}"},
}


def test_facts_hold_what_a_sender_needs() -> None:
    topics = {"bounce": "arn:aws:sns:eu-west-1:111111111111:bounces", "complaint": None}
    account = {"ProductionAccessEnabled": True, "SendingEnabled": True}

    facts = facts_of("example.com", TOLD, topics, account)

    assert (
        Facts(
            name="example.com",
            verified=True,
            attributes=Attributes(
                dkim="SUCCESS",
                dkim_signing=True,
                mail_from="mail.example.com",
                mail_from_status="SUCCESS",
                feedback_forwarding=True,
                default_configuration_set="own",
                topics=Topics(bounce="arn:aws:sns:eu-west-1:111111111111:bounces"),
                production_access=True,
                sending_enabled=True,
            ),
            policies={"mine": "{}"},
        )
        == facts
    )


def test_what_ses_leaves_out_is_unknown() -> None:
    facts = facts_of("example.com", {}, {}, {})

    assert Facts("example.com", verified=False, attributes=Attributes(), policies={}) == facts


@pytest.mark.parametrize(
    ("name", "kind"), [("example.com", "domain"), ("Ann@example.com", "email"), ("a.b.example.com", "domain")]
)
def test_an_address_is_told_from_a_domain(name: str, kind: str) -> None:
    assert kind == kind_of(name)


def test_identities_overlap_with_their_parents_and_children() -> None:
    names = ["example.com", "mail.example.com", "ann@mail.example.com", "bob@example.com", "notexample.com"]

    assert {
        "example.com": ("ann@mail.example.com", "bob@example.com", "mail.example.com"),
        "mail.example.com": ("ann@mail.example.com", "example.com"),
        "ann@mail.example.com": ("example.com", "mail.example.com"),
        "bob@example.com": ("example.com",),
        "notexample.com": (),
    } == overlaps(names)
