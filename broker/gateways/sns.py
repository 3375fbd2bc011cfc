"""SNS in the broker's own account: topics that SES publishes to, and the certificates of SNS's signatures."""

import json
from typing import Any
from urllib.parse import urlsplit

from broker.errors import Refused, Unavailable
from broker.gateways.aws import Aws
from broker.gateways.http import HttpFetcher
from broker.settings import Settings

_CERTIFICATE_LIMIT = 16_384
_AWS_MANAGED_KEY = "alias/aws/sns"
# 3 at once, 10 after 5 s each, 17 after 5 to 60 s, 30 after 60 s each: below 3,000 s.
RETRIES = {
    "numRetries": 60,
    "numNoDelayRetries": 3,
    "numMinDelayRetries": 10,
    "minDelayTarget": 5,
    "numMaxDelayRetries": 30,
    "maxDelayTarget": 60,
    "backoffFunction": "exponential",
}


class SnsGateway:
    """Topics of ours in any Region, under the broker's own credentials."""

    def __init__(self, aws: Aws, fetcher: HttpFetcher, settings: Settings) -> None:
        self._aws = aws
        self._fetcher = fetcher
        self._account_id = settings.aws_account_id
        self._timeout = settings.aws_call_timeout

    async def ensure_topic(self, region: str, name: str, *, policy: str) -> str:
        """The ARN of the standard topic of this name with this access policy (JSON) and SignatureVersion 2.

        Made if it is missing; only what differs is set. SignatureVersion 2 is SHA-256 (SNS Developer Guide,
        sns-verify-signature-of-message). SES cannot publish to a topic under the AWS-managed key (SES Developer Guide,
        configure-sns-notifications), so a topic that somebody encrypted with it is opened again.
        """
        made = await self._call(region, "create_topic", Name=name)
        arn = str(made["TopicArn"])
        held = (await self._call(region, "get_topic_attributes", TopicArn=arn)).get("Attributes", {})
        if not _holds(_read(held.get("Policy")), json.loads(policy)):
            await self._set(region, arn, "Policy", policy)
        if held.get("SignatureVersion") != "2":
            await self._set(region, arn, "SignatureVersion", "2")
        if str(held.get("KmsMasterKeyId", "")).endswith(_AWS_MANAGED_KEY):
            await self._set(region, arn, "KmsMasterKeyId", "")
        return arn

    async def subscribe(self, topic_arn: str, endpoint: str) -> str | None:
        """Subscribes a URL, or a queue by ARN; the subscription's ARN once it is confirmed, None while it waits.

        Asking again has SNS send the confirmation message again. A queue whose owner subscribes it confirms nothing
        (SNS Developer Guide, sns-send-message-to-sqs-cross-account).
        """
        protocol = "sqs" if endpoint.startswith("arn:") else urlsplit(endpoint).scheme
        answer = await self._call(
            _region_of(topic_arn), "subscribe", TopicArn=topic_arn, Protocol=protocol, Endpoint=endpoint
        )
        arn = str(answer.get("SubscriptionArn", ""))
        return arn if arn.startswith("arn:") else None

    async def keep_all(self, subscription_arn: str, *, dead_letters: str | None) -> bool:
        """Sets a subscription of ours so that SNS loses nothing while we are away; whether that is so now.

        To a queue SNS tries for 23 days. To HTTPS it tries four times within a minute; with our retry policy for less
        than the hour that is allowed, and then it puts the message into `dead_letters`, a queue's ARN (SNS Developer
        Guide, sns-message-delivery-retries and sns-dead-letter-queues); without one of ours, a queue that the operator
        has set there counts. Raw delivery, which is unsigned, is ended.
        """
        region = _region_of(subscription_arn)
        answer = await self._call(region, "get_subscription_attributes", SubscriptionArn=subscription_arn)
        held: dict[str, str] = answer.get("Attributes", {})
        wanted = {"RawMessageDelivery": "false"}
        if held.get("Protocol") != "sqs":
            wanted["DeliveryPolicy"] = json.dumps({"healthyRetryPolicy": RETRIES})
            if dead_letters is not None:
                wanted["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": dead_letters})
        for name, value in wanted.items():
            there = held.get(name, "false" if name == "RawMessageDelivery" else None)
            if not _holds(_read(there), json.loads(value)):
                given = {"AttributeName": name, "AttributeValue": value}
                await self._call(region, "set_subscription_attributes", SubscriptionArn=subscription_arn, **given)
        redriven = (_read(held.get("RedrivePolicy")) or {}).get("deadLetterTargetArn")
        return held.get("Protocol") == "sqs" or dead_letters is not None or bool(redriven)

    async def confirm(self, topic_arn: str, token: str) -> str:
        """Confirms a subscription, so that only we can end it; its ARN."""
        answer = await self._call(
            _region_of(topic_arn),
            "confirm_subscription",
            TopicArn=topic_arn,
            Token=token,
            AuthenticateOnUnsubscribe="true",
        )
        return str(answer["SubscriptionArn"])

    async def certificate(self, url: str) -> bytes:
        """A signing certificate (PEM). The caller has checked that the host is SNS's."""
        host = urlsplit(url).hostname or ""
        answer = await self._fetcher.fetch(
            url, {}, max_bytes=_CERTIFICATE_LIMIT, timeout=self._timeout, allowed_hosts={host}
        )
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(f"SNS's certificate cannot be fetched now: status {answer.status}.")
        if answer.status != 200:
            raise Refused(f"SNS has no certificate there: status {answer.status}.", code="NoCertificate")
        return answer.body

    async def _set(self, region: str, topic_arn: str, name: str, value: str) -> None:
        await self._call(region, "set_topic_attributes", TopicArn=topic_arn, AttributeName=name, AttributeValue=value)

    async def _call(self, region: str, operation: str, **parameters: Any) -> dict[str, Any]:
        return await self._aws.call("sns", operation, region=region, account_id=self._account_id, **parameters)


def _region_of(arn: str) -> str:
    parts = arn.split(":")
    if len(parts) < 6 or parts[2] != "sns":
        raise Refused("This is not the ARN of a topic.", code="InvalidParameter")
    return parts[3]


def _read(held: str | None) -> Any:
    try:
        return json.loads(held) if held else None
    except ValueError:
        return None


def _holds(held: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; SNS adds defaults of its own to what it was given."""
    if isinstance(wanted, dict) and isinstance(held, dict):
        return all(_holds(held.get(key), value) for key, value in wanted.items())
    return bool(held == wanted)
