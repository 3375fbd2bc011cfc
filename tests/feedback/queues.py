"""A broker with a queue in the local AWS, made as the CloudFormation template says."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from broker.feedback_queues import FeedbackQueue
from broker.ids import new_id
from broker.parts import Parts
from broker.sandbox import queues
from broker.settings import Settings
from tests.deploy.template import Stack
from tests.sandbox.aws import REGION, Account
from tests.sandbox.aws import Aws as LocalAws

RECEIVES = 10


class Place(msgspec.Struct, frozen=True):
    """The broker's account with its queue, and the broker's parts."""

    settings: Settings
    parts: Parts
    queue: FeedbackQueue
    events: FeedbackQueue
    sqs: Any
    aws: LocalAws

    def put_event(self, body: str) -> None:
        """Into the queue for events, as our rule on our bus would."""
        self.sqs.send_message(QueueUrl=self.events.url, MessageBody=body)

    def put(self, *bodies: str) -> None:
        """Into the queue, as SNS would."""
        for first in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[first : first + 10])]
            self.sqs.send_message_batch(QueueUrl=self.queue.url, Entries=entries)

    def depth(self, url: str | None = None) -> tuple[int, int]:
        """How many messages wait, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.queue.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def show_again(self) -> None:
        """As if the time were over for which messages are hidden."""
        for message in queues.find(self.queue.arn)._messages:  # noqa: SLF001 — moto's `messages` are the visible ones
            if not message.visible:
                self.sqs.change_message_visibility(
                    QueueUrl=self.queue.url, ReceiptHandle=message.receipt_handle, VisibilityTimeout=0
                )

    def is_empty(self) -> bool:
        """Whether nothing is in the queues, hidden or not."""
        return (0, 0) == self.depth() == self.depth(self.events.url)


def make_queue(
    aws: LocalAws, account_id: str, *, kind: str = "Feedback", receives: int = RECEIVES
) -> tuple[FeedbackQueue, Account]:
    """A queue of this test's own with its dead-letter queue and the template's policies."""
    account = Account(aws, account_id)
    sqs, stack = account.client("sqs"), Stack(account_id=account_id, region=REGION, EventAccounts="1").resources
    name = f"{kind.lower()}-{new_id().hex[-12:]}"
    arn = f"arn:aws:sqs:{REGION}:{account_id}:{name}"
    dead = {"Feedback": "DeadLetters", "Events": "EventDeadLetters"}[kind]
    for suffix, made in (("-dead", dead), ("", kind)):
        policy = json.dumps(stack[f"{made}Policy"]["Properties"]["PolicyDocument"])
        template_arn = f"arn:aws:sqs:{REGION}:{account_id}:{stack[made]['Properties']['QueueName']}"
        given = {"Policy": policy.replace(f'"{template_arn}"', f'"{arn}{suffix}"'), "VisibilityTimeout": "60"}
        if not suffix:
            given["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": f"{arn}-dead", "maxReceiveCount": receives})
        url = sqs.create_queue(QueueName=name + suffix, Attributes=given)["QueueUrl"]
    return FeedbackQueue(REGION, url, arn, kind == "Events"), account


@asynccontextmanager
async def placed(aws: LocalAws, settings: Settings, **given: Any) -> AsyncIterator[Place]:
    """The broker's parts over the local AWS, with a queue."""
    queue, account = make_queue(aws, settings.aws_account_id, **given)
    events, _ = make_queue(aws, settings.aws_account_id, kind="Events", **given)
    mine = msgspec.structs.replace(
        settings,
        aws_endpoint_url=aws.url,
        aws_region=REGION,
        feedback_queues=f"{queue.region}={queue.url}",
        event_queues=f"{events.region}={events.url}",
        redis_url="redis://127.0.0.1:1/0",
    )
    parts = Parts(mine)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", account.keys.access_key_id)
        environment.setenv("AWS_SECRET_ACCESS_KEY", account.keys.secret_access_key)
        await parts.aws.warm(REGION)
        yield Place(mine, parts, queue, events, account.client("sqs"), aws)
    await parts.close()
