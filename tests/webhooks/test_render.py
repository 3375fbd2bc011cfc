"""What each party sees of an event."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.caller import Caller
from broker.ids import new_id
from broker.webhooks.events import Event, Shape
from broker.webhooks.render import Party, party_of, render
from tests.webhooks.conftest import an_event

OWNER = Caller(tenant_id=new_id())
DELEGATE = Caller(tenant_id=new_id())

BOUNCE: dict[str, Any] = {
    "event_id": "?",
    "grant_id": "g",
    "identity": "arn:aws:ses:eu-west-1:111111111111:identity/news@example.com",
    "message_id": "0102-000000",
    "sending_account": "222222222222",
    "occurred_at": "2026-03-01T12:00:00Z",
    "source": "broker_topic",
    "recipient": "bob@example.org",
    "recipient_hash": None,
    "kind": "bounce",
    "final": True,
    "bounce_type": "Permanent",
    "bounce_sub_type": "General",
    "status": "5.1.1",
    "action": "failed",
    "diagnostic_code": "smtp; 550 5.1.1 <bob@example.org> unknown",
    "reporting_mta": "dsn; a8-70.smtp-out.amazonses.com",
    "remote_mta": "mx.bob.example.org",
    "feedback_type": None,
    "user_agent": "Bob/1.0",
    "smtp_response": "250 ok bob@example.org",
    "processing_ms": 12,
    "from": "bob@example.org",
    "subject": "Dear bob@example.org",
    "tags": {"to": ["bob@example.org"]},
    "configuration_set": None,
}


def a_bounce(owner_view: str | None, **data: Any) -> Event:
    return an_event(
        OWNER,
        DELEGATE,
        type="email.bounced",
        owner_view=owner_view,
        recipient_hash="ab12",
        data={**BOUNCE, **data},
    )


def seen(event: Event, party: Party) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(render(event, party))["data"]
    return data


def test_the_full_view_is_the_whole_event() -> None:
    event = a_bounce("hashed")

    assert {**BOUNCE, "event_id": str(event.id)} == seen(event, Party.DELEGATE)


@pytest.mark.parametrize("type_", ["grant.revocation_stuck", "grant.policy_removal_refused"])
def test_what_an_owner_can_do_by_hand_is_in_its_own_copy_alone(type_: str) -> None:
    """The commands name policies of its account, and may hold what is left of one: other delegates' statements."""
    data = {"grant_id": "g", "error": "Access denied", "commands": ["aws sesv2 delete-email-identity-policy"]}
    event = an_event(OWNER, DELEGATE, type=type_, owner_view="full", delegate_view="full", data=data)

    assert data | {"event_id": str(event.id)} == seen(event, Party.OWNER)
    assert b"commands" not in render(event, Party.DELEGATE)
    assert b"sesv2" not in render(event, Party.DELEGATE, Shape.CLOUDEVENTS)
    assert "Access denied" == seen(event, Party.DELEGATE)["error"]


@pytest.mark.parametrize(("view", "expected"), [("hashed", "ab12"), ("none", None)])
def test_a_narrow_view_never_holds_the_address(view: str, expected: str | None) -> None:
    event = a_bounce(view)

    data = seen(event, Party.OWNER)

    assert expected == data["recipient_hash"]
    assert b"bob" not in render(event, Party.OWNER)
    assert BOUNCE.keys() == data.keys()
    assert ("5.1.1", "Permanent", 12, BOUNCE["identity"]) == (
        data["status"],
        data["bounce_type"],
        data["processing_ms"],
        data["identity"],
    )


def test_a_stranger_report_cannot_smuggle_the_address_into_a_code() -> None:
    event = a_bounce("hashed", status="5.1.1 bob@example.org", action="failed for bob@example.org", kind=["bob"])

    assert b"bob" not in render(event, Party.OWNER)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("reporting_mta", "mx-bob.example.org"),
        ("reporting_mta", "said: bob"),
        ("action", "bob"),
        ("bounce_sub_type", "Bob"),
        ("message_id", "0102-bob"),
        ("configuration_set", "to-bob%40example.org"),
        ("feedback_type", "abuse by bob"),
        ("processing_ms", ["bob"]),
        ("status", {"bob": 1}),
    ],
)
def test_a_code_that_names_the_mailbox_is_hidden(field: str, told: object) -> None:
    event = a_bounce("none", **{field: told})

    assert b"bob" not in render(event, Party.OWNER).lower()


def test_a_code_that_only_contains_a_short_mailbox_is_shown() -> None:
    event = a_bounce("none", recipient="a@example.org", action="failed")

    assert "failed" == seen(event, Party.OWNER)["action"]


@pytest.mark.parametrize(
    ("mailbox", "field", "told"),
    [
        ("bounce", "kind", "bounce"),
        ("2026", "occurred_at", "2026-03-01T12:00:00Z"),
        ("2026", "occurred_at", "2026-03-01T12:00:00.123000+00:00"),
        ("topic", "source", "tenant_topic"),
        ("000000", "message_id", "0102018f1a2b3c4d-0123abcd-0123-4567-89ab-0123456789ab-000000"),
        ("222222222222", "sending_account", "222222222222"),
        ("4567", "grant_id", "0123abcd-0123-4567-89ab-0123456789ab"),
        ("permanent", "bounce_type", "Permanent"),
        ("general", "bounce_sub_type", "General"),
        ("failed", "action", "failed"),
        ("1", "status", "5.1.1"),
    ],
)
def test_what_the_broker_writes_itself_is_shown_whatever_the_mailbox_is_called(
    mailbox: str, field: str, told: str
) -> None:
    event = a_bounce("none", recipient=f"{mailbox}@example.org", **{field: told})

    assert told == seen(event, Party.OWNER)[field]


@pytest.mark.parametrize("told", ["jane.doe=example.org", "bounces+jane.doe=example.org", "u-jane.doe%3Dexample.org"])
@pytest.mark.parametrize("field", ["configuration_set", "message_id"])
def test_a_return_path_is_an_address_also_where_the_recipient_is_not_known(field: str, told: str) -> None:
    event = a_bounce("hashed", recipient=None, **{field: told})

    assert seen(event, Party.OWNER)[field] is None


names = st.text(max_size=12).map(lambda name: f"canary {name}")


@given(extra=st.dictionaries(names, names, max_size=8), view=st.sampled_from(["hashed", "none"]))
def test_fields_that_nobody_has_allowed_are_left_out_with_their_names(extra: dict[str, str], view: str) -> None:
    event = a_bounce(view, **extra)

    assert b"canary" not in render(event, Party.OWNER)


def test_the_body_has_the_three_fields_of_the_specification() -> None:
    event = a_bounce("full")

    body = msgspec.json.decode(render(event, Party.OWNER))

    assert ["type", "timestamp", "data"] == list(body)
    assert body["timestamp"].endswith("Z")


def test_who_does_not_hear_of_an_event_gets_no_body() -> None:
    event = a_bounce(None)

    assert party_of(event, OWNER.tenant) is None
    with pytest.raises(ValueError, match="does not hear"):
        render(event, Party.OWNER)


def test_a_stranger_is_no_party() -> None:
    assert party_of(a_bounce("full"), new_id()) is None


def test_who_is_both_parties_sees_what_the_wider_view_shows() -> None:
    event = an_event(OWNER, OWNER, type="email.bounced", owner_view="none", delegate_view="full", data=BOUNCE)

    assert party_of(event, OWNER.tenant) is Party.DELEGATE
