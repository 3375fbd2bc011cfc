"""Takes feedback out of the queue of one Region: nothing is deleted before it is stored, and trouble is waited out.

A message that could not be dealt with would go to the dead-letter queue after a few receives. So while the trouble is
ours (the database is away), those in hand are kept hidden and tried again, and no more are taken than fit in hand.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Protocol, TypeVar

from broker import log
from broker.errors import BrokerError, Unavailable
from broker.feedback.flusher import Flusher, Unstorable
from broker.feedback.intake import Held, Intake
from broker.feedback.receive import Receiver
from broker.feedback_queues import FeedbackQueue
from broker.points import reach
from broker.webhooks.ledger.ledger import Count, Ledger

WAIT = timedelta(seconds=20)  # the longest that SQS waits for a message
WAIT_BESIDE = timedelta(seconds=1)  # of a receive beside another: long enough that SQS asks all of its servers
HIDDEN = timedelta(seconds=60)
HIDE_AGAIN_AFTER = 20.0  # seconds
AT_ONCE = 24  # receives side by side, of ten messages each; what is in hand never is more
ENOUGH = 5  # messages in one answer that show that there are more
FIRST_RETRY, LONGEST_RETRY = 0.1, 30.0  # seconds
DELETE_TRIES = 5
END_WITHIN = 20.0  # seconds

logger = log.get(__name__)
T = TypeVar("T")


class Queues(Protocol):
    """SQS in the broker's own account; ten messages a call at most. Raises `Unavailable` or `Refused`."""

    async def receive(self, queue: FeedbackQueue, *, wait: timedelta, hidden: timedelta) -> Sequence[Held]:
        """What came within `wait`, hidden from others for so long."""
        ...

    async def delete(self, queue: FeedbackQueue, receipts: Sequence[str]) -> Sequence[str]:
        """The receipts of those that were not deleted."""
        ...

    async def hide(self, queue: FeedbackQueue, receipts: Sequence[str], *, still: timedelta) -> Sequence[str]:
        """Hidden for so long from now, 0: shown; the receipts of those where that failed."""
        ...


