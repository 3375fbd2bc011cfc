"""Sentences say what SES will do."""

import fnmatch
import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings

from broker.policies.arns import covers
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate
from broker.policies.explain import explain
from broker.policies.terms import Action, FeedbackKind, FeedbackTerms, Limits, Terms, View
from broker.policies.wording import listed, span, when
from tests.policies.examples import (
    ADDRESS_IDENTITY,
    DELEGATE,
    END,
    IDENTITY,
    NOW,
    USER,
    compiled,
    good_terms,
    sends,
    terms,
)

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


def _split(text: str) -> list[str]:
    return re.split(r", | or ", text)


def _fits(patterns: str, given: str | None) -> bool:
    return given is not None and any(fnmatch.fnmatchcase(given, each.strip('"')) for each in _split(patterns))


def _within(blocks: str, given: str | None) -> bool:
    address = ipaddress.ip_address(given or "")
    return any(address in ipaddress.ip_network(each, strict=False) for each in _split(blocks))


def _read(text: str) -> datetime:
    return datetime.strptime(text, "%d %b %Y %H:%M UTC").replace(tzinfo=UTC)


# A sentence, and the sends that are refused if it is true.
REFUSED: list[tuple[str, Callable[[str, Send], bool]]] = [
    (r"They cannot use (.+)\.", lambda names, send: send.action.removeprefix("ses:") in _split(names)),
    (r"(They cannot send over SMTP), which .*", lambda _, send: send.action == "ses:SendRawEmail"),
    (r"They cannot send before (.+)\.", lambda moment, send: send.time is not None and send.time < _read(moment)),
    (r"They may send until (.+); .*", lambda moment, send: send.time is not None and send.time >= _read(moment)),
    (r"They can send from (.+) only\.", lambda blocks, send: not _within(blocks, send.source_ip)),
    (
        r"Callers that reach SES over IPv(.) are all refused\.",
        lambda version, send: ipaddress.ip_address(send.source_ip or "").version == int(version),
    ),
    (r"They have to connect to SES over (TLS); .*", lambda _, send: not send.secure_transport),
    (r".* may send with .+? as (.+)\.", lambda senders, send: not (bulk(send) or _fits(senders, send.from_address))),
    (
        r"The From name has to be (.+)\.",
        lambda names, send: not (bulk(send) or _fits(names, send.from_display_name)),
    ),
    (
        r"The Return-Path has to be (.+); .*",
        lambda paths, send: not (bulk(send) or _fits(paths, send.feedback_address)),
    ),
    (
        r"They can send to (.+) only: .*",
        lambda whom, send: not (bulk(send) or all(_fits(whom, each) for each in send.recipients or [])),
    ),
]


def bulk(send: Send) -> bool:
    """The call of which SES tells a policy no addresses; the explanation says so."""
    return send.action == "ses:SendBulkEmail"


@given(good_terms(), sends())
@settings(max_examples=400)
def test_what_a_sentence_refuses_is_refused(agreed: Terms, send: Send) -> None:
    decision = evaluate([compiled(agreed)], send, identity_arn=IDENTITY).decision

    for said in explain(agreed, identity_arn=IDENTITY):
        for pattern, refuses in REFUSED:
            if (found := re.fullmatch(pattern, said)) and refuses(found[1], send):
                assert decision is not Decision.allow, said


@given(good_terms(), sends())
@settings(max_examples=400)
def test_what_is_refused_is_in_a_sentence(agreed: Terms, send: Send) -> None:
    """For a caller that is named: no limit of the policy goes without saying."""
    decision = evaluate([compiled(agreed)], send, identity_arn=IDENTITY).decision
    told = explain(agreed, identity_arn=IDENTITY)
    named = any(covers(principal, send.caller_arn or "") for principal in agreed.principals)
    without = not send.recipients and bool(agreed.recipients) and not bulk(send)

    if decision is not Decision.allow and named and not without:
        assert any(
            (found := re.fullmatch(pattern, said)) and refuses(found[1], send)
            for said in told
            for pattern, refuses in REFUSED
        )
