"""What is read out of SES's payloads, and around which irregularities."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.feedback.occurrence import Mail, Occurrence
from broker.feedback.payloads import Feedback, Ignored, Parsed, Unreadable, parse
from broker.policies.terms import FeedbackKind
from tests.feedback.examples import (
    DELEGATE_ACCOUNT,
    IDENTITY,
    MESSAGE_ID,
    bounce,
    complaint,
    delivery,
    mail,
    notified,
    published,
)

AT = datetime(2026, 1, 5, 11, 59, tzinfo=UTC)


def feedback(payload: Any) -> Feedback:
    found = parse(json.dumps(payload))
    assert isinstance(found, Feedback)
    return found


def only(payload: Any) -> Occurrence:
    (occurrence,) = feedback(payload).occurrences
    return occurrence


def test_a_bounce_is_read_in_full() -> None:
    assert Occurrence(
        kind=FeedbackKind.bounce,
        occurred_at=AT + timedelta(seconds=30.5),
        recipient="jane@example.org",
        final=True,
        bounce_type="Permanent",
        bounce_sub_type="General",
        status="5.1.1",
        action="failed",
        diagnostic_code="550 5.1.1 <jane@example.org>... User unknown",
        reporting_mta="email.example.com",
        remote_mta="127.0.2.0",
        feedback_id="00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa068a-000000",
    ) == only(notified("Bounce", bounce()))


def test_a_complaint_is_read_in_full() -> None:
    assert Occurrence(
        kind=FeedbackKind.complaint,
        occurred_at=AT + timedelta(seconds=40),
        recipient="jane@example.org",
        feedback_type="abuse",
        user_agent="AnyCompany Feedback Loop (V0.01)",
        feedback_id="000001378603177f-18c07c78-fa81-4a58-9dd1-fedc3cb8f49a-000000",
        arrival_date=AT + timedelta(seconds=20),
    ) == only(notified("Complaint", complaint()))


def test_a_delivery_is_read_in_full() -> None:
    assert Occurrence(
        kind=FeedbackKind.delivery,
        occurred_at=AT + timedelta(seconds=10),
        recipient="jane@example.org",
        smtp_response="250 ok:  Message 64111812 accepted",
        processing_ms=546,
        reporting_mta="a8-70.smtp-out.amazonses.com",
        remote_mta="127.0.2.0",
    ) == only(notified("Delivery", delivery()))


def test_the_mail_is_read_in_full() -> None:
    found = feedback(published("Bounce", "bounce", bounce()))

    assert (
        Mail(
            sent_at=AT,
            message_id=MESSAGE_ID,
            source_arn=IDENTITY,
            sending_account=DELEGATE_ACCOUNT,
            from_address="newsletter@example.com",
            subject="Hello",
            destination=("jane@example.org", "mary@example.org"),
            configuration_set="delegation-broker-1",
            tags={
                "ses:configuration-set": ["delegation-broker-1"],
                "ses:operation": ["SendEmail"],
                "campaign": ["spring"],
            },
        )
        == found.mail
    )


def test_each_recipient_has_an_occurrence_of_its_own() -> None:
    two = [{"emailAddress": "jane@example.org", "status": "5.1.1"}, {"emailAddress": "mary@example.org"}]
    found = feedback(notified("Bounce", bounce(bouncedRecipients=two))).occurrences

    assert [("jane@example.org", "5.1.1"), ("mary@example.org", None)] == [
        (each.recipient, each.status) for each in found
    ]


@pytest.mark.parametrize(
    ("kind", "where", "details", "expected", "recipients"),
    [
        ("Send", "send", {}, FeedbackKind.send, ["jane@example.org", "mary@example.org"]),
        ("Reject", "reject", {"reason": "Bad content"}, FeedbackKind.reject, ["jane@example.org", "mary@example.org"]),
        (
            "Rendering Failure",
            "failure",
            {"templateName": "T", "errorMessage": "E"},
            FeedbackKind.rendering_failure,
            ["jane@example.org", "mary@example.org"],
        ),
        (
            "DeliveryDelay",
            "deliveryDelay",
            {
                "delayType": "MailboxFull",
                "delayedRecipients": [{"emailAddress": "jane@example.org", "status": "4.2.2"}],
            },
            FeedbackKind.delay,
            ["jane@example.org"],
        ),
        ("Open", "open", {"ipAddress": "192.0.2.1", "userAgent": "Mozilla"}, FeedbackKind.open, [None]),
        ("Click", "click", {"link": "http://example.org", "linkTags": None}, FeedbackKind.click, [None]),
        ("Subscription", "subscription", {"contactList": "L"}, FeedbackKind.subscription, [None]),
    ],
)
def test_every_kind_is_known(
    kind: str, where: str, details: dict[str, Any], expected: FeedbackKind, recipients: list[str | None]
) -> None:
    found = feedback(published(kind, where, details))

    assert expected == found.kind
    assert recipients == [each.recipient for each in found.occurrences]


def test_an_open_of_a_mail_to_one_recipient_is_that_recipients() -> None:
    assert "jane@example.org" == only(published("Open", "open", {}, destination=["jane@example.org"])).recipient


@pytest.mark.parametrize(
    ("bounce_type", "final"), [("Permanent", True), ("Transient", False), ("Undetermined", None), ("New", None)]
)
def test_only_a_permanent_bounce_is_final(bounce_type: str, final: bool | None) -> None:
    assert final is only(notified("Bounce", bounce(bounceType=bounce_type))).final


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-05T11:59:00.000Z",
        "2026-01-05T11:59:00 +0000",
        "2026-01-05T11:59:00+00:00",
        "2026-01-05T06:59:00-05:00",
        "2026-01-05T06:59:00.000 -0500",
        "2026-01-05T11:59:00",
        " 2026-01-05T11:59:00Z ",
    ],
)
def test_a_time_is_read_however_it_is_written(written: str) -> None:
    assert AT == feedback(notified("Bounce", bounce(), timestamp=written)).mail.sent_at


@pytest.mark.parametrize(
    ("details", "field", "expected"),
    [
        ({"reportingMTA": "dns; mta.example.net"}, "reporting_mta", "mta.example.net"),
        ({"reportingMTA": "dsn; mta.example.net"}, "reporting_mta", "mta.example.net"),
        ({"reportingMTA": "mta.example.net"}, "reporting_mta", "mta.example.net"),
        ({"reportingMTA": "192.0.2.1"}, "reporting_mta", "192.0.2.1"),
        ({"reportingMTA": ""}, "reporting_mta", None),
        ({"timestamp": None}, "occurred_at", AT),
        ({"timestamp": "yesterday"}, "occurred_at", AT),
        ({"bounceSubType": 7}, "bounce_sub_type", None),
    ],
)
def test_details_are_read_however_they_are_written(details: dict[str, Any], field: str, expected: object) -> None:
    assert expected == getattr(only(notified("Bounce", bounce(**details))), field)


@pytest.mark.parametrize(
    ("entry", "field", "expected"),
    [
        ({"emailAddress": " jane@example.org"}, "recipient", "jane@example.org"),
        ({"emailAddress": "Jane Doe <jane@example.org>"}, "recipient", "jane@example.org"),
        ({"emailAddress": '"Doe, Jane" <Jane@Example.org> '}, "recipient", "Jane@Example.org"),
        ({"emailAddress": "j\0ane@example.org"}, "recipient", "jane@example.org"),
        ({"emailAddress": "a@b.c", "diagnosticCode": "smtp; 550 no"}, "diagnostic_code", "550 no"),
        ({"emailAddress": "a@b.c", "diagnosticCode": "X-Postfix; unknown user"}, "diagnostic_code", "unknown user"),
        ({"emailAddress": "a@b.c", "diagnosticCode": "550 no; really"}, "diagnostic_code", "550 no; really"),
        ({"emailAddress": "a@b.c"}, "diagnostic_code", None),
        ({"emailAddress": "a@b.c", "status": ["5.1.1"]}, "status", None),
    ],
)
def test_a_recipient_is_read_however_it_is_written(entry: dict[str, Any], field: str, expected: object) -> None:
    assert expected == getattr(only(notified("Bounce", bounce(bouncedRecipients=[entry]))), field)


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        pytest.param({"messageId": f" {MESSAGE_ID}"}, "message_id", MESSAGE_ID, id="leading blank"),
        pytest.param({"headersTruncated": "false"}, "subject", "Hello", id="headersTruncated is text"),
        pytest.param(
            {"commonHeaders": [{"subject": "A"}, {"from": ["b@c.d"]}]}, "subject", "A", id="headers as a list"
        ),
        pytest.param({"commonHeaders": [{"name": "Subject", "value": "A"}]}, "subject", "A", id="headers as pairs"),
        pytest.param({"commonHeaders": {"from": "b@c.d"}}, "from_address", "b@c.d", id="From as text"),
        pytest.param({"commonHeaders": None}, "from_address", "newsletter@example.com", id="From from headers"),
        pytest.param(
            {"commonHeaders": None, "headers": None}, "from_address", "newsletter@example.com", id="From from source"
        ),
        pytest.param({"commonHeaders": None, "headers": "x"}, "subject", None, id="no subject"),
        pytest.param({"sourceArn": None}, "source_arn", None, id="no identity"),
        pytest.param(
            {"destination": "jane@example.org"}, "destination", ("jane@example.org",), id="destination as text"
        ),
        pytest.param({"tags": {"a": "b", "c": [1, "d"]}}, "tags", {"a": ["b"], "c": ["d"]}, id="tags"),
        pytest.param({"tags": []}, "configuration_set", None, id="tags as a list"),
        pytest.param({"tags": {"ses:configuration-set": [""]}}, "configuration_set", None, id="no configuration set"),
    ],
)
def test_a_mail_is_read_however_it_is_written(changes: dict[str, Any], field: str, expected: object) -> None:
    assert expected == getattr(feedback(notified("Bounce", bounce(), **changes)).mail, field)


@pytest.mark.parametrize("sub_type", [{}, {"complaintSubType": None}, {"complaintSubType": "OnAccountSuppressionList"}])
def test_a_complaint_may_lack_its_sub_type(sub_type: dict[str, Any]) -> None:
    assert sub_type.get("complaintSubType") == only(notified("Complaint", complaint(**sub_type))).complaint_sub_type


def test_the_event_type_goes_before_the_notification_type() -> None:
    both = published("Bounce", "bounce", bounce()) | {"notificationType": "Complaint"}

    assert FeedbackKind.bounce == feedback(both).kind


@pytest.mark.parametrize(
    "message",
    [
        "Successfully validated SNS topic for Amazon SES event publishing.",
        " successfully validated SNS topic for Amazon SES event publishing.\n",
        '{"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have successfully subscribed"}',
    ],
)
def test_what_ses_says_on_setting_up_is_ignored(message: str) -> None:
    assert isinstance(parse(message), Ignored)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("", id="nothing"),
        pytest.param("hello", id="text"),
        pytest.param("[]", id="a list"),
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param('{"notificationType": "\\ud800"}', id="half a character"),
        pytest.param("{}", id="no type"),
        pytest.param(json.dumps({"notificationType": "Bounce"}), id="no mail"),
        pytest.param(json.dumps(notified("Bounce", {})), id="no recipients"),
        pytest.param(json.dumps(notified("Bounce", bounce(bouncedRecipients=[None, 7, {}]))), id="odd recipients"),
        pytest.param(json.dumps(notified("Delivery", delivery(recipients=[" "]))), id="blank recipients"),
        pytest.param(json.dumps(notified("Bounce", bounce(), messageId="")), id="no message id"),
        pytest.param(json.dumps(notified("Bounce", bounce(), timestamp="0001-01-01T00:00:00+14:00")), id="no time"),
        pytest.param(json.dumps({"eventType": "Bounce", "mail": [mail()], "bounce": bounce()}), id="mail as a list"),
    ],
)
def test_what_names_no_message_is_unreadable(message: str) -> None:
    assert isinstance(parse(message), Unreadable)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.data())
def test_no_form_of_any_field_makes_it_raise(data: st.DataObject) -> None:
    payload = published("Bounce", "bounce", bounce())
    for part in (payload, payload["mail"], payload["bounce"], payload["bounce"]["bouncedRecipients"][0]):
        if data.draw(st.booleans()):
            part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)

    assert isinstance(parse(json.dumps(payload)), Parsed)