class Poller:
    """Of one queue. `run` until `stop`; it returns when what was in hand is dealt with or shown to others again."""

    def __init__(
        self,
        sqs: Queues,
        queue: FeedbackQueue,
        receiver: Receiver,
        *,
        partition: str,
        ledger: Ledger,
        wait: timedelta = WAIT,
        at_once: int = AT_ONCE,
        hide_again_after: float = HIDE_AGAIN_AFTER,
    ) -> None:
        self._sqs = sqs
        self._queue = queue
        self._intake = Intake(queue, receiver, partition=partition, ledger=ledger)
        self._ledger = ledger
        self._wait = wait
        self._at_once = at_once
        self._hide_again_after = hide_again_after
        self._serving = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Receives no more."""
        self._stopping.set()

    async def run(self) -> None:
        """Never ends by itself, whatever SQS or the database do."""
        async with asyncio.TaskGroup() as group:
            await self._serve(group, beside=False)

    async def _serve(self, group: asyncio.TaskGroup, *, beside: bool) -> None:
        """Receive, deal with it, delete, over and over; one that serves beside another ends when there is no more."""
        self._serving += 1
        failures = 0
        try:
            while not self._stopping.is_set():
                found = await self._round(group, WAIT_BESIDE if beside else self._wait)
                if beside and found == 0:
                    return
                failures = failures + 1 if found is None else 0
                if failures:
                    await self._pause(failures)
        finally:
            self._serving -= 1

    async def _round(self, group: asyncio.TaskGroup, wait: timedelta) -> int | None:
        """How many messages there were; None when it failed, which is logged."""
        try:
            messages = await self._receive(wait)
            if len(messages) >= ENOUGH and self._serving < self._at_once:
                group.create_task(self._serve(group, beside=True))
            await self._deal(messages)
        except BrokerError as error:
            logger.warning("queue cannot be used; it is tried again", queue=self._queue.label, error=error.detail)
            return None
        except Exception:
            logger.exception("feedback of a queue failed; it is tried again", queue=self._queue.label)
            return None
        return len(messages)

    async def _receive(self, wait: timedelta) -> Sequence[Held]:
        """Nothing where we are stopped meanwhile: what SQS was just about to hand out is shown again by itself."""
        found = await self._unless_stopped(self._sqs.receive(self._queue, wait=wait, hidden=HIDDEN))
        if found:
            repeated = sum(message.received > 1 for message in found)
            self._ledger.count(Count.QUEUED, "received", number=len(found))
            self._ledger.count(Count.QUEUED, "repeated", number=repeated)
        return found or ()

    async def _unless_stopped(self, work: Awaitable[T]) -> T | None:
        """What it comes to, or None when we are stopped before; then it is given up."""
        working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            for each in (working, stopped):
                each.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)

    async def _deal(self, messages: Sequence[Held]) -> None:
        """Each on its own; those that are stored are deleted, the others are shown again."""
        if not messages:
            return
        reach("queues.received")
        async with self._kept_hidden(messages):
            dealt = await asyncio.gather(*(self._take_or_leave(message) for message in messages))
        done = [message.receipt for message, is_done in zip(messages, dealt, strict=True) if is_done]
        left = [message.receipt for message, is_done in zip(messages, dealt, strict=True) if not is_done]
        if done:
            reach("queues.stored")
            await self._delete(done)
            reach("queues.deleted")
        if left:
            self._ledger.count(Count.QUEUED, "left", number=len(left))
            # At once where we are only stopped; what cannot be stored comes again later, and is dead in the end.
            still = timedelta(0) if self._stopping.is_set() else HIDDEN
            await self._sqs.hide(self._queue, left, still=still)

    async def _take_or_leave(self, message: Held) -> bool:
        """As `_take`; one message that fails unforeseen is left, and does not touch the others."""
        try:
            return await self._take(message)
        except Exception:
            logger.exception("message of a queue failed", queue=self._queue.label, id=message.id)
            return False

    async def _take(self, message: Held) -> bool:
        """Whether it may be deleted: it is stored. Waits for trouble of ours to be over."""
        failures = 0
        while True:
            try:
                await self._intake.take(message)
            except Unstorable:
                return False
            except Unavailable as error:
                if self._stopping.is_set():
                    return False
                failures += 1
                if failures == 1:
                    logger.warning("feedback waits", queue=self._queue.label, error=error.detail)
                await self._pause(failures)
            else:
                return True

    async def _delete(self, receipts: Sequence[str]) -> None:
        """Tries for a while; what is left comes again, and changes nothing then."""
        remaining = receipts
        for tries in range(1, DELETE_TRIES + 1):
            with suppress(Unavailable):
                remaining = await self._sqs.delete(self._queue, remaining)
            if not remaining:
                break
            await self._pause(tries)
        self._ledger.count(Count.QUEUED, "deleted", number=len(receipts) - len(remaining))
        if remaining:
            logger.warning("messages not deleted; they come again", queue=self._queue.label, number=len(remaining))

    @asynccontextmanager
    async def _kept_hidden(self, messages: Sequence[Held]) -> AsyncIterator[None]:
        """Extends the time for which they are hidden for as long as we work on them."""
        extending = asyncio.create_task(self._keep_hidden([message.receipt for message in messages]))
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)

    async def _keep_hidden(self, receipts: Sequence[str]) -> None:
        while True:
            await asyncio.sleep(self._hide_again_after)
            try:
                await self._sqs.hide(self._queue, receipts, still=HIDDEN)
            except BrokerError as error:
                logger.warning("messages may be shown again while we work on them", error=error.detail)

    async def _pause(self, failures: int) -> None:
        """Doubling, up to half a minute, or until we are stopped."""
        seconds = min(FIRST_RETRY * 2 ** min(failures - 1, 20), LONGEST_RETRY)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


async def polling(pollers: Sequence[Poller], flusher: Flusher) -> None:
    """All of them, with what stores for them, until cancelled; then they deal with what is in hand before it ends."""
    await flusher.start()
    running = [asyncio.create_task(poller.run(), name="feedback poller") for poller in pollers]
    try:
        # Not `gather`, which would cancel them with us.
        ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*ended)
    finally:
        for poller in pollers:
            poller.stop()
        _, late = await asyncio.wait(running, timeout=END_WITHIN)
        for each in late:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await flusher.stop()
