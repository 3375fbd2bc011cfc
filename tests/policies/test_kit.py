"""The sending kit: only what the terms permit, with every ARN, and samples that the policy lets through."""

import json
from email import message_from_string
from email.utils import parseaddr
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given

from broker.policies.calls import CALLS, Call
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate
from broker.policies.kit import Format, kit
from broker.policies.parameters import UNSUBSCRIBE_HEADERS, parameters
from broker.policies.samples import sample
from broker.policies.terms import ACTION_TO_IAM, Action, Terms
from tests.policies.examples import ADDRESS_IDENTITY, DELEGATE, IDENTITY, NOW, compiled, good_terms, terms

OFFERED = {
    Action.send: {"boto3_v2", "boto3_v1", "cli_v2", "cli_v1"},
    Action.send_raw: {"boto3_v2_raw", "boto3_v1_raw", "cli_v2_raw", "cli_v1_raw", "nodemailer", "smtp"},
    Action.send_templated: {"boto3_v2_template", "boto3_v1_template", "cli_v2_template", "cli_v1_template"},
    Action.send_bulk: {"boto3_v2_bulk", "boto3_v1_bulk", "cli_v2_bulk", "cli_v1_bulk"},
}


@pytest.mark.parametrize("action", list(Action))
def test_only_calls_that_the_terms_permit_are_offered(action: Action) -> None:
    found = kit(terms(actions=(action,)), identity_arn=IDENTITY)

    assert OFFERED[action] | {"iam"} == {each.format.value for each in found.snippets}


def test_every_form_is_offered_by_some_terms() -> None:
    assert set(Format) == {Format(name) for names in OFFERED.values() for name in names} | {Format.iam}


@given(good_terms())
def test_the_sample_is_a_send_that_the_policy_allows(agreed: Terms) -> None:
    """By the evaluator, for each call that the terms permit and each of its actions."""
    mail = sample(agreed, identity_arn=IDENTITY)
    for facts in CALLS.values():
        if facts.term not in agreed.actions:
            continue
        for action in facts.actions:
            send = Send(
                action=action,
                caller_arn=None if agreed.principals[0].isdigit() else agreed.principals[0],
                caller_account=DELEGATE,
                from_address=mail.address,
                from_display_name=mail.name,
                feedback_address=mail.return_path,
                recipients=[mail.to],
                time=agreed.not_before or NOW,
                source_ip=agreed.source_ips[0].partition("/")[0] if agreed.source_ips else "203.0.113.7",
                secure_transport=True,
            )
            verdict = evaluate([compiled(agreed)], send, identity_arn=IDENTITY)

            assert verdict.decision is Decision.allow, verdict.reason


@pytest.mark.parametrize("call", [call for call in Call if call is not Call.smtp])
def test_each_call_passes_every_arn_that_it_takes(call: Call) -> None:
    """SES Developer Guide, sending-authorization-delegate-sender-tasks-email."""
    mail = sample(terms(actions=tuple(Action)), identity_arn=IDENTITY)

    given_ = parameters(call, mail)

    assert [IDENTITY] * len(CALLS[call].arns) == [given_[name] for name in CALLS[call].arns]


def test_smtp_headers_name_identity_and_set_and_unsubscribe_by_one_click() -> None:
    """RFC 8058, section 3.1: an https address, and the one value of List-Unsubscribe-Post."""
    found = {each.format: each for each in kit(terms(), identity_arn=IDENTITY, configuration_set="news").snippets}

    message = message_from_string(found[Format.smtp].text)

    assert [IDENTITY] * 3 == [message[f"X-SES-{name}-ARN"] for name in ("SOURCE", "FROM", "RETURN-PATH")]
    assert ("news", "List-Unsubscribe=One-Click") == (
        message["X-SES-CONFIGURATION-SET"],
        message["List-Unsubscribe-Post"],
    )
    assert urlsplit(message["List-Unsubscribe"].strip("<>")).scheme == "https"
    assert any("DKIM" in note for note in found[Format.smtp].notes)


def test_version_1_says_that_it_takes_no_headers() -> None:
    found = {each.format: each for each in kit(terms(), identity_arn=IDENTITY).snippets}

    assert "List-Unsubscribe" in found[Format.boto3_v1].notes[0]
    assert all(name in found[Format.boto3_v2].text for name in UNSUBSCRIBE_HEADERS)


@pytest.mark.parametrize("name", ['Zoë & "Söhne"', "O'Brien", "a\\b", "$HOME `id` $(id)", "日本"])
def test_a_name_of_any_letters_reaches_every_snippet_whole(name: str) -> None:
    """As an encoded word where it is not ASCII (RFC 2047); shells, Python and JavaScript read it back the same."""
    agreed = msgspec.structs.replace(terms(), from_display_names=(name,))
    mail = sample(agreed, identity_arn=IDENTITY)
    texts = {each.format: each.text for each in kit(agreed, identity_arn=IDENTITY).snippets}

    assert mail.sender.isascii()
    assert parseaddr(mail.sender)[1] == mail.address
    quoted = json.dumps(mail.sender)
    assert all(quoted in texts[form] for form in (Format.boto3_v2, Format.boto3_v2_raw, Format.nodemailer))
    compile(texts[Format.boto3_v2_raw], "snippet", "exec")


def test_the_iam_policy_is_about_the_identity_and_the_senders_own_resources() -> None:
    """Service Authorization Reference: a configuration set and a template are resources of the send as well."""
    agreed = terms(actions=tuple(Action), principals=(DELEGATE, "arn:aws:iam::333333333333:user/ann"))
    found = {each.format: each.text for each in kit(agreed, identity_arn=IDENTITY, configuration_set="news").snippets}

    (statement,) = json.loads(found[Format.iam])["Statement"]

    assert [name for names in ACTION_TO_IAM.values() for name in names] == statement["Action"]
    assert [IDENTITY, *(f"arn:aws:ses:eu-west-1:{account}:{what}" for what in ("configuration-set/news",
            "template/YOUR-TEMPLATE") for account in (DELEGATE, "333333333333"))] == statement["Resource"]  # fmt: skip


def test_an_address_identity_is_its_own_sender_and_return_path() -> None:
    found = kit(terms(), identity_arn=ADDRESS_IDENTITY)

    assert ("Ann@example.com", "Ann@example.com") == (found.from_address, found.return_path)
