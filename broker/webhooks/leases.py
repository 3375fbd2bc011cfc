"""Which lanes a pump holds: claiming those that were asked for, renewing leases, letting go of what is idle."""

import time
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from broker import log
from broker.points import reach
from broker.webhooks import holding
from broker.webhooks.holding import Lines
from broker.webhooks.lane import Lane
from broker.webhooks.pacing import LONGEST_PAUSE, PATIENCE, Pace

MOST_LANES = 2000  # and as many more that are slow or failing, so that they keep nobody out
MOST_REMEMBERED = 10_000
LEASE = timedelta(seconds=10)
MARGIN = 1.0  # seconds by which we believe a lease to be over before the database does
ASK_AGAIN_FOR = 1.0  # seconds; somebody else may hold an idle lane for a moment
ASK_EVERY = 0.05  # seconds

logger = log.get(__name__)


class Leases:
    """The lanes of one pump by id, and those that it was asked to claim. Times are those of the event loop."""

    def __init__(self, lines: Lines, *, linger: timedelta) -> None:
        """`linger`: how long an idle lane is kept."""
        self.lanes: dict[UUID, Lane] = {}
        self._lines = lines
        self._linger = linger.total_seconds()
        self._asked: dict[UUID, tuple[float, float]] = {}  # when to try next, and until when to go on trying
        self._paused: dict[UUID, tuple[Pace, float]] = {}  # failing lanes that were let go of, and until when

    @property
    def asked(self) -> bool:
        """Whether there is something to claim."""
        return bool(self._asked)

    @property
    def are_seen(self) -> bool:
        """Whether others can see that this pump lives."""
        return self._lines.leases.is_open

    def ask(self, ids: Iterable[UUID], *, persist: bool) -> None:
        """There may be something to send for these; `persist`: try again until whoever holds them lets go of them."""
        until = _now() + ASK_AGAIN_FOR if persist else 0.0
        for lane_id in ids:
            if lane_id not in self.lanes:
                try_at, before = self._asked.get(lane_id, (0.0, 0.0))
                self._asked[lane_id] = (try_at, max(until, before))

    def is_paused(self, lane_id: UUID) -> bool:
        """Whether it failed so often that it is to be left alone for now."""
        return lane_id in self._paused and self._paused[lane_id][1] > _now()

    async def claim_asked(self) -> None:
        """Claims what was asked for, as far as it is free."""
        now = _now()
        asked = [lane_id for lane_id, (try_at, _) in self._asked.items() if try_at <= now]
        wanted = [lane_id for lane_id in asked if not self.is_paused(lane_id)]
        claimed = await self.claim(wanted[: self._room()])
        for lane_id in asked:
            _, until = self._asked[lane_id]
            if lane_id in claimed or until < now or self.is_paused(lane_id):
                del self._asked[lane_id]
            else:
                self._asked[lane_id] = (now + ASK_EVERY, until)

    def _room(self) -> int:
        healthy = sum(not lane.apart for lane in self.lanes.values())
        return max(0, min(MOST_LANES - healthy, 2 * MOST_LANES - len(self.lanes)))

    async def claim(self, ids: Collection[UUID]) -> set[UUID]:
        """The ids of those that are held from now on."""
        if not ids:
            return set()
        until = _now() + LEASE.total_seconds() - MARGIN
        claimed = await holding.claim(self._lines.leases, ids, pump=self._lines.number, lease=LEASE)
        for held in claimed:
            pace, _ = self._paused.pop(held.id, (Pace(), 0.0))
            self.lanes[held.id] = Lane(held, until=until, pace=pace)
        return {held.id for held in claimed}

    async def renew(self) -> None:
        """Prolongs all leases; what another pump has taken over is dropped, and what was recalled is read again."""
        lanes = list(self.lanes.values())
        until = _now() + LEASE.total_seconds() - MARGIN
        held = [lane.held for lane in lanes]
        ours = await holding.renew(self._lines.leases, held, pump=self._lines.number, lease=LEASE)
        for lane in lanes:
            if lane.held.id in ours:
                lane.until = until
                lane.heed(ours[lane.held.id], now=_now())
            else:
                self.lose(lane)

    def lose(self, lane: Lane) -> None:
        """Another pump has it: nothing of ours will be written."""
        logger.info("lane taken over", endpoint_id=str(lane.held.id))
        self._drop(lane)

    async def release_idle(self) -> None:
        """Lets go of lanes with nothing to do for a while."""
        now = _now()
        idle = []
        for lane in self.lanes.values():
            if not _is_over(lane, now):
                lane.idle_since = None
            elif lane.idle_since is None:
                lane.idle_since = now
            if lane.idle_since is not None and now - lane.idle_since >= self._linger:
                idle.append(lane)
        await self.release(idle)

    async def release(self, lanes: Sequence[Lane]) -> None:
        """Lets go of lanes; failing ones are remembered, so that their pause holds."""
        for lane in lanes:
            self._drop(lane)
            if lane.pace.failing:
                self._remember(lane)
        if lanes:
            reach("lanes.releasing")
            await holding.release(self._lines.leases, [lane.held for lane in lanes], pump=self._lines.number)

    def pause(self, lane: Lane) -> None:
        """Lets go of it soon, and leaves it alone for a while: the trouble is ours."""
        lane.pace = Pace(1, PATIENCE)
        lane.not_before = _now() + LONGEST_PAUSE
        lane.stop()

    def _remember(self, lane: Lane) -> None:
        self._paused[lane.held.id] = (lane.pace, lane.not_before)
        while len(self._paused) > MOST_REMEMBERED:
            del self._paused[next(iter(self._paused))]

    def _drop(self, lane: Lane) -> None:
        if self.lanes.get(lane.held.id) is lane:
            del self.lanes[lane.held.id]
        lane.stop()


def _is_over(lane: Lane, now: float) -> bool:
    """Nothing to do for it, or nothing for a while: then what waits is left to whoever claims it after that."""
    if lane.flying or lane.unwritten:
        return False
    if lane.stopped or now >= lane.until or (lane.pace.failing and lane.not_before > now):
        return True
    if lane.bucket and not lane.bucket.is_full(now):
        return False  # whoever has it next begins with a full one
    return not lane.waiting and not lane.wants


def _now() -> float:
    return time.monotonic()
