"""One send is decided by all policies of the identity together."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from broker.policies.context import Send
from broker.policies.document import DocumentError, read
from broker.policies.evaluate import Decision, evaluate
from tests.policies.examples import (
    DELEGATE,
    IDENTITY,
    NOW,
    ROLE,
    SEND,
    SESSION,
    STRANGER,
    USER,
    Json,
    compiled,
    conditional,
    policy,
    terms,
)


def decide(*texts: str, send: Send = SEND) -> Decision:
    return evaluate(texts, send, identity_arn=IDENTITY).decision


def sending(**changes: object) -> Send:
    return msgspec.structs.replace(SEND, **changes)


IMPLICIT = Decision.implicit_deny
DENY = policy(Effect="Deny", Sid="NoWay")
OTHER = policy(Principal={"AWS": STRANGER})


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), Decision.implicit_deny),
        ((policy(),), Decision.allow),
        ((OTHER,), Decision.implicit_deny),
        ((OTHER, policy()), Decision.allow),
        ((policy(), DENY), Decision.explicit_deny),
        ((DENY, policy()), Decision.explicit_deny),
        ((policy(), policy(Effect="Deny", Principal={"AWS": STRANGER})), Decision.allow),
        ((policy(), conditional({"Bool": {"aws:SecureTransport": "false"}}, effect="Deny")), Decision.allow),
        ((policy(Resource=IDENTITY.replace("example", "other")),), Decision.implicit_deny),
        ((policy(Resource="arn:aws:ses:*:111111111111:identity/*"),), Decision.allow),
        ((policy(Resource="*"),), Decision.allow),
        ((policy(Resource="arn:aws:ses:*"),), Decision.allow),  # a star that ends a segment reaches over colons
        ((policy(Resource=None, NotResource=IDENTITY),), Decision.implicit_deny),
        ((policy(Resource=None, NotResource="*other*"),), Decision.allow),
        # variables stand behind the fifth colon alone, and one without a value matches no resource
        ((policy(Resource="arn:aws:ses:*:111111111111:identity/${my:name, 'example.com'}"),), Decision.allow),
        ((policy(Resource="arn:aws:ses:*:*:identity/${my:name, 'example.com'}", Version="2008-10-17"),), IMPLICIT),
        ((policy(Resource=[f"{IDENTITY}x", IDENTITY]),), Decision.allow),
        ((policy(Resource=IDENTITY.upper()),), Decision.implicit_deny),
        ((policy(Resource=[]),), Decision.implicit_deny),
        ((policy(Action=[]),), Decision.implicit_deny),
        ((policy(Principal={}),), Decision.implicit_deny),
        ((policy(Resource="arn:aws:ses:*:111111111111:identity/${my:name}"),), Decision.implicit_deny),
        ((policy(Resource="arn:aws:ses:*:${my:owner, '111111111111'}:identity/*"),), Decision.implicit_deny),
        ((policy(Resource=None, NotResource="arn:aws:ses:*:111111111111:identity/${my:name}"),), Decision.allow),
    ],
)
def test_deny_wins_over_allow_and_nothing_is_a_deny(texts: tuple[str, ...], expected: Decision) -> None:
    assert decide(*texts) == expected


@pytest.mark.parametrize(
    ("actions", "fits"),
    [
        ("ses:SendEmail", True),
        ("SES:sendemail", True),
        ("ses:Send*", True),
        ("*", True),
        ("ses:?endEmail", True),
        (["ses:SendRawEmail", "ses:SendEmail"], True),
        ("ses:SendEmai", False),
        ("sns:SendEmail", False),
        ("ses:SendEmail2", False),
    ],
)
def test_actions_have_wildcards_and_no_case(actions: Json, fits: bool) -> None:
    assert (decide(policy(Action=actions)) is Decision.allow) == fits
    assert (decide(policy(Action=None, NotAction=actions)) is Decision.allow) != fits


BY_USER = sending(caller_arn=USER)
BY_SESSION = sending(caller_arn=SESSION)
BY_ROLE = sending(caller_arn=ROLE)
FEDERATED = f"arn:aws:sts::{DELEGATE}:federated-user/ann"
NOBODY = Send(action="ses:SendEmail")
BY_SERVICE = Send(action="ses:SendEmail", caller_service="cognito-idp.amazonaws.com")


@pytest.mark.parametrize(
    ("principal", "send", "fits"),
    [
        ("*", BY_USER, True),
        ({"AWS": "*"}, BY_SERVICE, True),
        ({"AWS": DELEGATE}, BY_USER, True),
        ({"AWS": f"arn:aws:iam::{DELEGATE}:root"}, BY_SESSION, True),
        ({"AWS": DELEGATE}, SEND, True),
        ({"AWS": USER}, BY_USER, True),
        ({"AWS": USER}, SEND, False),
        ({"AWS": USER.upper()}, BY_USER, False),
        ({"AWS": f"arn:aws:iam::{DELEGATE}:user/ann"}, BY_USER, False),
        ({"AWS": f"arn:aws:iam::{DELEGATE}:user/*"}, BY_USER, False),
        ({"AWS": ROLE}, BY_SESSION, True),
        ({"AWS": f"arn:aws:iam::{DELEGATE}:role/sender"}, BY_SESSION, True),
        ({"AWS": f"arn:aws:iam::{DELEGATE}:role/Sender"}, BY_SESSION, False),
        ({"AWS": ROLE}, sending(caller_arn=ROLE), True),
        ({"AWS": SESSION}, BY_SESSION, True),
        ({"AWS": f"{SESSION}x"}, BY_SESSION, False),
        ({"AWS": [STRANGER, DELEGATE]}, BY_USER, True),
        ({"AWS": STRANGER}, BY_USER, False),
        ({"AWS": "AIDAQ3EGUDE7EXAMPLE12"}, BY_USER, False),
        ({"Service": "cognito-idp.amazonaws.com"}, BY_SERVICE, True),
        ({"Service": "email.cognito-idp.amazonaws.com"}, BY_SERVICE, False),
        ({"Service": "cognito-idp.amazonaws.com"}, BY_USER, False),
        ({"AWS": DELEGATE}, BY_SERVICE, False),
        ({"Federated": "*", "CanonicalUser": "*"}, BY_USER, False),
        ("*", NOBODY, True),
        ({"AWS": DELEGATE}, NOBODY, False),
        ({"Service": "cognito-idp.amazonaws.com"}, NOBODY, False),
        ({"Service": "Cognito-idp.amazonaws.com"}, BY_SERVICE, False),
        ({"AWS": FEDERATED}, sending(caller_arn=FEDERATED), True),
        ({"AWS": DELEGATE}, sending(caller_arn=FEDERATED), True),
        ({"AWS": USER}, sending(caller_arn=FEDERATED), False),
        ({"AWS": f"arn:aws:iam::{DELEGATE}:root"}, sending(caller_arn=f"arn:aws:iam::{DELEGATE}:root"), True),
        ({"AWS": f"arn:aws:iam::{DELEGATE}:role/sender"}, BY_ROLE, False),  # the caller's own ARN tells its path
        ({"AWS": f"arn:aws:sts::{DELEGATE}:assumed-role/sender/*"}, BY_SESSION, False),
        ({"AWS": f"arn:aws:sts::{DELEGATE}:assumed-role/sender"}, BY_SESSION, False),
        ({"AWS": "2222*"}, BY_USER, False),
        ({"AWS": "arn:aws:iam::*:root"}, BY_USER, False),
    ],
)
def test_a_principal_in_every_form(principal: Json, send: Send, fits: bool) -> None:
    assert (decide(policy(Principal=principal), send=send) is Decision.allow) == fits


ROOT = f"arn:aws:iam::{DELEGATE}:root"


@pytest.mark.parametrize(
    ("spared", "send", "denied"),
    [
        ([USER, ROOT], BY_USER, False),
        ([USER, DELEGATE], BY_USER, False),
        ([USER], BY_USER, True),  # without its account the user is denied as well
        ([ROOT], BY_USER, True),  # an account here does not stand for its users
        ([ROOT], SEND, False),
        ([SESSION, ROLE, ROOT], BY_SESSION, False),
        ([ROLE, ROOT], BY_SESSION, True),
        ([f"arn:aws:iam::{DELEGATE}:role/sender", SESSION, DELEGATE], BY_SESSION, False),
        ([f"arn:aws:iam::{DELEGATE}:role/other", SESSION, ROOT], BY_SESSION, True),
        ([f"arn:aws:iam::{STRANGER}:role/sender", SESSION, ROOT], BY_SESSION, True),
        ([SESSION, ROOT], BY_SESSION, True),
        ([SESSION, ROLE], BY_SESSION, True),
        ([ROLE, ROOT], BY_ROLE, False),
        ([f"arn:aws:iam::{DELEGATE}:role/sender", ROOT], BY_ROLE, True),
        ([ROLE, ROOT], BY_USER, True),
        ([FEDERATED, ROOT], sending(caller_arn=FEDERATED), False),
        ([ROOT], sending(caller_arn=FEDERATED), True),
        ([ROOT], sending(caller_arn=ROOT), False),
        ([ROOT], NOBODY, True),
        ("*", NOBODY, False),
        ([STRANGER], BY_USER, True),
        ("*", BY_USER, False),
        ([USER, ROOT], BY_SERVICE, True),
    ],
)
def test_not_principal_in_a_deny_spares_only_whom_it_lists_in_full(spared: Json, send: Send, denied: bool) -> None:
    deny = policy(Effect="Deny", Principal=None, NotPrincipal={"AWS": spared})

    assert (decide(policy(Principal="*"), deny, send=send) is Decision.explicit_deny) == denied


def test_not_principal_spares_a_service_by_name() -> None:
    deny = policy(Effect="Deny", Principal=None, NotPrincipal={"Service": "cognito-idp.amazonaws.com"})

    assert decide(policy(Principal="*"), deny, send=BY_SERVICE) == Decision.allow


def test_not_principal_in_an_allow_lets_everybody_else_in() -> None:
    allow = policy(Principal=None, NotPrincipal={"AWS": STRANGER})

    assert decide(allow) == Decision.allow
    assert decide(allow, send=sending(caller_account=STRANGER)) == Decision.implicit_deny


def test_send_bulk_email_supplies_no_address_keys() -> None:
    bulk = sending(action="ses:SendBulkEmail")
    by_address: Json = {"StringLike": {"ses:FromAddress": "*"}}

    assert decide(policy(Action="*", Condition=by_address), send=bulk) == Decision.implicit_deny
    assert decide(policy(Action="*", Condition={"Null": {"ses:Recipients": "true"}}), send=bulk) == Decision.allow


def test_send_bounce_supplies_from_alone() -> None:
    bounce = sending(action="ses:SendBounce")

    assert (
        decide(
            policy(Action="*", Condition={"Null": {"ses:FromAddress": "false", "ses:FeedbackAddress": "true"}}),
            send=bounce,
        )
        == Decision.allow
    )


def test_time_answers_both_clocks_and_is_utc_without_offset() -> None:
    naive = sending(time=NOW.replace(tzinfo=None))
    condition: Json = {
        "DateEquals": {"aws:CurrentTime": "2026-03-01T12:00:00Z"},
        "NumericEquals": {"aws:EpochTime": "1772366400"},
        "DateLessThanEquals": {"aws:EpochTime": 1772366400},
    }

    assert decide(conditional(condition), send=naive) == Decision.allow


def test_what_if_from_had_no_case() -> None:
    text = compiled(terms(from_addresses=("newsletter@example.com",)))
    send = sending(from_address="NewsLetter@Example.com")

    assert evaluate([text], send, identity_arn=IDENTITY).decision is Decision.implicit_deny
    assert evaluate([text], send, identity_arn=IDENTITY, from_case_sensitive=False).decision is Decision.allow


def test_documents_are_taken_as_text_as_json_and_as_read_before() -> None:
    for form in (policy(), json.loads(policy()), read(policy())):
        assert evaluate([form], SEND, identity_arn=IDENTITY).decision is Decision.allow


def test_a_send_travels_as_json_with_its_short_names() -> None:
    send = msgspec.json.decode(
        b'{"action":"ses:SendEmail","from":"a@example.com","time":"2026-03-01T12:00:00Z"}', type=Send
    )

    assert send == Send(action="ses:SendEmail", from_address="a@example.com", time=datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    "send",
    [
        sending(caller_account=STRANGER, caller_arn=USER),
        sending(caller_arn="ann"),
        sending(caller_arn=USER + "x" * 10_000),
        sending(caller_account="ann"),
        sending(action="SendEmail"),
        sending(from_address="a" * 10_000),
        sending(recipients=["a@b.c"] * 10_000),
    ],
)
def test_a_caller_that_makes_no_sense_and_endless_texts_are_errors(send: Send) -> None:
    with pytest.raises(ValueError, match="is "):
        evaluate([policy()], send, identity_arn=IDENTITY)


def test_a_policy_that_cannot_be_read_is_an_error_and_never_an_answer() -> None:
    for texts in ([policy(), "{}"], [DENY, "{}"], ["{}", DENY]):
        with pytest.raises(DocumentError):
            evaluate(texts, SEND, identity_arn=IDENTITY)
