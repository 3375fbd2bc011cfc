"""Results of attempts on their way into the database: one statement for all lanes, a few dozen times a second."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from broker import log
from broker.caller import Caller
from broker.db import Database, Line
from broker.errors import BrokerError, Unavailable
from broker.points import reach
from broker.webhooks import health, pending
from broker.webhooks.lane import Lane
from broker.webhooks.pending import Result
from broker.webhooks.retries import Next

WRITE_EVERY = 0.05  # seconds
MOST = 300
MOST_AT_ONCE = 5_000
AGAIN_AFTER = 0.5  # seconds

logger = log.get(__name__)
Outcome = tuple[Result, Next]


class Written(Protocol):
    """Told when the results of a lane are dealt with: `ours` when they were written, else another pump has the lane."""

    def __call__(self, lane: Lane, results: Sequence[Result], *, ours: bool) -> None: ...


class Outbox:
    """Collects results and writes them; what cannot be written now is kept and written later, however long it takes."""

    def __init__(self, line: Line, db: Database, *, pump: int, written: Written) -> None:
        self._line = line
        self._db = db
        self._pump = pump
        self._written = written
        self._waiting: dict[Lane, list[Outcome]] = {}
        self._unjudged: dict[Lane, Sequence[Next]] = {}
        self._count = 0
        self._some = asyncio.Event()
        self._many = asyncio.Event()

    def put(self, lane: Lane, result: Result, step: Next) -> None:
        """Takes one result."""
        self._waiting.setdefault(lane, []).append((result, step))
        self._count += 1
        self._some.set()
        if self._count >= MOST:
            self._many.set()

    async def write(self) -> None:
        """Waits for results, collects for a moment, writes them."""
        await self._some.wait()
        try:
            async with asyncio.timeout(WRITE_EVERY):
                await self._many.wait()
        except TimeoutError:
            pass
        await self.flush()

    async def flush(self) -> None:
        """Writes what there is; `Unavailable` when it cannot be written now, and what is not written is kept."""
        left, self._waiting, self._count = self._waiting, {}, 0
        self._some.clear()
        self._many.clear()
        for lane in list(self._unjudged):
            await self._judge(lane, [])
        while left:
            batch = _some_of(left)
            try:
                await self._write(batch)
            except BaseException:
                self._keep(batch | left)
                raise

    async def _write(self, batch: dict[Lane, list[Outcome]]) -> None:
        """One statement; what it cannot take in at all is found lane by lane, and does not hold up the others.

        Takes out of `batch` what is dealt with.
        """
        reach("deliveries.finishing")
        try:
            ours = await self._finish(batch)
            reach("deliveries.finished")
        except Unavailable:
            raise
        except Exception:
            if len(batch) > 1:
                for lane in list(batch):
                    await self._write({lane: batch[lane]})
                    del batch[lane]
                return
            logger.exception("results cannot be written; their deliveries stay pending")
            ours = set()
        for lane, outcomes in list(batch.items()):
            if lane.held.id in ours:
                await self._judge(lane, [step for _, step in outcomes])  # before anybody may claim it again
            del batch[lane]
            self._written(lane, [result for result, _ in outcomes], ours=lane.held.id in ours)

    async def _finish(self, batch: dict[Lane, list[Outcome]]) -> set[UUID]:
        return await pending.finish(
            self._line,
            [lane.held for lane in batch],
            [result for outcomes in batch.values() for result, _ in outcomes],
            pump=self._pump,
            signers={secret_id for lane in batch if lane.to for secret_id in lane.to.keys},
        )

    def _keep(self, batch: dict[Lane, list[Outcome]]) -> None:
        for lane, outcomes in batch.items():
            self._waiting.setdefault(lane, [])[:0] = outcomes
            self._count += len(outcomes)
        self._some.set()

    async def _judge(self, lane: Lane, steps: Sequence[Next]) -> None:
        """Notes what the results say of the endpoint: in the common case, success after success, nothing."""
        steps = [*self._unjudged.pop(lane, ()), *steps]
        verdict = health.judge(steps, failing_for=lane.failing_for)
        if verdict.changes(failing=lane.failing_for is not None):
            try:
                await health.note(self._db, Caller.system(lane.held.tenant_id, job="deliveries"), lane.held, verdict)
            except BrokerError as error:
                logger.warning("an endpoint's health is noted later", endpoint_id=str(lane.held.id), error=error.detail)
                self._unjudged[lane] = steps
                asyncio.get_running_loop().call_later(AGAIN_AFTER, self._some.set)
                return
            except Exception:
                logger.exception("an endpoint's health cannot be noted", endpoint_id=str(lane.held.id))
        if verdict.succeeded:
            lane.failing_for = None
        elif verdict.failed and lane.failing_for is None:
            lane.failing_for = timedelta(0)


def _some_of(left: dict[Lane, list[Outcome]]) -> dict[Lane, list[Outcome]]:
    """Takes whole lanes out of `left`, so many that one statement ends in time whatever has gathered."""
    batch: dict[Lane, list[Outcome]] = {}
    count = 0
    while left and count < MOST_AT_ONCE:
        lane, outcomes = left.popitem()
        batch[lane] = outcomes
        count += len(outcomes)
    return batch
