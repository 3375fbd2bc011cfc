"""The delivery engine: a resident pump that claims lanes, reads what is due of all of them at once, sends, and writes.

Sending never waits for the database, and no lane for another: reading, writing and keeping leases are loops of their
own, and each attempt is a task of its own. A crash costs what was sent and not yet written: that is sent again, under
the same id. What stays idle for a moment is let go of, so that any pump may have it next.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from broker import log
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import BrokerError, Unavailable
from broker.points import reach
from broker.webhooks import custom_headers, holding, pending
from broker.webhooks.attempt import Addressee, Attempts
from broker.webhooks.flights import Flights
from broker.webhooks.holding import Held, Lines, Target
from broker.webhooks.lane import Lane
from broker.webhooks.leases import Leases
from broker.webhooks.ledger import notes
from broker.webhooks.ledger.ledger import Ledger
from broker.webhooks.outbox import Outbox
from broker.webhooks.pending import Parcel, Result, Wish
from broker.webhooks.retries import Next

LINGER = timedelta(seconds=0.25)
RENEW_EVERY = 3.0  # seconds
TEND_EVERY = 0.1
SWEEP_EVERY = 1.0
READ_EVERY = 0.02

logger = log.get(__name__)


class Pump:
    """Delivers for every endpoint that it can claim. `run` until cancelled, or `burst` for what is due now; once."""

    def __init__(
        self,
        lines: Lines,
        db: Database,
        attempts: Attempts,
        keyring: Keyring,
        *,
        ledger: Ledger,
        linger: timedelta = LINGER,
    ) -> None:
        """`db` under the role broker_pump; `linger`: how long an idle lane is kept."""
        self._lines = lines
        self._keyring = keyring
        self._ledger = ledger
        self._leases = Leases(lines, linger=linger)
        self._outbox = Outbox(lines.writing, db, pump=lines.number, written=self._after_writing)
        self._look = asyncio.Event()
        self._flights = Flights(attempts, done=self._after_attempt, empty=self._look.set)

    def ring(self, ids: Sequence[UUID]) -> None:
        """There may be something to send for these endpoints; when none is named, the next sweep finds which."""
        self._leases.ask(ids, persist=True)
        for lane_id in ids:
            if lane := self._leases.lanes.get(lane_id):
                lane.look_again()
        self._look.set()

    async def run(self) -> None:
        """Works until cancelled; then lets attempts under way end for a moment, and lets go of its lanes."""
        async with self._working(self._sweep_on):
            await asyncio.Event().wait()

    async def burst(self, only: Sequence[UUID] | None = None) -> int:
        """Delivers what is due now (of the lanes `only`), what becomes due meanwhile included; number of attempts."""
        leases = self._leases
        async with self._working():
            while True:
                due = await holding.find_due(self._lines.reading, only=only)
                new = [lane_id for lane_id in due if lane_id not in leases.lanes and not leases.is_paused(lane_id)]
                claimed = await leases.claim(new)
                if not leases.lanes and not any(
                    due[lane_id].owner is None for lane_id in new if lane_id not in claimed
                ):
                    return self._flights.made  # what is left is another pump's
                self.ring(list(leases.lanes.keys() & due.keys()))
                await self._idle_for_a_moment()

    async def _idle_for_a_moment(self) -> None:
        """Until every lane is idle, or for a tenth of a second."""
        ends = _now() + TEND_EVERY
        while self._leases.lanes and _now() < ends:
            await asyncio.sleep(TEND_EVERY / 20)
            await self._leases.release_idle()

    @contextlib.asynccontextmanager
    async def _working(self, *more: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        loops = [asyncio.create_task(_for_ever(step)) for step in (self._read, self._tend, self._outbox.write, *more)]
        try:
            yield
        finally:
            await self._flights.drain()
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            with contextlib.suppress(BrokerError):
                await self._outbox.flush()
                await self._leases.release(list(self._leases.lanes.values()))

    # The loops.

    async def _sweep_on(self) -> None:
        await self.sweep()
        await asyncio.sleep(SWEEP_EVERY * random.uniform(0.7, 1.3))  # noqa: S311 - spreads load, guards nothing

    async def sweep(self) -> None:
        """Finds what no ring told of: all that correctness needs."""
        held = list(self._leases.lanes.values())
        due = await holding.find_due(self._lines.reading)
        self._leases.ask(due, persist=False)
        for lane in held:
            found = due.get(lane.held.id)
            if found is not None:
                lane.rewind()
            if lane.waiting and (found is None or found.stamp != lane.stamp):
                lane.stamp = None  # changed, paused or deleted: what waits is not begun before that is known
        self._look.set()

    async def _read(self) -> None:
        """Claims what was asked for, and reads for all lanes with room: at most four round trips."""
        await self._look.wait()
        self._look.clear()
        began = _now()
        if self._leases.asked:
            await self._leases.claim_asked()
            reach("lanes.claimed")
        await self._aim()
        wishes = {lane_id: found for lane_id, lane in self._leases.lanes.items() if (found := lane.wishes())}
        if wishes:
            every = [wish for found in wishes.values() for wish in found]
            self._receive(wishes, await pending.fetch(self._lines.reading, every))
            reach("deliveries.fetched")
            await self._aim()
        for lane_id in wishes:
            if lane := self._leases.lanes.get(lane_id):
                self._flights.start(lane)
        if self._leases.asked or any(lane.wants and not lane.waiting for lane in self._leases.lanes.values()):
            self._look.set()
        await asyncio.sleep(max(0.0, READ_EVERY - (_now() - began)))

    async def _tend(self) -> None:
        """Renews leases, sets slow lanes apart, begins what had to wait, and lets go of idle lanes.

        When the connection is lost on which others see that this pump lives, leases are renewed at once.
        """
        renew_at = _now() + RENEW_EVERY
        while _now() < renew_at and (self._leases.are_seen or not self._leases.lanes):
            await asyncio.sleep(TEND_EVERY)
            for lane in self._leases.lanes.values():
                self._flights.set_apart_if_slow(lane)
                if lane.waiting and not lane.flying:
                    self._flights.start(lane)
            while self._flights.start_next():
                pass
            await self._leases.release_idle()
        if self._leases.lanes:
            await self._leases.renew()

    # What they do.

    def _receive(self, wishes: Mapping[UUID, Sequence[Wish]], parcels: Iterable[Parcel]) -> None:
        found: dict[UUID, list[Parcel]] = {lane_id: [] for lane_id in wishes}
        for parcel in parcels:
            found[parcel.lane_id].append(parcel)
        for lane_id, mine in found.items():
            if lane := self._leases.lanes.get(lane_id):
                lane.receive(wishes[lane_id], mine)

    async def _aim(self) -> None:
        """Reads where lanes lead, where that is not known or has changed; what is not active is not sent to."""
        now = _now()
        lanes = [lane for lane in self._leases.lanes.values() if not lane.stopped and lane.needs_aim(now)]
        if not lanes:
            return
        targets = await holding.targets(self._lines.reading, [lane.held.id for lane in lanes])
        for lane in lanes:
            target = targets.get(lane.held.id)
            to = self._addressee(lane.held, target) if target is not None else None
            if target is not None and to is not None:
                lane.aim(target, to, now=now)
            elif target is not None:
                self._leases.pause(lane)
            else:
                lane.stop()

    def _addressee(self, held: Held, target: Target) -> Addressee | None:
        """None, and it is logged, when its secrets cannot be read: that must not stop the others."""
        try:
            return Addressee(
                held.tenant_id,
                target.url,
                keys={secret_id: self._keyring.open(sealed) for secret_id, sealed in target.secrets.items()},
                headers=custom_headers.unseal(target.headers, self._keyring),
                shape=target.shape,
            )
        except BrokerError as error:
            logger.error("nothing can be sent", endpoint_id=str(held.id), error=error.detail)
            return None

    def _after_attempt(self, lane: Lane, parcel: Parcel, result: Result, step: Next) -> None:
        lane.unwritten += 1
        self._outbox.put(lane, result, step)
        spent, since = result.latency_ms / 1000, _now() - parcel.read_at
        notes.attempted(
            self._ledger,
            lane.held.tenant_id,
            number=parcel.number,
            status=result.status,
            spent=spent,
            waited=parcel.waited.total_seconds() + since - spent,
            tried_for=None if parcel.tried_for is None else parcel.tried_for.total_seconds() + since,
        )

    def _after_writing(self, lane: Lane, results: Sequence[Result], *, ours: bool) -> None:
        lane.written([result.event_id for result in results])
        if not ours:
            self._leases.lose(lane)
        elif lane.wants:
            self._look.set()


async def _for_ever(step: Callable[[], Awaitable[None]]) -> None:
    """The top of one loop of the pump: what fails is logged and done again."""
    while True:
        try:
            await step()
        except Unavailable as error:
            logger.warning("the pump waits for the database", error=error.detail)
            await asyncio.sleep(SWEEP_EVERY)
        except Exception:
            logger.exception("the pump stumbled")
            await asyncio.sleep(SWEEP_EVERY)


def _now() -> float:
    return time.monotonic()
