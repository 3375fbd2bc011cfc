"""Sentences say what SES will do."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given

from broker.policies.explain import explain
from broker.policies.terms import Action, FeedbackKind, FeedbackTerms, Limits, Terms, View
from broker.policies.wording import listed, span, when
from tests.policies.examples import ADDRESS_IDENTITY, DELEGATE, END, IDENTITY, NOW, USER, good_terms, terms

FULL = Terms(
    principals=(DELEGATE, USER),
    actions=(Action.send, Action.send_bulk),
    from_addresses=("newsletter@example.com",),
    from_display_names=("Example News",),
    feedback_addresses=("bounces@example.com",),
    recipients=("*@example.org", "*@example.net"),
    source_ips=("203.0.113.0/24",),
    require_tls_to_ses=True,
    not_before=NOW,
    expires_at=END,
    feedback=FeedbackTerms(owner_events=(), delegate_events=(FeedbackKind.rendering_failure,), owner_view=View.none),
    limits=Limits(bounce_rate=0.05, sends_per_day=1000),
    accept_unlimited_bulk=True,
)


def test_all_terms_are_explained() -> None:
    assert explain(FULL, identity_arn=IDENTITY) == [
        (
            "Account 222222222222 and user mail/ann of account 222222222222 may send with SendEmail, "
            "SendBulkTemplatedEmail and SendBulkEmail as newsletter@example.com."
        ),
        "They cannot send as any other address; spelling counts, upper and lower case included.",
        'The From name has to be "Example News".',
        "The Return-Path has to be bounces@example.com; a send without one is refused.",
        "They can send to *@example.org or *@example.net only: one other recipient and SES refuses the send.",
        (
            "SES does not tell a policy the addresses of a SendBulkEmail call: there the address limits rest on "
            "SES checking SendBulkTemplatedEmail as well, which AWS does not document."
        ),
        "They cannot send before 1 Mar 2026 12:00 UTC.",
        "They may send until 31 Mar 2026 12:00 UTC; from then on SES refuses, even if nobody removes the policy.",
        "They can send from 203.0.113.0/24 only.",
        "Callers that reach SES over IPv6 are all refused.",
        "They have to connect to SES over TLS; that says nothing about the way on to recipients.",
        "They cannot use SendRawEmail or SendTemplatedEmail.",
        "They cannot send over SMTP, which needs SendRawEmail.",
        "They cannot read or change the identity, its DKIM keys or its policies.",
        "The owner hears nothing and sees recipients not at all.",
        "The delegate hears rendering failure of its own mail.",
        "The broker keeps feedback for 30 days.",
        "Sending is never suspended for bounces: the terms let nobody hear what their rate is made of.",
        "Sending is never suspended for complaints: the terms let nobody hear what their rate is made of.",
        "Sending is suspended after 1000 sends in a day.",
    ]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), ["Sending is suspended when bounces reach 5%.", "Sending is suspended when complaints reach 0.1%."]),
        (
            Limits(bounce_rate=0.02, minimum_sends=100),
            [
                "Sending is suspended when bounces reach 2%.",
                "Sending is suspended when complaints reach 0.1%.",
                "Rates count from 100 sends in 24 hours on.",
            ],
        ),
    ],
)
def test_what_suspends_is_said_also_where_the_terms_leave_it_open(limits: Limits, expected: list[str]) -> None:
    agreed = msgspec.structs.replace(terms(), limits=limits)

    assert expected == explain(agreed, identity_arn=IDENTITY)[-len(expected) :]


def test_an_open_grant_says_how_open_it_is() -> None:
    agreed = terms(actions=tuple(Action))

    sentences = explain(agreed, identity_arn=IDENTITY)

    assert sentences[1] == "They may send as any address of example.com and of its sub-domains."
    assert not any("cannot use" in sentence for sentence in sentences)
    assert explain(agreed, identity_arn=ADDRESS_IDENTITY)[1] == "They may send as Ann@example.com and no other address."


@given(good_terms())
def test_any_good_terms_can_be_explained(agreed: Terms) -> None:
    sentences = explain(agreed, identity_arn=IDENTITY)

    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in sentences)
    assert any(when(agreed.expires_at) in sentence for sentence in sentences)


def test_long_lists_are_cut() -> None:
    assert listed([str(number) for number in range(20)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more"


def test_times_and_spans_read_well() -> None:
    assert when(NOW + timedelta(seconds=5)) == "1 Mar 2026 12:00:05 UTC"
    assert span(timedelta(days=1, hours=2, minutes=3)) == "1 day 2 hours"
    assert span(timedelta(microseconds=1)) == "less than a second"
