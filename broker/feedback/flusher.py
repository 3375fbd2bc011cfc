"""Group commit: whatever arrived while the last batch was being stored is the next batch.

Topics take turns, so that one that is flooded delays the others by no more than its part of a batch.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from broker import clock, log
from broker.errors import Unavailable
from broker.feedback.envelope import Arrival, Envelope
from broker.feedback.reasons import Reason
from broker.points import reach

MOST = 250  # half of what a busy SNS has open: while one batch is stored, the next is read and its signatures checked
ROOM = 5000
NOT_WITHIN = 0.01  # seconds between two batches, unless one is full; a message after a silence goes at once
SHARE = 0.8  # of the room, for one topic

logger = log.get(__name__)

Store = Callable[[Sequence[Arrival]], Awaitable[object]]


class Unstorable(Unavailable):
    """This message alone cannot be stored, again and again; there is no trouble with others."""


class _Waiting(msgspec.Struct, frozen=True):
    arrival: Arrival
    done: asyncio.Future[None]


class Flusher:
    """Stores messages in batches. `add` returns when its message is durable; `Unavailable` when it may not be.

    Owned by the application's lifespan: `start` before the first request, `stop` after the last.
    """

    def __init__(self, store: Store, *, most: int = MOST, room: int = ROOM) -> None:
        self._store = store
        self._most = most
        self._room = room
        self._waiting: dict[str, deque[_Waiting]] = {}  # by topic
        self._count = 0
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._open = False

    async def start(self) -> None:
        """Begins to take messages."""
        self._open = True
        self._loop = asyncio.create_task(self._run(), name="feedback flusher")

    async def stop(self) -> None:
        """Takes no more messages, stores those that wait, and ends."""
        self._open = False
        self._arrived.set()
        if self._loop is not None:
            await self._loop

    @property
    def waiting(self) -> int:
        """How many messages wait for the next batches."""
        return self._count

    async def add(self, envelope: Envelope, *, distrust: Reason | None = None) -> None:
        """Returns once the message is stored. A caller that gives up does not take its message back."""
        mine = self._waiting.get(envelope.topic_arn, ())
        if not self._open or self._count >= self._room or len(mine) >= self._room * SHARE:
            raise Unavailable("Too many messages are waiting to be stored.")
        arrival = Arrival(envelope, clock.now(), time.monotonic(), distrust)
        waiting = _Waiting(arrival, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(envelope.topic_arn, deque()).append(waiting)
        self._count += 1
        self._arrived.set()
        await waiting.done

    async def _run(self) -> None:
        while self._open or self._waiting:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                again_at = asyncio.get_running_loop().time() + NOT_WITHIN
                await self._flush(self._take())
                if self._open and self._count < self._most:
                    await asyncio.sleep(again_at - asyncio.get_running_loop().time())

    def _take(self) -> list[_Waiting]:
        """The next batch: one message of each topic in turn, until there are no more or enough."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._most:
            for topic_arn in list(self._waiting)[: self._most - len(batch)]:
                mine = self._waiting.pop(topic_arn)
                batch.append(mine.popleft())
                if mine:
                    self._waiting[topic_arn] = mine  # behind the others
        self._count -= len(batch)
        return batch

    async def _flush(self, batch: list[_Waiting]) -> None:
        """Stores a batch; when it cannot be stored, each message alone, so that one does not hold up the others."""
        try:
            await self._store([waiting.arrival for waiting in batch])
        except Unavailable as error:
            _fail(batch, Unavailable, error.detail)
        except Exception:
            if len(batch) > 1:
                logger.warning("batch failed, storing its messages one by one", size=len(batch), exc_info=True)
                for waiting in batch:
                    await self._flush([waiting])
                return
            logger.exception("message failed", message_id=batch[0].arrival.envelope.message_id)
            _fail(batch, Unstorable, "The message could not be stored.")
        else:
            reach("feedback.answering")
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_result(None)


def _fail(batch: list[_Waiting], kind: type[Unavailable], detail: str) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(kind(detail))
