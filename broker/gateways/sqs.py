"""Queues of the broker's own account: receiving by long poll, deleting, keeping hidden, and how much lies there."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from broker.feedback_queues import FeedbackQueue
from broker.gateways.aws import Aws
from broker.settings import Settings

MOST = 10  # messages in one call (SQS API Reference, ReceiveMessage and DeleteMessageBatch)


class Message(msgspec.Struct, frozen=True):
    """One message that is hidden from others for now. `receipt` is of this receive; `received` counts them, from 1."""

    id: str
    receipt: str
    body: str
    received: int


class Depth(msgspec.Struct, frozen=True):
    """About how many messages wait in a queue, and how many somebody is working on."""

    waiting: int
    in_flight: int


class SqsGateway:
    """Queues of ours in any Region, under the broker's own credentials. Raises `Unavailable` or `Refused`."""

    def __init__(self, aws: Aws, settings: Settings) -> None:
        self._aws = aws
        self._account_id = settings.aws_account_id

    async def receive(self, queue: FeedbackQueue, *, wait: timedelta, hidden: timedelta) -> list[Message]:
        """At most 10 messages, hidden from others for so long; none when none came within `wait` (at most 20 s)."""
        answer = await self._call(
            queue,
            "receive_message",
            waits=wait,
            MaxNumberOfMessages=MOST,
            WaitTimeSeconds=int(wait.total_seconds()),
            VisibilityTimeout=int(hidden.total_seconds()),
            AttributeNames=["ApproximateReceiveCount"],
        )
        return [_message(each) for each in answer.get("Messages", [])]

    async def delete(self, queue: FeedbackQueue, receipts: Sequence[str]) -> list[str]:
        """Deletes at most 10 messages; the receipts of those that were not."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        return _failed(await self._call(queue, "delete_message_batch", Entries=entries), receipts)

    async def hide(self, queue: FeedbackQueue, receipts: Sequence[str], *, still: timedelta) -> list[str]:
        """Keeps at most 10 messages hidden for so long from now (0: shows them); the receipts where that failed.

        Twelve hours after a message was received it is shown whatever is asked for (SQS Developer Guide,
        sqs-visibility-timeout).
        """
        seconds = int(still.total_seconds())
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
            for number, receipt in enumerate(receipts)
        ]
        return _failed(await self._call(queue, "change_message_visibility_batch", Entries=entries), receipts)

    async def depth(self, queue: FeedbackQueue) -> Depth:
        """Of the queue itself."""
        return await self._depth(queue, queue.url)

    async def dead(self, queue: FeedbackQueue) -> int:
        """How many messages lie in its dead-letter queue."""
        found = await self._depth(queue, queue.dead_url)
        return found.waiting + found.in_flight

    async def _depth(self, queue: FeedbackQueue, url: str) -> Depth:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self._call(queue, "get_queue_attributes", QueueUrl=url, AttributeNames=names)
        waiting, in_flight = (int(answer.get("Attributes", {}).get(name, 0)) for name in names)
        return Depth(waiting, in_flight)

    async def _call(
        self, queue: FeedbackQueue, operation: str, *, waits: timedelta = timedelta(0), **parameters: Any
    ) -> dict[str, Any]:
        named = {"QueueUrl": queue.url} | parameters
        return await self._aws.call(
            "sqs", operation, region=queue.region, account_id=self._account_id, waits=waits, **named
        )


def _message(told: dict[str, Any]) -> Message:
    received = int(told.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    return Message(str(told["MessageId"]), str(told["ReceiptHandle"]), str(told.get("Body", "")), received)


def _failed(answer: dict[str, Any], receipts: Sequence[str]) -> list[str]:
    return [receipts[int(entry["Id"])] for entry in answer.get("Failed", [])]
