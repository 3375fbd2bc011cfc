"""Attempts under way: who may begin, and what each one's end means for its lane."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from broker.webhooks.attempt import Attempts
from broker.webhooks.lane import Lane
from broker.webhooks.pacing import learn, pause_after
from broker.webhooks.pending import Parcel, Result
from broker.webhooks.retries import Next, Verdict
from broker.webhooks.shares import Shares

MOST_APART = 256
SLOW_AFTER = 1.0  # seconds
SOON = 1.0  # seconds; longer waits end when the pump looks around
DRAIN_FOR = 2.0  # seconds


class Done(Protocol):
    """Told of each attempt that has ended."""

    def __call__(self, lane: Lane, parcel: Parcel, result: Result, step: Next) -> None: ...


class Flights:
    """Starts attempts, each a task of its own. Slow and failing lanes count apart and take no room from the others."""

    def __init__(self, attempts: Attempts, *, done: Done, empty: Callable[[], None]) -> None:
        """`empty` is called when a lane could do with more."""
        self.made = 0
        self._attempts = attempts
        self._done = done
        self._empty = empty
        self._shares: Shares[Lane] = Shares()
        self._apart = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True

    def start(self, lane: Lane) -> None:
        """Begins what may begin for a lane: while its lease lasts, and no faster than its pace.

        An attempt may outlast the lease that it began under. While the pump renews, that changes nothing. Where it
        could not and another pump took the lane over, no result of ours is written any more (the fence of
        `pending.finish`), and the receiver gets the event again, under the same id.
        """
        while len(lane.flying) < lane.pace.window and lane.waiting and self._open and not lane.stopped:
            now = _now()
            if now >= lane.until or lane.needs_aim(now):
                return
            if not self._may_begin(lane, now):
                return
            parcel = lane.pop()
            if parcel is not None:
                self._begin(lane, parcel, now)

    def start_next(self) -> bool:
        """Begins for the lane whose turn it is; False when there is none or no room."""
        turn = self._shares.next() if self._shares.someone_waits else None
        if turn is not None:
            self.start(turn)
        return turn is not None

    def set_apart_if_slow(self, lane: Lane) -> None:
        """An answer that takes longer than a second takes no room from the others any more."""
        if not lane.apart and lane.flying and next(iter(lane.flying.values())) < _now() - SLOW_AFTER:
            self._set_apart(lane)

    async def drain(self) -> None:
        """Begins nothing more; lets what is under way end for a moment, and cancels the rest."""
        self._open = False
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_FOR)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _may_begin(self, lane: Lane, now: float) -> bool:
        wait = max(lane.not_before - now, lane.bucket.wait(now) if lane.bucket else 0.0)
        if wait > 0:
            if wait <= SOON and not lane.alarmed:
                lane.alarmed = True
                asyncio.get_running_loop().call_later(wait, self._after_wait, lane)
            return False
        if lane.apart:
            return not lane.flying and self._apart < MOST_APART
        if self._shares.take(lane.held.tenant_id):
            return True
        self._shares.wait(lane.held.tenant_id, lane)
        return False

    def _after_wait(self, lane: Lane) -> None:
        lane.alarmed = False
        self.start(lane)

    def _begin(self, lane: Lane, parcel: Parcel, now: float) -> None:
        if lane.bucket:
            lane.bucket.take()
        if lane.apart:
            self._apart += 1
        else:
            lane.counted += 1
        lane.flying[parcel.event_id] = now
        task = asyncio.create_task(self._fly(lane, parcel, apart=lane.apart))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fly(self, lane: Lane, parcel: Parcel, *, apart: bool) -> None:
        if lane.to is None:
            raise LookupError(f"Lane {lane.held.id} leads nowhere.")
        outcome = None
        try:
            if not lane.stopped and _now() < lane.until:  # the process may have been stopped since it was begun
                outcome = await self._attempts.make(lane.to, parcel)
        finally:
            del lane.flying[parcel.event_id]
            self._land(lane, apart=apart)
        if outcome is None:
            lane.put_back(parcel)
            return
        result, step = outcome
        self.made += 1
        self._learn(lane, step)
        self._done(lane, parcel, result, step)
        self._go_on(lane)
        if lane.wants and lane.waiting <= lane.batch // 2:
            self._empty()

    def _go_on(self, lane: Lane) -> None:
        """Who waits for the room that is free now goes first."""
        if lane.waiting and self._shares.someone_waits and not lane.apart:
            self._shares.wait(lane.held.tenant_id, lane)
        else:
            self.start(lane)
        while self.start_next():
            pass

    def _land(self, lane: Lane, *, apart: bool) -> None:
        if apart:
            self._apart -= 1
        elif lane.counted:  # else it was set apart meanwhile
            lane.counted -= 1
            self._shares.give(lane.held.tenant_id)

    def _learn(self, lane: Lane, step: Next) -> None:
        if step.ours:
            return
        delivered = step.verdict is Verdict.DELIVERED
        lane.pace = learn(lane.pace, delivered=delivered)
        if delivered:
            lane.apart = False
        elif lane.pace.failing:
            self._set_apart(lane)
            lane.not_before = _now() + pause_after(lane.pace)
        if step.gone or step.quiet_for is not None:
            lane.stop()

    def _set_apart(self, lane: Lane) -> None:
        lane.apart = True
        if lane.counted:
            self._shares.give(lane.held.tenant_id, lane.counted)
            lane.counted = 0


def _now() -> float:
    return time.monotonic()  # not the loop's time, which uvloop keeps from before a stop of the process
