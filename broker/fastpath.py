"""The fast path: syncs what was just woken in the process that committed it, a few milliseconds later.

No request awaits it, a full group drops it and shutdown cancels it: a worker and the sweep do the same work anyway.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from broker import log
from broker.errors import BrokerError
from broker.points import reach

AT_ONCE = 16

logger = log.get(__name__)
Work = Callable[[Sequence[UUID]], Awaitable[int]]


class FastPath:
    """A bell for one kind of due row that does the work itself, in a bounded group of tasks."""

    def __init__(self, kind: str, work: Work) -> None:
        self._kind = kind
        self._work = work
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Takes rings while inside; cancels what is under way at the end."""
        self._open = True
        try:
            yield
        finally:
            self._open = False
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None:
        """Starts the work and returns at once."""
        if kind != self._kind or not self._open or len(self._tasks) >= AT_ONCE:
            return
        task = asyncio.create_task(self._run(list(ids)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, ids: Sequence[UUID]) -> None:
        reach("fastpath.begun")
        try:
            await self._work(ids)
        except BrokerError as error:
            logger.warning("fast path failed; a worker will do it", kind=self._kind, error=error.detail)
        except Exception:
            logger.exception("fast path failed; a worker will do it", kind=self._kind)
