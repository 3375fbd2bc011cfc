"""The delivery engine: leases lanes that are due and lets each work by itself, so that none waits for another."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from broker import due, log
from broker.crypto import Keyring
from broker.db import Database
from broker.due import Claim, Superseded
from broker.errors import Unavailable
from broker.webhooks.attempt import Attempts
from broker.webhooks.lane import Lane, cancel
from broker.webhooks.sender import Sender

MOST_LANES = 500
LOOK_EVERY = 1.0
STARTING = timedelta(seconds=15)
WRITING = timedelta(seconds=5)

_DICE = secrets.SystemRandom().random

logger = log.get(__name__)


async def run(
    db: Database,
    sender: Sender,
    keyring: Keyring,
    *,
    timeout: timedelta = timedelta(seconds=15),  # noqa: ASYNC109 - deadline of one attempt, handed to the client
    only: Sequence[UUID] | None = None,
    dice: Callable[[], float] = _DICE,
) -> int:
    """Delivers everything that is due (of the lanes `only`), and returns the number of attempts.

    While a slow lane keeps it, it goes on looking for other lanes that have become due. At least once: what was sent
    but not written before a crash is sent again when the lease is over. `db` under the role broker_pump.
    """
    engine = _Engine(db, keyring, Attempts(sender, timeout=timeout, dice=dice), only)
    return await engine.run()


class _Engine:
    def __init__(self, db: Database, keyring: Keyring, attempts: Attempts, only: Sequence[UUID] | None) -> None:
        self._db = db
        self._keyring = keyring
        self._attempts = attempts
        self._only = only
        self._working: set[asyncio.Task[int]] = set()

    async def run(self) -> int:
        made = 0
        try:
            while True:
                await self._claim()
                if not self._working:
                    return made
                done, self._working = await asyncio.wait(
                    self._working, timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED
                )
                made += sum(task.result() for task in done)
        finally:
            await cancel(self._working)

    async def _claim(self) -> None:
        """Starts a task for each lane that is due. The lease has room for an attempt begun late and for writing it."""
        room = MOST_LANES - len(self._working)
        start_until = asyncio.get_running_loop().time() + STARTING.total_seconds()
        lease = STARTING + self._attempts.timeout + WRITING
        try:
            claims = await due.claim(self._db, "lanes", most=room, lease=lease, only=self._only) if room else []
        except Unavailable:
            if not self._working:
                raise
            return  # what is under way goes on; the next look is a second away
        for claim in claims:
            lane = Lane(self._db, self._keyring, self._attempts, claim, start_until=start_until)
            self._working.add(asyncio.create_task(_safely(self._db, lane, claim)))


async def _safely(db: Database, lane: Lane, claim: Claim) -> int:
    """The top of one lane's work: a lane that fails is tried again a little later."""
    try:
        return await lane.work()
    except Superseded:
        logger.info("lane taken over", endpoint_id=str(claim.id))
    except Exception:
        logger.exception("lane failed", endpoint_id=str(claim.id), tenant_id=str(claim.tenant_id))
        await due.give_back(db, claim)
    return 0
