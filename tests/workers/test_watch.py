"""The loop over due rows: rung, by date, and by sweep; and what a failing run costs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from broker.db import Database, Role
from broker.errors import Unavailable
from workers import watch as module
from workers.watch import watch

DEADLINE = 60.0
Run = Callable[[], Awaitable[int]]


class Counting:
    """A run that counts itself and answers what it is told to."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.runs = 0
        self.ran = asyncio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        self.ran.set()
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until(self, runs: int) -> None:
        """Waits for this many runs."""
        async with asyncio.timeout(DEADLINE):
            while self.runs < runs:
                self.ran.clear()
                await self.ran.wait()


@asynccontextmanager
async def watching(db: Database, run: Run, rung: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    """The loop while the block lasts."""
    task = asyncio.create_task(watch(db.as_role(Role.WORKER), "routes", run, rung))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_ring_is_answered_long_before_the_sweep(
    committed_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sweep of an hour, only the bell can have done it."""
    monkeypatch.setattr(module, "SWEEP", 3600.0)
    run, rung = Counting(), asyncio.Event()

    async with watching(committed_db, run, rung):
        await run.until(1)
        rung.set()
        await run.until(2)

    assert 2 == run.runs


async def test_without_a_ring_it_sweeps(committed_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost ring costs latency only."""
    monkeypatch.setattr(module, "SWEEP", 0.02)
    run = Counting()

    async with watching(committed_db, run, asyncio.Event()):
        await run.until(3)

    assert run.runs >= 3


async def test_a_run_that_found_work_is_followed_by_another_at_once(
    committed_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be more than one batch."""
    monkeypatch.setattr(module, "SWEEP", 3600.0)
    run = Counting(10, 10, 3)

    async with watching(committed_db, run, asyncio.Event()):
        await run.until(4)

    assert 4 == run.runs


@pytest.mark.parametrize("error", [Unavailable("gone"), ZeroDivisionError()])
async def test_a_failing_run_does_not_end_the_loop(
    committed_db: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever it was, the rows are still due."""
    monkeypatch.setattr(module, "SWEEP", 0.02)
    run = Counting(error)

    async with watching(committed_db, run, asyncio.Event()) as task:
        await run.until(2)
        assert not task.done()


async def test_a_slow_run_does_not_hold_up_the_next(committed_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow account must not hold up another's revocation."""
    monkeypatch.setattr(module, "SWEEP", 3600.0)
    rung, never, first, second = (asyncio.Event() for _ in range(4))

    async def run() -> int:
        if first.is_set():
            second.set()
            return 0
        first.set()
        await never.wait()
        return 1

    async with watching(committed_db, run, rung), asyncio.timeout(DEADLINE):
        await first.wait()
        rung.set()
        await second.wait()

    assert not never.is_set()
