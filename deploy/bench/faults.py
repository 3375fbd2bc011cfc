"""Breaks things while a run is under way."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from bench.stack import Stack
from broker.local.child import StartError

EVERY_S = 3.0  # one fault each so many seconds, in turn
_AGAIN_S = 0.5
_PATIENCE_S = 60.0
NAMES = ("kill-worker", "kill-api", "wipe-redis", "restart-postgres")


def named(given: Sequence[str]) -> tuple[str, ...]:
    """Faults by name; ``all`` stands for every one."""
    return NAMES if "all" in given else tuple(dict.fromkeys(given))


class Breaker:
    """Does these faults in turn; ``done`` counts them by name.

    What was broken is brought back at once, as a supervisor would; the next fault does not wait for that, unless it
    would hit the same thing.
    """

    def __init__(self, servers: Stack, faults: Sequence[str], say: Callable[[str], None]) -> None:
        """Do nothing yet."""
        self.done: dict[str, int] = {}
        self._faults = faults
        self._say = say
        # First what breaks, then what brings it back, which may take several times while something else is gone.
        self._means: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "kill-worker": (servers.kill_worker, lambda: servers.start_workers(1)),
            "kill-api": (servers.kill_api, servers.start_api),
            "wipe-redis": (servers.kill_redis, servers.start_redis),
            "restart-postgres": (servers.kill_postgres, servers.start_postgres),
        }
        self._stop = threading.Event()

    @contextlib.contextmanager
    def running(self, seconds: float) -> Iterator[None]:
        """Break things within the block, for at most ``seconds``; at its end all is back.

        Raises:
            StartError: something did not come back.
        """
        with ThreadPoolExecutor(len(NAMES) + 1, thread_name_prefix="breaker") as pool:
            future = pool.submit(self._run, pool, time.monotonic() + seconds)
            try:
                yield
            finally:
                self._stop.set()
            future.result()

    def _run(self, pool: ThreadPoolExecutor, deadline: float) -> None:
        under_way: dict[str, Future[None]] = {}
        number = 0
        while self._faults and not self._stop.wait(EVERY_S) and time.monotonic() < deadline:
            name = self._faults[number % len(self._faults)]
            number += 1
            if name in under_way and not under_way[name].done():
                continue
            self.done[name] = self.done.get(name, 0) + 1
            under_way[name] = pool.submit(self._do, name)
        for future in under_way.values():
            future.result()

    def _do(self, name: str) -> None:
        began = time.monotonic()
        hurt, mend = self._means[name]
        hurt()
        while True:
            try:
                mend()
                break
            except StartError:
                if time.monotonic() - began > _PATIENCE_S:
                    raise
                time.sleep(_AGAIN_S)
        self._say(f"{name}: back after {time.monotonic() - began:.1f} s")
