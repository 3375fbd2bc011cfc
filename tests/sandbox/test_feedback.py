"""What SES tells about mail: to the identity's topics and to the sender's configuration set."""

import json
from typing import Any

import pytest

from tests.sandbox.aws import Account, Aws, Queue, ses_may_publish, simple

BOUNCE = "bounce+label@simulator.amazonses.com"


def hear(owner: Account, *kinds: str) -> Queue:
    """A queue behind the identity's topic for these kinds of notification."""
    topic = owner.make_topic("feedback", publishers=owner.id)
    queue = owner.make_queue("feedback", topic)
    for kind in kinds:
        owner.client("ses").set_identity_notification_topic(
            Identity="example.com", NotificationType=kind, SnsTopic=topic
        )
    return queue


def send(account: Account, arn: str, *recipients: str, **more: Any) -> str:
    mail = simple("News <news@example.com>", *recipients, FromEmailAddressIdentityArn=arn, **more)
    return str(account.client("sesv2").send_email(**mail)["MessageId"])


def test_a_bounce_of_delegated_mail_reaches_the_owner_s_topic(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    queue = hear(owner, "Bounce", "Complaint")

    message_id = send(delegate, arn, BOUNCE)

    record = queue.feedback()[0]
    mail, bounce = record["mail"], record["bounce"]
    assert {"notificationType", "mail", "bounce"} == set(record)
    assert (
        record["notificationType"],
        bounce["bounceType"],
        bounce["bounceSubType"],
    ) == ("Bounce", "Permanent", "General")
    assert [BOUNCE] == [each["emailAddress"] for each in bounce["bouncedRecipients"]] == mail["destination"]
    assert {
        "timestamp": mail["timestamp"],
        "source": "News <news@example.com>",
        "sourceArn": arn,
        "sendingAccountId": delegate.id,
        "messageId": message_id,
        "destination": [BOUNCE],
        "sourceIp": "127.0.0.1",
        "callerIdentity": "administrator",
    } == mail


@pytest.mark.parametrize(
    ("recipient", "kinds"),
    [
        ("success@simulator.amazonses.com", ["Delivery"]),
        ("someone@elsewhere.example", ["Delivery"]),
        ("bounce@simulator.amazonses.com", ["Bounce Permanent General"]),
        ("suppressionlist@simulator.amazonses.com", ["Bounce Permanent Suppressed"]),
        ("ooto@simulator.amazonses.com", ["Delivery", "Bounce Transient General"]),
        ("complaint@simulator.amazonses.com", ["Delivery", "Complaint abuse"]),
    ],
)
def test_the_mailbox_simulator_decides_the_fate(aws: Aws, recipient: str, kinds: list[str]) -> None:
    owner, delegate, arn = aws.delegation()
    queue = hear(owner, "Bounce", "Complaint", "Delivery")

    send(delegate, arn, recipient)

    assert sorted(kinds) == sorted(map(_summary, queue.feedback(len(kinds))))


def _summary(record: dict[str, Any]) -> str:
    match record["notificationType"]:
        case "Bounce":
            return f"Bounce {record['bounce']['bounceType']} {record['bounce']['bounceSubType']}"
        case "Complaint":
            return f"Complaint {record['complaint']['complaintFeedbackType']}"
        case kind:
            return str(kind)


def test_one_record_may_cover_several_recipients(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    queue = hear(owner, "Bounce")
    recipients = ["bounce+1@simulator.amazonses.com", "bounce+2@simulator.amazonses.com"]

    send(delegate, arn, *recipients)

    assert recipients == [each["emailAddress"] for each in queue.feedback()[0]["bounce"]["bouncedRecipients"]]


def test_headers_come_only_if_asked_for(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    queue = hear(owner, "Bounce")
    owner.client("ses").set_identity_headers_in_notifications_enabled(
        Identity="example.com", NotificationType="Bounce", Enabled=True
    )

    send(delegate, arn, BOUNCE)

    mail = queue.feedback()[0]["mail"]
    assert not mail["headersTruncated"]
    assert {"name": "Subject", "value": "Hello"} in mail["headers"]
    assert (mail["commonHeaders"]["subject"], mail["commonHeaders"]["to"]) == ("Hello", [BOUNCE])


def test_the_most_specific_identity_supplies_the_topics(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    queue = hear(owner, "Bounce")
    owner.verify("quiet@example.com")

    delegate.client("sesv2").send_email(**simple("quiet@example.com", BOUNCE, FromEmailAddressIdentityArn=arn))
    loud = send(delegate, arn, BOUNCE)

    assert [loud] == [each["mail"]["messageId"] for each in queue.feedback()]


def test_a_configuration_set_tells_its_owner_with_headers_and_tags(aws: Aws) -> None:
    _, delegate, arn = aws.delegation()
    queue = _follow(delegate, ["SEND", "BOUNCE"])

    tags = [{"Name": "campaign", "Value": "autumn"}]
    message_id = send(delegate, arn, BOUNCE, ConfigurationSetName="mine", EmailTags=tags)

    records = {record["eventType"]: record for record in queue.feedback(2)}
    assert {"Send", "Bounce"} == set(records)
    bounce = records["Bounce"]
    assert (message_id, arn, delegate.id) == (
        bounce["mail"]["messageId"],
        bounce["mail"]["sourceArn"],
        bounce["mail"]["sendingAccountId"],
    )
    assert bounce["mail"]["tags"]["campaign"] == ["autumn"]
    assert bounce["mail"]["tags"]["ses:configuration-set"] == ["mine"]
    assert bounce["mail"]["tags"]["ses:from-domain"] == ["example.com"]
    assert "commonHeaders" in bounce["mail"]


def _follow(account: Account, kinds: list[str]) -> Queue:
    """A queue behind an event destination of the configuration set `mine`."""
    topic = account.make_topic("events", publishers=account.id)
    queue = account.make_queue("events", topic)
    v2 = account.client("sesv2")
    v2.create_configuration_set(ConfigurationSetName="mine")
    v2.create_configuration_set_event_destination(
        ConfigurationSetName="mine",
        EventDestinationName="broker",
        EventDestination={"Enabled": True, "MatchingEventTypes": kinds, "SnsDestination": {"TopicArn": topic}},
    )
    return queue


def test_without_the_configuration_set_nothing_is_told(aws: Aws) -> None:
    _, delegate, arn = aws.delegation()
    queue = _follow(delegate, ["BOUNCE"])

    send(delegate, arn, BOUNCE)
    named = send(delegate, arn, BOUNCE, ConfigurationSetName="mine")

    assert [named] == [each["mail"]["messageId"] for each in queue.feedback()]


def test_both_paths_tell_of_the_same_bounce(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    to_owner, to_delegate = hear(owner, "Bounce"), _follow(delegate, ["BOUNCE"])

    message_id = send(delegate, arn, BOUNCE, ConfigurationSetName="mine")

    first, second = to_owner.feedback()[0], to_delegate.feedback()[0]
    assert message_id == first["mail"]["messageId"] == second["mail"]["messageId"]
    assert first["mail"]["timestamp"] == second["mail"]["timestamp"]


def test_the_identity_s_default_set_serves_its_owner_s_mail(aws: Aws) -> None:
    owner = aws.account()
    arn = owner.verify("example.com")
    queue = _follow(owner, ["DELIVERY"])
    owner.client("sesv2").put_email_identity_configuration_set_attributes(
        EmailIdentity="example.com", ConfigurationSetName="mine"
    )

    send(owner, arn, "success@simulator.amazonses.com")

    assert queue.feedback()[0]["eventType"] == "Delivery"


def test_ses_drops_a_topic_that_it_can_no_longer_publish_to(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    hear(owner, "Bounce", "Delivery")
    v1, sns = owner.client("ses"), owner.client("sns")
    topic = v1.get_identity_notification_attributes(Identities=["example.com"])["NotificationAttributes"][
        "example.com"
    ]["BounceTopic"]
    v1.set_identity_notification_topic(Identity="example.com", NotificationType="Complaint", SnsTopic=topic)
    v1.set_identity_feedback_forwarding_enabled(Identity="example.com", ForwardingEnabled=False)
    policy = json.dumps(ses_may_publish(topic, "999999999999"))
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)

    send(delegate, arn, "success@simulator.amazonses.com", BOUNCE)
    aws.settle()

    found = v1.get_identity_notification_attributes(Identities=["example.com"])["NotificationAttributes"]["example.com"]
    assert "BounceTopic" not in found
    assert topic == found["DeliveryTopic"] == found["ComplaintTopic"]
    assert found["ForwardingEnabled"]


def test_an_event_can_be_asked_for(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    queue = hear(owner, "Complaint")
    event = {
        "account_id": owner.id,
        "region": "eu-west-1",
        "identity": "example.com",
        "sending_account_id": delegate.id,
        "source": "news@example.com",
        "recipients": ["angry@elsewhere.example"],
        "kind": "complaint",
        "message_id": "0102-test",
        "sent_at": "2026-01-02T03:04:05Z",
    }

    aws.control("POST", "events", event)

    record = queue.feedback()[0]
    assert ("0102-test", "2026-01-02T03:04:05.000Z", arn) == (
        record["mail"]["messageId"],
        record["mail"]["timestamp"],
        record["mail"]["sourceArn"],
    )
