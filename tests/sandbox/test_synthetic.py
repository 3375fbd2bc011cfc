"""Events that the control API asks for: all ten kinds, in SES's shapes, on the paths that SES has."""

import json
from typing import Any

import pytest

from broker.feedback.payloads import Feedback, parse
from tests.sandbox.aws import Account, Aws, Queue

KINDS = {
    "bounce": ("Bounce", "bounce"),
    "complaint": ("Complaint", "complaint"),
    "delivery": ("Delivery", "delivery"),
    "send": ("Send", "send"),
    "reject": ("Reject", "reject"),
    "delay": ("DeliveryDelay", "deliveryDelay"),
    "open": ("Open", "open"),
    "click": ("Click", "click"),
    "rendering_failure": ("Rendering Failure", "failure"),
    "subscription": ("Subscription", "subscription"),
}
MATCHING = {
    "SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "OPEN", "CLICK", "RENDERING_FAILURE", "DELIVERY_DELAY",
    "SUBSCRIPTION",
}  # fmt: skip
READER = "reader@elsewhere.example"


class Scene:
    """An owner's identity with topics that a queue hears, and its delegate."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.owner, self.delegate, self.arn = aws.delegation()
        self.topic = self.owner.make_topic("feedback", publishers=self.owner.id)
        self.queue = self.owner.make_queue("feedback", self.topic)

    def hear(self, *kinds: str) -> None:
        """Sets the identity's topic for these notifications."""
        for kind in kinds:
            self.owner.client("ses").set_identity_notification_topic(
                Identity="example.com", NotificationType=kind, SnsTopic=self.topic
            )

    def ask(self, kind: str, **more: Any) -> Any:
        """The control API's answer."""
        about = {"account_id": self.owner.id, "region": "eu-west-1", "identity": "example.com"}
        mail = {"sending_account_id": self.delegate.id, "source": "News <news@example.com>", "recipients": [READER]}
        return self.aws.control("POST", "events", {**about, **mail, "kind": kind, **more})


@pytest.fixture
def scene(aws: Aws) -> Scene:
    return Scene(aws)


@pytest.mark.parametrize("kind", ["bounce", "complaint", "delivery"])
def test_an_identity_topic_gets_a_notification(scene: Scene, kind: str) -> None:
    name, key = KINDS[kind]
    scene.hear(name)

    asked = scene.ask(kind)

    [record] = scene.queue.feedback()
    assert [scene.topic] == asked["topics"]
    assert {"notificationType", "mail", key} == set(record)
    assert (name, asked["message_id"]) == (record["notificationType"], record["mail"]["messageId"])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_configuration_set_gets_an_event(scene: Scene, kind: str) -> None:
    topic, queue = configuration_set(scene.delegate)

    asked = scene.ask(kind, configuration_set="mine")

    [record] = queue.feedback()
    name, key = KINDS[kind]
    assert [topic] == asked["topics"]
    assert {"eventType", "mail", key} == set(record)
    assert (name, ["mine"]) == (record["eventType"], record["mail"]["tags"]["ses:configuration-set"])


def configuration_set(account: Account) -> tuple[str, Queue]:
    """A topic that hears all ten kinds of mail sent through the account's set `mine`, and its queue."""
    v2, topic = account.client("sesv2"), account.make_topic("events", publishers=account.id)
    queue = account.make_queue("events", topic)
    v2.create_configuration_set(ConfigurationSetName="mine")
    given = {"Enabled": True, "MatchingEventTypes": sorted(MATCHING), "SnsDestination": {"TopicArn": topic}}
    v2.create_configuration_set_event_destination(
        ConfigurationSetName="mine", EventDestinationName="broker", EventDestination=given
    )
    return topic, queue


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_event_may_stand_in_on_the_topic_of_the_identity(scene: Scene, kind: str) -> None:
    scene.hear("Bounce")

    asked = scene.ask(kind, stands_in=True)

    [record] = scene.queue.feedback()
    parsed = parse(json.dumps(record))
    assert ([scene.topic], KINDS[kind][0]) == (asked["topics"], record["eventType"])
    assert isinstance(parsed, Feedback)
    assert (kind, [READER]) == (parsed.kind, [each.recipient for each in parsed.occurrences])


@pytest.mark.parametrize(
    ("cause", "found"),
    [
        ("General", ("Permanent", "General", "5.1.1")),
        ("Suppressed", ("Permanent", "Suppressed", "5.1.1")),
        ("MailboxFull", ("Transient", "MailboxFull", "4.2.2")),
        ("OutOfOffice", ("Transient", "General", "4.0.0")),
    ],
)
def test_a_bounce_has_the_cause_that_was_asked_for(scene: Scene, cause: str, found: tuple[str, str, str]) -> None:
    scene.hear("Bounce")

    scene.ask("bounce", cause=cause)

    bounce = scene.queue.feedback()[0]["bounce"]
    assert found == (bounce["bounceType"], bounce["bounceSubType"], bounce["bouncedRecipients"][0]["status"])


def test_the_mail_and_what_came_of_it_have_their_own_times(scene: Scene) -> None:
    scene.hear("Complaint")

    scene.ask("complaint", sent_at="2026-01-02T03:04:05Z", at="2026-01-04T03:04:05Z")

    [record] = scene.queue.feedback()
    complaint = record["complaint"]
    assert ("2026-01-02T03:04:05.000Z", "2026-01-04T03:04:05.000Z") == (
        record["mail"]["timestamp"],
        complaint["timestamp"],
    )
    assert record["mail"]["timestamp"] == complaint["arrivalDate"]


def test_copies_are_the_very_same_message(scene: Scene) -> None:
    scene.hear("Bounce")
    scene.queue.receive()  # SES's greeting

    scene.ask("bounce", copies=3)

    first, *others = scene.queue.receive(3)
    assert [first, first] == others


def test_nobody_is_told_where_no_topic_is_set(scene: Scene) -> None:
    assert [] == scene.ask("bounce")["topics"] == scene.ask("open", stands_in=True)["topics"]


@pytest.mark.parametrize("more", [{"copies": 0}, {"copies": 101}, {"cause": "Weather"}, {"source": "nobody"}])
def test_what_cannot_be_is_refused(scene: Scene, more: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="error"):
        scene.ask("bounce", **more)
