"""Every example of SES's guide is read as what it says."""

import json
from datetime import UTC, datetime

import pytest

from broker.feedback.occurrence import Preferences
from broker.feedback.payloads import Feedback, parse
from broker.policies.terms import FeedbackKind
from tests.feedback.guide import AGENCY, DOMAIN, EXAMPLES, ID


def read(name: str) -> Feedback:
    found = parse(json.dumps(EXAMPLES[name][0]))
    assert isinstance(found, Feedback)
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_read_as_what_it_says(name: str) -> None:
    payload, kind, recipients, expected = EXAMPLES[name]
    found = read(name)

    assert kind is found.kind
    assert recipients == [each.recipient for each in found.occurrences]
    assert expected == {field: getattr(found.occurrences[0], field) for field in expected}
    assert (ID, AGENCY, "news@example.com") == (
        found.mail.message_id,
        found.mail.sending_account,
        found.mail.from_address,
    )
    assert payload["mail"].get("sourceArn") == found.mail.source_arn


# By section. What is published to Firehose has the same ten (event-publishing-retrieving-firehose-examples).
PAGES = {
    "notification-examples": [
        "N bounce with a DSN",
        "N bounce without a DSN",
        "N complaint with a report",
        "N complaint without a report",
        "N delivery",
    ],
    "event-publishing-retrieving-sns-examples": [
        "E bounce",
        "E complaint",
        "E delivery",
        "E send",
        "E reject",
        "E open",
        "E click",
        "E rendering failure",
        "E delivery delay",
        "E subscription",
    ],
}


def test_no_example_of_the_two_pages_of_examples_is_missing() -> None:
    """SES Developer Guide, in the order of each page's sections."""
    told = [name for name in EXAMPLES if name[0] in "NE"]

    assert [name for names in PAGES.values() for name in names] == told


def test_the_examples_are_of_every_kind_in_both_shapes() -> None:
    notified = {kind for payload, kind, _, _ in EXAMPLES.values() if "notificationType" in payload}
    published = {kind for payload, kind, _, _ in EXAMPLES.values() if "eventType" in payload}

    assert {FeedbackKind.bounce, FeedbackKind.complaint, FeedbackKind.delivery} == notified
    assert set(FeedbackKind) == published


def test_times_of_the_details_are_read() -> None:
    assert datetime(2026, 1, 6, 1, 59, 25, 914000, UTC) == read("E delivery delay").occurrences[0].will_retry_until
    assert datetime(2026, 1, 5, 11, 59, 20, tzinfo=UTC) == read("N complaint with a report").occurrences[0].arrival_date
    assert datetime(2026, 1, 5, 12, 0, 25, 570000, UTC) == read("E click").occurrences[0].occurred_at


def test_preferences_are_read_topic_by_topic() -> None:
    (one,) = read("E subscription").occurrences

    assert Preferences(True, {"weekly": "OptOut"}) == one.new_topic_preferences
    assert Preferences(False, {"weekly": "OptOut"}) == one.old_topic_preferences


@pytest.mark.parametrize("name", [name for name, each in EXAMPLES.items() if "eventType" in each[0]])
def test_either_name_of_the_type_will_do(name: str) -> None:
    """Complaints of some providers come as `notificationType` through event publishing (mailcoach, issue 217)."""
    payload = {("notificationType" if key == "eventType" else key): value for key, value in EXAMPLES[name][0].items()}

    assert read(name) == parse(json.dumps(payload))


def test_a_type_that_is_not_known_keeps_its_name_and_mail() -> None:
    mail = EXAMPLES["E send"][0]["mail"]
    told = {"eventType": "Forward", "mail": mail, "forward": {"timestamp": "2026-01-05T12:30:00Z", "to": "x@y.z"}}
    found = parse(json.dumps(told))

    assert isinstance(found, Feedback)
    assert (None, DOMAIN) == (found.kind, found.mail.source_arn)
    assert ("Forward", datetime(2026, 1, 5, 12, 30, tzinfo=UTC)) == (
        found.occurrences[0].ses_type,
        found.occurrences[0].occurred_at,
    )
