"""One lane at work: everything that is due for one endpoint, while the lease lasts."""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from broker import due
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.due import Claim
from broker.errors import Unavailable
from broker.webhooks import custom_headers, health, pending
from broker.webhooks.attempt import Addressee, Attempts
from broker.webhooks.pending import Parcel, Result, Target
from broker.webhooks.retries import Next, Verdict

Outcome = tuple[Result, Next]

BATCH = 100
FIRST_WINDOW = 4
WIDEST_WINDOW = 16
FINISH_EVERY = (0.05, 1.0)
FINISH_TRIES = 3
FINISH_PAUSE = 0.2


class Lane:
    """Sends what is due for one endpoint, a few at a time: more while it takes them, fewer when it does not."""

    def __init__(self, db: Database, keyring: Keyring, attempts: Attempts, claim: Claim, *, start_until: float) -> None:
        """`start_until`: loop time after which no attempt may begin, since it might outlast the lease."""
        self._db = db
        self._keyring = keyring
        self._attempts = attempts
        self._claim = claim
        self._start_until = start_until
        self._caller = Caller.system(claim.tenant_id, job="deliveries")
        self._to: Addressee | None = None
        self._waiting: deque[Parcel] = deque()
        self._flying: dict[asyncio.Task[Outcome], Parcel] = {}
        self._signers: set[UUID] = set()
        self._window = FIRST_WINDOW
        self._stopped = False
        self._pause = FINISH_EVERY[0]
        self._failing_for: timedelta | None = None

    async def work(self) -> int:
        """Number of attempts made and written. `Superseded` when another worker has the lane; it then wrote nothing."""
        made = 0
        try:
            while True:
                to = await self._fetch()
                if not self._waiting and not self._flying:
                    break
                outcomes = await self._send(to)
                await self._finish(outcomes)
                made += len(outcomes)
        finally:
            await cancel(self._flying)
        await self._settle()
        return made

    @property
    def _may_start(self) -> bool:
        return not self._stopped and asyncio.get_running_loop().time() < self._start_until

    async def _fetch(self) -> Addressee:
        """Fills up with what is due; with nothing once the lease is too short for another attempt."""
        if not self._may_start:
            self._waiting.clear()
        if self._to and (len(self._waiting) >= self._window or not self._may_start):
            return self._to
        busy = [parcel.event_id for parcel in (*self._flying.values(), *self._waiting)]
        try:
            async with self._db.read(self._caller) as session:
                target, parcels = await pending.fetch(session, self._claim, busy=busy, room=BATCH - len(busy))
        except Unavailable:
            if self._to is None or not self._flying:
                raise
            return self._to  # what is under way is still worth writing down
        self._failing_for = target.failing_for
        self._pause = FINISH_EVERY[0] if parcels else min(self._pause * 2, FINISH_EVERY[1])
        self._waiting.extend(parcels)
        if not target.open:
            self._waiting.clear()
        self._to = self._addressee(target)
        return self._to

    def _addressee(self, target: Target) -> Addressee:
        return Addressee(
            self._claim.tenant_id,
            target.url,
            keys={secret_id: self._keyring.open(sealed) for secret_id, sealed in target.secrets.items()},
            headers=custom_headers.unseal(target.headers, self._keyring),
        )

    async def _send(self, to: Addressee) -> list[Outcome]:
        """Attempts until all are through, or for a moment: the rest is taken along to the next round."""
        outcomes: list[Outcome] = []
        ends = asyncio.get_running_loop().time() + self._pause
        while self._flying or (self._waiting and self._may_start):
            while self._waiting and self._may_start and len(self._flying) < self._window:
                parcel = self._waiting.popleft()
                self._signers.update(to.keys)
                self._flying[asyncio.create_task(self._attempts.make(to, parcel))] = parcel
            left = ends - asyncio.get_running_loop().time()
            if left <= 0:
                break
            done, _ = await asyncio.wait(self._flying, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del self._flying[task]
                outcomes.append(task.result())
                self._learn(outcomes[-1][1])
        return outcomes

    def _learn(self, step: Next) -> None:
        if step.verdict is Verdict.DELIVERED:
            self._window = min(self._window + 1, WIDEST_WINDOW)
        else:
            self._window = max(self._window // 2, 1)
        self._stopped = self._stopped or step.gone or step.quiet_for is not None

    async def _finish(self, outcomes: Sequence[Outcome]) -> None:
        """One transaction; tried again when the database is away for a moment: what is unwritten is sent twice."""
        if not outcomes:
            return
        for _ in range(FINISH_TRIES - 1):
            try:
                await self._write(outcomes)
            except Unavailable:
                await asyncio.sleep(FINISH_PAUSE)
            else:
                return
        await self._write(outcomes)

    async def _write(self, outcomes: Sequence[Outcome]) -> None:
        sum_of = health.judge([step for _, step in outcomes], failing_for=self._failing_for)
        async with self._db.begin(self._caller) as session:
            await health.lock(session, sum_of, self._claim)
            await pending.finish(session, self._claim, [result for result, _ in outcomes], signers=self._signers)
            await health.note(session, self._caller, self._claim, sum_of, was_failing=self._failing_for is not None)
        self._signers.clear()
        if sum_of.succeeded:
            self._failing_for = None
        elif sum_of.failed and self._failing_for is None:
            self._failing_for = timedelta(0)

    async def _settle(self) -> None:
        """Ends the lease; the lane is due again when its next delivery is, or at once if more came meanwhile."""
        async with self._db.begin(self._caller) as session:
            wait = await pending.again_in(session, self._claim)
            await due.settle(session, self._claim, again_in=wait)


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits until they have stopped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
