"""Topics of an identity: only those that SES can publish to, and only by the identity's owner."""

import json
from functools import partial
from typing import Any

import msgspec
import pytest

from tests.sandbox.aws import Account, Aws, allow, refusal, ses_may_publish, simple


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


@pytest.mark.parametrize(("said", "forwards"), [("refused", False), ("forwards", True)])
def test_clearing_a_topic_while_forwarding_is_off(aws: Aws, owner: Account, said: str, forwards: bool) -> None:
    """Somebody has to hear of bounces; what SES does is not documented, so both are played."""
    topic, v1 = owner.make_topic("feedback", publishers=owner.id), owner.client("ses")
    for kind in ("Bounce", "Complaint"):
        set_topic(owner, topic, kind)
    v1.set_identity_feedback_forwarding_enabled(Identity="example.com", ForwardingEnabled=False)
    aws.control("PATCH", "dialect", {"clearing_without_forwarding": said})

    if not forwards:
        assert refusal(lambda: set_topic(owner, None))[0] == "InvalidParameterValue"
        v1.set_identity_feedback_forwarding_enabled(Identity="example.com", ForwardingEnabled=True)
    set_topic(owner, None)
    aws.control("PATCH", "dialect", {"clearing_without_forwarding": "refused"})

    assert attributes(owner)["ForwardingEnabled"]
    assert "BounceTopic" not in attributes(owner)


class Attached(msgspec.Struct, frozen=True):
    """An old notification of a delegate's about an owner's identity."""

    delegate: Account
    arn: str
    topic: str

    def seen(self) -> dict[str, Any]:
        found = self.delegate.client("ses").get_identity_notification_attributes(Identities=[self.arn])
        return dict(found["NotificationAttributes"].get(self.arn, {}))


@pytest.fixture
def attached(aws: Aws) -> Attached:
    """As it was made years ago."""
    _, delegate, arn = aws.delegation()
    topic = delegate.make_topic("old", publishers=delegate.id)
    aws.control("POST", "legacy", {"account_id": delegate.id, "identity_arn": arn, "topics": {"Bounce": topic}})
    return Attached(delegate, arn, topic)


def test_old_notifications_are_seen_by_the_identity_s_arn(aws: Aws, attached: Attached) -> None:
    """Of one's own account only (Developer Guide, sending-authorization-delegate-sender-tasks-notifications)."""
    stranger = aws.account().client("ses")

    assert attached.topic == attached.seen()["BounceTopic"]
    assert {} == stranger.get_identity_notification_attributes(Identities=[attached.arn])["NotificationAttributes"]


def test_old_notifications_are_edited_and_removed_but_none_is_added(attached: Attached) -> None:
    v1, other = attached.delegate.client("ses"), attached.delegate.make_topic("other", publishers=attached.delegate.id)
    headers = {"Identity": attached.arn, "NotificationType": "Bounce", "Enabled": True}

    set_topic(attached.delegate, other, identity=attached.arn)
    v1.set_identity_headers_in_notifications_enabled(**headers)
    edited = attached.seen()
    added = refusal(lambda: set_topic(attached.delegate, other, "Complaint", identity=attached.arn))
    set_topic(attached.delegate, None, identity=attached.arn)
    again = refusal(lambda: set_topic(attached.delegate, other, identity=attached.arn))

    assert (other, True) == (edited["BounceTopic"], edited["HeadersInBounceNotificationsEnabled"])
    assert ["InvalidParameterValue"] * 2 == [added[0], again[0]]
    assert "BounceTopic" not in attached.seen()


def test_only_the_owner_switches_forwarding(attached: Attached) -> None:
    """Only the owner can (Developer Guide, sending-authorization-overview)."""
    v1 = attached.delegate.client("ses")

    for enabled in (True, False):
        given = {"Identity": attached.arn, "ForwardingEnabled": enabled}
        code, _ = refusal(partial(v1.set_identity_feedback_forwarding_enabled, **given))
        assert code == "InvalidParameterValue"


def test_old_notifications_tell_of_the_delegate_s_own_mail(attached: Attached) -> None:
    queue = attached.delegate.make_queue("old", attached.topic)

    sent = simple("news@example.com", "bounce@simulator.amazonses.com")
    attached.delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=attached.arn)

    (record,) = queue.feedback()
    assert ("Bounce", attached.delegate.id) == (record["notificationType"], record["mail"]["sendingAccountId"])
