"""SNS as receivers see it: signed messages, confirmation, retries, and who may subscribe."""

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from tests.sandbox.aws import Account, Aws, Endpoint, allow, check_signature, fetch, refusal


@pytest.fixture
def account(aws: Aws) -> Account:
    return aws.account()


def subscribe(account: Account, topic: str, listener: Endpoint, **more: Any) -> str:
    found = account.client("sns").subscribe(TopicArn=topic, Protocol="http", Endpoint=listener.url, **more)
    return str(found["SubscriptionArn"])


def confirmed(account: Account, topic: str, listener: Endpoint, **more: Any) -> str:
    """A subscription that is confirmed by the API; the listener has forgotten the confirmation message."""
    subscribe(account, topic, listener, **more)
    token = listener.wait(1)[0].body["Token"]
    listener.posts.clear()
    return str(account.client("sns").confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"])


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_message_verifies_with_the_certificate_it_names(account: Account, listener: Endpoint, version: str) -> None:
    topic = account.make_topic("news", SignatureVersion=version)
    confirmed(account, topic, listener)

    message_id = account.client("sns").publish(TopicArn=topic, Message="Zürich\nand more", Subject="Hi")["MessageId"]

    body = listener.wait(1)[0].body
    check_signature(body)
    assert (version, message_id, "Zürich\nand more", "Hi") == (
        body["SignatureVersion"],
        body["MessageId"],
        body["Message"],
        body["Subject"],
    )
    with pytest.raises(InvalidSignature):
        check_signature(body | {"Message": "forged"})


def test_a_region_signs_all_its_messages_with_one_certificate(aws: Aws, account: Account, listener: Endpoint) -> None:
    topics = [account.make_topic(f"news-{number}") for number in range(2)]
    for topic in topics:
        confirmed(account, topic, listener)
        account.client("sns").publish(TopicArn=topic, Message="x")
        listener.wait(1)
        listener.posts.clear()
    urls = {aws.cloud.courier.certificate("eu-west-1").path, aws.cloud.courier.certificate("us-east-1").path}

    assert len(urls) == 2


def test_a_message_has_sns_s_headers(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    subscription = confirmed(account, topic, listener)

    message_id = account.client("sns").publish(TopicArn=topic, Message="x")["MessageId"]

    headers = listener.wait(1)[0].headers
    assert {
        "content-type": "text/plain; charset=UTF-8",
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-message-id": message_id,
        "x-amz-sns-topic-arn": topic,
        "x-amz-sns-subscription-arn": subscription,
        "user-agent": "Amazon Simple Notification Service Agent",
    }.items() <= headers.items()


def test_a_subscription_waits_for_its_confirmation(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news", SignatureVersion="2")
    sns = account.client("sns")

    shown = subscribe(account, topic, listener)

    asked = listener.wait(1)[0]
    check_signature(asked.body)
    assert shown == "pending confirmation"
    assert "SubscriptionConfirmation" == asked.body["Type"] == asked.headers["x-amz-sns-message-type"]
    assert "x-amz-sns-subscription-arn" not in asked.headers
    assert (
        sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"][0]["SubscriptionArn"] == "PendingConfirmation"
    )
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsPending"] == "1"


def test_nothing_is_delivered_before_the_confirmation(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    subscribe(account, topic, listener)
    asked = listener.wait(1)[0].body

    account.client("sns").publish(TopicArn=topic, Message="too early")
    status, _ = fetch(asked["SubscribeURL"])
    account.client("sns").publish(TopicArn=topic, Message="in time")

    assert status == 200
    assert listener.wait(2)[1].body["Message"] == "in time"


def test_a_wrong_token_confirms_nothing(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    arn = subscribe(account, topic, listener, ReturnSubscriptionArn=True)

    code, _ = refusal(lambda: account.client("sns").confirm_subscription(TopicArn=topic, Token="wrong"))

    assert code == "InvalidParameter"
    found = account.client("sns").get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    assert found["PendingConfirmation"] == "true"
    assert "Token" not in found


def test_the_same_endpoint_twice_is_one_subscription(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    first = subscribe(account, topic, listener, ReturnSubscriptionArn=True)

    assert first == subscribe(account, topic, listener, ReturnSubscriptionArn=True)


@pytest.mark.parametrize("trouble", [[503], [429, 500, 503]])
def test_trouble_is_retried_with_the_same_message_id(account: Account, listener: Endpoint, trouble: list[int]) -> None:
    topic = account.make_topic("news")
    confirmed(account, topic, listener)
    listener.statuses = trouble.copy()

    account.client("sns").publish(TopicArn=topic, Message="x")

    posts = listener.wait(len(trouble) + 1)
    assert len({post.headers["x-amz-sns-message-id"] for post in posts}) == 1


@pytest.mark.parametrize("final", [400, 403, 404, 301])
def test_other_answers_are_final(account: Account, listener: Endpoint, final: int) -> None:
    topic = account.make_topic("news")
    confirmed(account, topic, listener)
    listener.statuses = [final]

    account.client("sns").publish(TopicArn=topic, Message="first")
    listener.wait(1)
    account.client("sns").publish(TopicArn=topic, Message="second")

    assert [post.body["Message"] for post in listener.wait(2)] == ["first", "second"]


def test_after_three_retries_a_message_is_lost_to_the_dead_letter_queue(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    queue = account.make_queue("dead")
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": queue.arn})}
    confirmed(account, topic, listener, Attributes=redrive)
    listener.statuses = [500] * 4

    account.client("sns").publish(TopicArn=topic, Message="x")

    assert queue.receive()[0]["Message"] == "x"
    assert len(listener.posts) == 4


def test_raw_delivery_is_the_bare_message(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    confirmed(account, topic, listener, Attributes={"RawMessageDelivery": "true"})

    account.client("sns").publish(TopicArn=topic, Message="bare")

    post = listener.wait(1)[0]
    assert (post.raw, post.headers["x-amz-sns-rawdelivery"]) == ("bare", "true")


def test_a_filter_on_the_body_holds_back(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    wanted = {"FilterPolicyScope": "MessageBody", "FilterPolicy": json.dumps({"kind": ["wanted"]})}
    confirmed(account, topic, listener, Attributes=wanted)

    for kind in ("other", "wanted"):
        account.client("sns").publish(TopicArn=topic, Message=json.dumps({"kind": kind}))

    assert [json.loads(post.body["Message"]) for post in listener.wait(1)] == [{"kind": "wanted"}]


def test_an_ended_subscription_is_told_so(account: Account, listener: Endpoint) -> None:
    topic = account.make_topic("news")
    confirmed(account, topic, listener)
    account.client("sns").publish(TopicArn=topic, Message="x")
    link = listener.wait(1)[0].body["UnsubscribeURL"]

    status, _ = fetch(link)

    ended = listener.wait(2)[1].body
    check_signature(ended)
    assert (status, ended["Type"]) == (200, "UnsubscribeConfirmation")
    assert account.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == []


def test_another_account_subscribes_only_by_the_topic_s_policy(aws: Aws, account: Account, listener: Endpoint) -> None:
    topic, stranger, guest = account.make_topic("news"), aws.account(), aws.account()
    document = json.dumps(allow("sns:Subscribe", topic, principal={"AWS": guest.id}))
    account.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=document)

    refused = refusal(lambda: subscribe(stranger, topic, listener))
    confirmed(guest, topic, listener)

    text = f"User: {stranger.arn} is not authorized to perform: SNS:Subscribe on resource: {topic}"
    assert ("AuthorizationError", text) == refused
    assert [guest.id] == [each["Owner"] for each in guest.client("sns").list_subscriptions()["Subscriptions"]]


def test_a_queue_of_another_account_confirms_unless_its_owner_subscribes(aws: Aws, account: Account) -> None:
    topic, other = account.make_topic("news"), aws.account()
    queue = other.make_queue("guest")

    shown = account.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)["SubscriptionArn"]

    assert shown == "pending confirmation"
    assert queue.receive()[0]["Type"] == "SubscriptionConfirmation"


def test_a_queue_that_does_not_let_sns_in_gets_nothing(account: Account) -> None:
    topic = account.make_topic("news")
    open_queue, shut = account.make_queue("open", topic), account.make_queue("shut", topic)
    account.client("sqs").set_queue_attributes(QueueUrl=shut.url, Attributes={"Policy": ""})

    account.client("sns").publish(TopicArn=topic, Message="x")

    assert open_queue.receive()[0]["Message"] == "x"
    assert shut.receive_some() == []


def test_a_missing_topic_is_not_found(account: Account) -> None:
    topic = f"arn:aws:sns:eu-west-1:{account.id}:none"

    assert refusal(lambda: account.client("sns").publish(TopicArn=topic, Message="x"))[0] == "NotFound"


def test_a_topic_s_policy_must_be_a_policy(account: Account) -> None:
    topic = account.make_topic("news")
    given = {"TopicArn": topic, "AttributeName": "Policy", "AttributeValue": "{"}

    assert refusal(lambda: account.client("sns").set_topic_attributes(**given))[0] == "InvalidParameter"


def test_an_unknown_certificate_is_not_found(aws: Aws) -> None:
    assert fetch(f"{aws.url}/SimpleNotificationService-unknown.pem")[0] == 404


@pytest.mark.parametrize("arn", ["no-arn", "arn:aws:sns:mars-1:123456789012:news", "arn:moon:sns:eu-west-1:1:news"])
def test_a_bad_arn_is_refused(account: Account, arn: str) -> None:
    code, _ = refusal(lambda: account.client("sns").publish(TopicArn=arn, Message="x"))

    assert code in {"NotFound", "InvalidParameterValue"}
