"""The compiled policy permits exactly the sends that were agreed."""

import fnmatch
import ipaddress
import json
import re
from datetime import timedelta, timezone
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings

from broker.policies.arns import covers
from broker.policies.compile import document, grant_of, instant, statements
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate
from broker.policies.terms import ACTION_TO_IAM, Action, Terms
from tests.policies.examples import DELEGATE, END, GRANT, IDENTITY, NOW, SEND, compiled, good_terms, sends, terms

FULL = Terms(
    principals=(DELEGATE, "arn:aws:iam::333333333333:user/ann"),
    actions=(Action.send_bulk, Action.send),
    from_addresses=("newsletter@example.com", "news-*@example.com"),
    from_display_names=("Example News",),
    feedback_addresses=("bounces@example.com",),
    recipients=("*@example.org",),
    source_ips=("203.0.113.0/24", "2001:db8::/32"),
    require_tls_to_ses=True,
    not_before=NOW,
    expires_at=END,
    accept_unlimited_bulk=True,
)


def test_all_terms_are_in_the_policy() -> None:
    limited, bulk = statements(FULL, grant_id=GRANT, identity_arn=IDENTITY)

    assert limited == {
        "Sid": "01890a5dac96774bbcceb302099a8057a",
        "Effect": "Allow",
        "Principal": {"AWS": [DELEGATE, "arn:aws:iam::333333333333:user/ann"]},
        "Action": ["ses:SendEmail", "ses:SendBulkTemplatedEmail"],
        "Resource": IDENTITY,
        "Condition": {
            "StringLike": {"ses:FromAddress": ["newsletter@example.com", "news-*@example.com"]},
            "StringEquals": {"ses:FromDisplayName": "Example News", "ses:FeedbackAddress": "bounces@example.com"},
            "ForAllValues:StringLike": {"ses:Recipients": "*@example.org"},
            "Null": {"ses:Recipients": "false"},
            "IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "2001:db8::/32"]},
            "Bool": {"aws:SecureTransport": "true"},
            "DateGreaterThanEquals": {"aws:CurrentTime": "2026-03-01T12:00:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-03-31T12:00:00Z"},
        },
    }
    assert bulk == {
        "Sid": "01890a5dac96774bbcceb302099a8057b",
        "Effect": "Allow",
        "Principal": limited["Principal"],
        "Action": "ses:SendBulkEmail",
        "Resource": IDENTITY,
        "Condition": {
            "IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "2001:db8::/32"]},
            "Bool": {"aws:SecureTransport": "true"},
            "DateGreaterThanEquals": {"aws:CurrentTime": "2026-03-01T12:00:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-03-31T12:00:00Z"},
        },
    }


def test_small_terms_make_one_statement_with_an_end() -> None:
    text = compiled(terms(from_addresses=("newsletter@example.com",)))

    assert text == (
        '{"Version":"2012-10-17","Statement":[{"Sid":"01890a5dac96774bbcceb302099a8057","Effect":"Allow",'
        '"Principal":{"AWS":"222222222222"},"Action":["ses:SendEmail","ses:SendRawEmail"],'
        f'"Resource":"{IDENTITY}","Condition":{{"StringEquals":{{"ses:FromAddress":"newsletter@example.com"}},'
        '"DateLessThan":{"aws:CurrentTime":"2026-03-31T12:00:00Z"}}}]}'
    )


def test_the_null_guard_can_be_left_out() -> None:
    (statement,) = statements(
        msgspec.structs.replace(terms(), recipients=("*@example.org",)),
        grant_id=GRANT,
        identity_arn=IDENTITY,
        null_guard=False,
    )

    assert "Null" not in json.dumps(statement)


def test_no_send_is_ever_granted_by_wildcard() -> None:
    every = terms(actions=tuple(Action))

    (statement,) = statements(every, grant_id=GRANT, identity_arn=IDENTITY)

    assert statement["Action"] == [
        "ses:SendEmail",
        "ses:SendRawEmail",
        "ses:SendTemplatedEmail",
        "ses:SendBulkTemplatedEmail",
        "ses:SendBulkEmail",
    ]


def test_a_window_is_rounded_inwards_to_whole_seconds_of_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    agreed = msgspec.structs.replace(
        terms(expires_at=(END + timedelta(milliseconds=900)).astimezone(tokyo)),
        not_before=NOW + timedelta(milliseconds=100),
    )

    (statement,) = statements(agreed, grant_id=GRANT, identity_arn=IDENTITY)

    assert statement["Condition"] == {
        "DateGreaterThanEquals": {"aws:CurrentTime": "2026-03-01T12:00:01Z"},
        "DateLessThan": {"aws:CurrentTime": instant(END)},
    }


