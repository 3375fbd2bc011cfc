"""The broker's own topics, against the local AWS."""

import json
from typing import Any

import pytest

from broker.errors import Refused, Unavailable
from broker.gateways.http import HttpFetcher
from broker.gateways.sns import SnsGateway
from broker.ids import new_id
from tests.connections.aws import Gateways, cloud, gateways
from tests.gateways.servers import always, serving
from tests.sandbox.aws import REGION, endpoint, ses_may_publish
from tests.sandbox.aws import Aws as LocalAws

__all__ = ["cloud", "gateways"]


def policy(account_id: str, name: str) -> str:
    return json.dumps(ses_may_publish(f"arn:aws:sns:{REGION}:999999999999:{name}", account_id))


async def test_a_topic_is_made_once_with_the_policy_and_signature_asked_for(gateways: Gateways) -> None:
    name = f"ses-delegation-broker-{new_id().hex}"

    first = await gateways.sns.ensure_topic(REGION, name, policy=policy("111111111111", name))
    again = await gateways.sns.ensure_topic(REGION, name, policy=policy("222222222222", name))

    held = await gateways.aws.call(
        "sns", "get_topic_attributes", region=REGION, account_id="999999999999", TopicArn=first
    )
    assert first == again
    assert "222222222222" in held["Attributes"]["Policy"]
    assert held["Attributes"]["SignatureVersion"] == "2"


async def test_a_subscription_waits_until_its_token_comes_back(gateways: Gateways) -> None:
    name = f"ses-delegation-broker-{new_id().hex}"
    topic = await gateways.sns.ensure_topic(REGION, name, policy=policy("111111111111", name))
    with endpoint() as listener:
        waiting = await gateways.sns.subscribe(topic, listener.url)
        token = listener.wait(1)[0].body["Token"]

        confirmed = await gateways.sns.confirm(topic, token)

        assert waiting is None
        assert await gateways.sns.subscribe(topic, listener.url) == confirmed


async def ask(gateways: Gateways, operation: str, **given: str) -> dict[str, Any]:
    """SNS's answer in the broker's own account."""
    answer = await gateways.aws.call(
        "sns", operation, region=REGION, account_id="999999999999", credentials=None, **dict[str, Any](given)
    )
    found: dict[str, Any] = answer.get("Attributes", {})
    return found


async def test_a_topic_is_kept_free_of_the_key_that_ses_cannot_use(gateways: Gateways) -> None:
    """SES Developer Guide, configure-sns-notifications."""
    name = f"ses-delegation-broker-{new_id().hex}"
    topic = await gateways.sns.ensure_topic(REGION, name, policy=policy("111111111111", name))
    named = {"AttributeName": "KmsMasterKeyId", "AttributeValue": "alias/aws/sns"}
    await ask(gateways, "set_topic_attributes", TopicArn=topic, **named)
    await gateways.sns.ensure_topic(REGION, name, policy=policy("111111111111", name))

    held = await ask(gateways, "get_topic_attributes", TopicArn=topic)
    assert "" == held.get("KmsMasterKeyId", "")


async def test_a_subscription_gets_its_dead_letter_queue_once(gateways: Gateways, cloud: LocalAws) -> None:
    name = f"ses-delegation-broker-{new_id().hex}"
    topic = await gateways.sns.ensure_topic(REGION, name, policy=policy("111111111111", name))
    queue = f"arn:aws:sqs:{REGION}:999999999999:dead"
    with endpoint() as listener:
        await gateways.sns.subscribe(topic, listener.url)
        subscription = await gateways.sns.confirm(topic, listener.wait(1)[0].body["Token"])
    for _ in range(2):
        assert await gateways.sns.keep_all(subscription, dead_letters=queue)

    held = await ask(gateways, "get_subscription_attributes", SubscriptionArn=subscription)
    assert {"deadLetterTargetArn": queue} == json.loads(held["RedrivePolicy"])
    made = cloud.control("GET", "calls?service=sns&operation=SetSubscriptionAttributes")
    assert 2 == len(made)  # the retries, and the queue


async def test_a_dead_letter_queue_that_is_there_counts_until_it_is_taken_away(gateways: Gateways) -> None:
    name = f"ses-delegation-broker-{new_id().hex}"
    topic = await gateways.sns.ensure_topic(REGION, name, policy=policy("111111111111", name))
    with endpoint() as listener:
        await gateways.sns.subscribe(topic, listener.url)
        subscription = await gateways.sns.confirm(topic, listener.wait(1)[0].body["Token"])

    durable = []
    for redrive in ("{}", json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:999999999999:by-hand"}), "{}"):
        named: dict[str, Any] = {
            "SubscriptionArn": subscription,
            "AttributeName": "RedrivePolicy",
            "AttributeValue": redrive,
        }
        await gateways.aws.call("sns", "set_subscription_attributes", region=REGION, account_id="999999999999", **named)
        durable.append(await gateways.sns.keep_all(subscription, dead_letters=None))

    assert [False, True, False] == durable


async def test_a_wrong_token_is_refused(gateways: Gateways) -> None:
    name = f"ses-delegation-broker-{new_id().hex}"
    topic = await gateways.sns.ensure_topic(REGION, name, policy=policy("111111111111", name))

    with pytest.raises(Refused):
        await gateways.sns.confirm(topic, "wrong")


async def test_what_is_no_topic_is_refused_before_aws_is_asked(gateways: Gateways) -> None:
    with pytest.raises(Refused):
        await gateways.sns.confirm("arn:aws:s3:::bucket", "token")


async def test_a_missing_certificate_is_refused(gateways: Gateways, cloud: LocalAws) -> None:
    with pytest.raises(Refused):
        await gateways.sns.certificate(f"{cloud.url}/SimpleNotificationService-missing.pem")


async def test_a_certificate_is_not_fetched_over_plain_http_from_elsewhere(gateways: Gateways) -> None:
    with pytest.raises((Refused, Unavailable)):
        await gateways.sns.certificate("http://example.com/SimpleNotificationService-0.pem")


async def test_a_certificate_that_is_said_to_be_elsewhere_is_not_followed(gateways: Gateways) -> None:
    async with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")) as target:
        elsewhere = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/\r\ncontent-length: 0\r\n\r\n" % target.port
        async with serving(always(elsewhere)) as server:
            url = f"http://127.0.0.1:{server.port}"
            fetcher = HttpFetcher(trusted_url=url)
            sns = SnsGateway(gateways.aws, fetcher, gateways.settings)
            with pytest.raises(Refused):
                await sns.certificate(f"{url}/SimpleNotificationService-0.pem")
            await fetcher.close()

    assert (1, 0) == (server.connections, target.connections)
