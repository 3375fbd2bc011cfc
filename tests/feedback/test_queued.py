"""What a message of a queue is: SNS's, EventBridge's, or neither."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.feedback import queued
from tests.feedback import sns
from tests.feedback.examples import bounce, mail

# EventBridge User Guide, eb-events-structure; SES puts events on the default bus of the account that sends.
EVENT: dict[str, Any] = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "Email Bounced",
    "source": "aws.ses",
    "account": "222222222222",
    "time": "2026-01-05T12:00:00Z",
    "region": "eu-west-1",
    "resources": ["arn:aws:ses:eu-west-1:222222222222:configuration-set/news"],
    "detail": {"eventType": "Bounce", "mail": mail(), "bounce": bounce()},
}

SET = f"delegation-broker-{'0' * 32}"


def test_a_message_of_sns_is_read_with_its_envelope() -> None:
    fields = sns.signed(sns.notification("x"))
    found = queued.message_in(json.dumps(fields))

    assert found is not None
    assert (fields["TopicArn"], "x") == (found.topic_arn, found.message)


@pytest.mark.parametrize(
    ("name", "through"),
    [
        (SET, f"arn:aws:sns:eu-west-1:222222222222:{SET}"),
        (f"{SET}0", "arn:aws:events:eu-west-1:222222222222:event-bus/default"),
        ("news", "arn:aws:events:eu-west-1:222222222222:event-bus/default"),
        (None, "arn:aws:events:eu-west-1:222222222222:event-bus/default"),
    ],
)
def test_an_event_stands_for_a_message_of_the_topic_of_its_set_and_else_of_its_bus(
    name: str | None, through: str
) -> None:
    event = EVENT | {"detail": EVENT["detail"] | {"mail": mail(tags={"ses:configuration-set": [name]} if name else {})}}
    found = queued.event_in(json.dumps(event))
    assert found is not None
    envelope = queued.as_envelope(found, partition="aws")

    assert through == envelope.topic_arn
    assert event["detail"] == json.loads(envelope.message)
    assert (EVENT["id"], datetime(2026, 1, 5, 12, tzinfo=UTC)) == (envelope.message_id, envelope.sent_at)


def test_neither_is_taken_for_the_other() -> None:
    assert queued.message_in(json.dumps(EVENT)) is None
    assert queued.event_in(json.dumps(sns.signed(sns.notification("x")))) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        "\ud800",
        "[" * 10_000,
        json.dumps({"notificationType": "Bounce", "mail": mail(), "bounce": bounce()}),  # raw delivery
        json.dumps({key: value for key, value in sns.signed(sns.notification("x")).items() if key != "Signature"}),
        json.dumps(EVENT | {"source": "com.example"}),
        json.dumps(EVENT | {"time": "2026-01-05T12:00:00"}),
        json.dumps({key: value for key, value in EVENT.items() if key != "account"}),
    ],
)
def test_what_is_neither_is_none(body: str) -> None:
    assert queued.message_in(body) is None
    assert queued.event_in(body) is None


def test_what_is_not_trusted_belongs_to_the_queue_and_never_to_a_topic() -> None:
    queue = "arn:aws:sqs:eu-west-1:999999999999:feedback"
    kept = queued.as_it_came("1", json.dumps(EVENT) + "\ud800", queue_arn=queue, now=sns.NOW)

    assert (queue, json.dumps(EVENT) + "?", sns.NOW) == (kept.topic_arn, kept.message, kept.sent_at)
