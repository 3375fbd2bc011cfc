"""The loop that finds due rows of one kind: at once when rung, at the next due date, and at least once a second."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from broker import due, log
from broker.db import Database
from broker.errors import BrokerError
from broker.ids import new_id

SWEEP = 1.0  # seconds, ± 30 %, so that several workers do not look in step
REST = 1  # times as long as a gentle run took
AT_ONCE = 8  # runs side by side: one slow account must not hold the others up

logger = log.get(__name__)
Run = Callable[[], Awaitable[int]]


async def watch(db: Database, kind: str, run: Run, rung: asyncio.Event, *, gentle: bool = False) -> None:
    """Runs `run` (claim, act, settle; returns how many rows) whenever something may be due, until cancelled.

    `gentle`: one run at a time, and a rest after each: for work that is in no hurry beside those who are.
    """
    at_once = 1 if gentle else AT_ONCE
    running: set[asyncio.Task[None]] = set()
    try:
        while True:
            if len(running) >= at_once:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            rung.clear()
            task = asyncio.create_task(_once(kind, run, rung, rest=REST if gentle else 0))
            running.add(task)
            task.add_done_callback(running.discard)
            # A run that finds nothing ends within a millisecond or two; only then is the next date known.
            await asyncio.wait({task}, timeout=0.02)
            await _pause(rung, await _until_next(db, kind))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _once(kind: str, run: Run, rung: asyncio.Event, *, rest: int) -> None:
    # In this task's own context: every line that the run logs carries the job's id.
    structlog.contextvars.bind_contextvars(job=kind, job_id=str(new_id()))
    try:
        began = time.monotonic()
        if await run():
            await asyncio.sleep(rest * (time.monotonic() - began))
            rung.set()
    except BrokerError as error:
        logger.warning("sweep failed; it is tried again", error=error.detail)
    except Exception:
        logger.exception("sweep failed; it is tried again")


async def _until_next(db: Database, kind: str) -> float:
    sweep = SWEEP * random.uniform(0.7, 1.3)  # noqa: S311 - spreads load, guards nothing
    try:
        soonest = await due.next_due(db, kind)
    except BrokerError:
        return sweep
    return sweep if soonest is None else max(0.005, min(sweep, soonest))


async def _pause(rung: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await rung.wait()
    except TimeoutError:
        return
