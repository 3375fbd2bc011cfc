"""Topics of an identity: only those that SES can publish to, and only by the identity's owner."""

import json
from functools import partial
from typing import Any

import pytest

from tests.sandbox.aws import Account, Aws, allow, refusal, ses_may_publish


@pytest.fixture
def owner(aws: Aws) -> Account:
    account = aws.account()
    account.verify("example.com")
    return account


def attributes(owner: Account) -> dict[str, Any]:
    found = owner.client("ses").get_identity_notification_attributes(Identities=["example.com"])
    return dict(found["NotificationAttributes"]["example.com"])


def set_topic(owner: Account, topic: str | None, kind: str = "Bounce", identity: str = "example.com") -> None:
    given = {"SnsTopic": topic} if topic else {}
    owner.client("ses").set_identity_notification_topic(Identity=identity, NotificationType=kind, **given)


def test_a_fresh_identity_forwards_by_mail_and_has_no_topics(owner: Account) -> None:
    assert attributes(owner) == {
        "ForwardingEnabled": True,
        "HeadersInBounceNotificationsEnabled": False,
        "HeadersInComplaintNotificationsEnabled": False,
        "HeadersInDeliveryNotificationsEnabled": False,
    }


def test_a_topic_of_another_account_is_set_and_cleared(aws: Aws, owner: Account) -> None:
    topic = aws.account().make_topic("feedback", publishers=owner.id)

    set_topic(owner, topic)
    after_setting = attributes(owner)
    set_topic(owner, None)

    assert topic == after_setting["BounceTopic"]
    assert "BounceTopic" not in attributes(owner)


def test_a_topic_is_greeted(owner: Account) -> None:
    topic = owner.make_topic("feedback", publishers=owner.id)
    queue = owner.make_queue("feedback", topic)

    set_topic(owner, topic)

    greeting = json.loads(queue.receive()[0]["Message"])
    assert greeting["notificationType"] == "AmazonSnsSubscriptionSucceeded"


def test_topics_that_ses_cannot_publish_to_are_refused(aws: Aws, owner: Account) -> None:
    broker = aws.account()
    unusable = {
        "missing": f"arn:aws:sns:eu-west-1:{broker.id}:missing",
        "no policy for SES": broker.make_topic("silent"),
        "for another account": broker.make_topic("other", publishers=broker.id),
        "by the other key": broker.make_topic("source-owner"),
        "encrypted by AWS's key": broker.make_topic("secret", publishers=owner.id, KmsMasterKeyId="alias/aws/sns"),
        "FIFO": broker.make_topic("first.fifo", FifoTopic="true"),
    }
    document = ses_may_publish(unusable["by the other key"], owner.id, "aws:SourceOwner")
    broker.client("sns").set_topic_attributes(
        TopicArn=unusable["by the other key"], AttributeName="Policy", AttributeValue=json.dumps(document)
    )

    refused = {why: refusal(partial(set_topic, owner, topic))[0] for why, topic in unusable.items()}

    assert dict.fromkeys(unusable, "InvalidParameterValue") == refused
    assert "BounceTopic" not in attributes(owner)


def test_a_topic_of_another_region_is_refused(owner: Account) -> None:
    topic = str(owner.client("sns", region="us-east-1").create_topic(Name="far")["TopicArn"])

    assert refusal(lambda: set_topic(owner, topic))[0] == "InvalidParameterValue"


def test_a_topic_may_demand_the_identity_s_arn(owner: Account) -> None:
    topic = owner.make_topic("feedback")
    document = allow(
        "SNS:Publish",
        topic,
        principal={"Service": "ses.amazonaws.com"},
        Condition={
            "StringEquals": {
                "AWS:SourceAccount": owner.id,
                "AWS:SourceArn": f"arn:aws:ses:eu-west-1:{owner.id}:identity/example.com",
            }
        },
    )
    owner.client("sns").set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(document)
    )
    owner.verify("example.org")

    set_topic(owner, topic)

    assert refusal(lambda: set_topic(owner, topic, identity="example.org"))[0] == "InvalidParameterValue"


def test_a_delegate_cannot_set_a_topic_on_the_owner_s_identity(aws: Aws, owner: Account) -> None:
    delegate = aws.account()
    topic = delegate.make_topic("mine", publishers=owner.id)
    arn = f"arn:aws:ses:eu-west-1:{owner.id}:identity/example.com"

    code, message = refusal(lambda: set_topic(delegate, topic, identity=arn))

    text = f"Identity {arn} is invalid. Must be a verified email address or domain."
    assert ("InvalidParameterValue", text) == (code, message)


def test_headers_need_a_topic(owner: Account) -> None:
    v1 = owner.client("ses")
    ask = {"Identity": "example.com", "NotificationType": "Bounce", "Enabled": True}

    without = refusal(lambda: v1.set_identity_headers_in_notifications_enabled(**ask))
    set_topic(owner, owner.make_topic("feedback", publishers=owner.id))
    v1.set_identity_headers_in_notifications_enabled(**ask)

    assert without[0] == "InvalidParameterValue"
    assert attributes(owner)["HeadersInBounceNotificationsEnabled"]


def test_forwarding_can_stop_once_bounces_and_complaints_have_topics(owner: Account) -> None:
    v1 = owner.client("ses")
    topic = owner.make_topic("feedback", publishers=owner.id)
    stop = {"Identity": "example.com", "ForwardingEnabled": False}

    set_topic(owner, topic, "Bounce")
    too_soon = refusal(lambda: v1.set_identity_feedback_forwarding_enabled(**stop))
    set_topic(owner, topic, "Complaint")
    v1.set_identity_feedback_forwarding_enabled(**stop)

    assert too_soon[0] == "InvalidParameterValue"
    assert not attributes(owner)["ForwardingEnabled"]
    assert not owner.client("sesv2").get_email_identity(EmailIdentity="example.com")["FeedbackForwardingStatus"]