def test_the_document_is_ascii_and_stable() -> None:
    agreed = msgspec.structs.replace(terms(), from_display_names=("Zoë",))

    assert compiled(agreed).isascii()
    assert compiled(agreed) == compiled(msgspec.json.decode(msgspec.json.encode(agreed), type=Terms))


@pytest.mark.parametrize(
    ("sid", "grant"),
    [
        (GRANT.hex, GRANT),
        (f"{GRANT.hex}a", GRANT),
        (f"{GRANT.hex}b", GRANT),
        (f"{GRANT.hex}ab", None),
        (GRANT.hex.upper(), None),
        (str(GRANT), None),
        ("Newsletter", None),
        ("", None),
    ],
)
def test_a_sid_tells_the_grant(sid: str, grant: UUID | None) -> None:
    assert grant_of(sid) == grant


@pytest.mark.parametrize("offset", [timedelta(seconds=-1), timedelta(0), timedelta(microseconds=-1)])
def test_a_grant_ends_at_its_second_and_not_later(offset: timedelta) -> None:
    text = compiled(terms())

    verdict = evaluate([text], msgspec.structs.replace(SEND, time=END + offset), identity_arn=IDENTITY)

    assert verdict.decision == (Decision.allow if offset < timedelta(0) else Decision.implicit_deny)


def test_a_grant_begins_at_its_second() -> None:
    text = compiled(msgspec.structs.replace(terms(), not_before=NOW))

    decisions = [
        evaluate([text], msgspec.structs.replace(SEND, time=NOW + offset), identity_arn=IDENTITY).decision
        for offset in (timedelta(microseconds=-1), timedelta(0))
    ]

    assert decisions == [Decision.implicit_deny, Decision.allow]


@settings(max_examples=400)
@given(good_terms(), sends())
def test_the_policy_allows_exactly_what_the_terms_say(agreed: Terms, send: Send) -> None:
    verdict = evaluate([compiled(agreed)], send, identity_arn=IDENTITY)

    assert (verdict.decision is Decision.allow) == agreed_to(agreed, send)


def agreed_to(agreed: Terms, send: Send) -> bool:
    """A direct reading of the terms, made of other parts than the evaluator."""
    names = {name for action in agreed.actions for name in ACTION_TO_IAM[action]}
    if send.action not in names or not any(covers(who, send.caller_arn or "") for who in agreed.principals):
        return False
    if send.time is None or send.time >= agreed.expires_at or (agreed.not_before and send.time < agreed.not_before):
        return False
    if agreed.require_tls_to_ses and not send.secure_transport:
        return False
    caller = ipaddress.ip_address(send.source_ip or "")
    if agreed.source_ips and not any(caller in ipaddress.ip_network(block) for block in agreed.source_ips):
        return False
    return send.action == "ses:SendBulkEmail" or addresses_agreed_to(agreed, send)


def addresses_agreed_to(agreed: Terms, send: Send) -> bool:
    recipients = send.recipients or []
    return (
        fits(agreed.from_addresses, send.from_address)
        and fits(agreed.from_display_names, send.from_display_name)
        and fits(agreed.feedback_addresses, send.feedback_address)
        and (not agreed.recipients or (bool(recipients) and all(fits(agreed.recipients, to) for to in recipients)))
    )


def fits(patterns: tuple[str, ...], value: str | None) -> bool:
    # fnmatch also knows "[", which none of the examples has.
    return not patterns or any(
        value is not None and re.match(fnmatch.translate(pattern), value) is not None for pattern in patterns
    )


def test_several_grants_share_a_document_and_stay_apart() -> None:
    other = UUID("01890a5d-ac96-774b-bcce-b302099a8058")
    first = statements(terms(), grant_id=GRANT, identity_arn=IDENTITY)
    second = statements(terms(principals=("333333333333",)), grant_id=other, identity_arn=IDENTITY)

    verdict = evaluate(
        [document([*first, *second])],
        msgspec.structs.replace(SEND, caller_account="333333333333"),
        identity_arn=IDENTITY,
    )

    assert (verdict.decision, verdict.statement) == (Decision.allow, other.hex)
