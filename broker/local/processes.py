"""Supervises the child processes of a local run: started together, waited for, ended in reverse order."""

import contextlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from broker.local import interrupts
from broker.local.child import Child, PortTakenError

LOOPBACK = "127.0.0.1"
Started = TypeVar("Started")


def free_port() -> int:
    """Give a TCP port of loopback that was free a moment ago; somebody else may be faster to take it."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def at_free_port(start: Callable[[int], Started], port: int | None = None) -> Started:
    """Call ``start`` with ``port``, or with free ones until one of them was not taken by somebody else meanwhile."""
    if port is not None:
        return start(port)
    for _ in range(4):
        with contextlib.suppress(PortTakenError):
            return start(free_port())
    return start(free_port())


def listening(port: int) -> bool:
    """Tell whether something accepts connections at this port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def answers(port: int, path: str = "/") -> bool:
    """Tell whether ``GET path`` at this port of loopback gets a 2xx."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C within the block (main thread only), so that ``with`` blocks unwind."""
    before = signal.signal(signal.SIGTERM, interrupts.interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        interrupts.ASKED.clear()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends a local run as Ctrl-C does, with all that it started."""
    # A shell starts what it puts into the background with SIGINT ignored, and Python then leaves it so.
    signal.signal(signal.SIGINT, interrupts.interrupt)
    with termination_as_interrupt():
        yield


class Processes:
    """The children of one run, as a context manager: leaving it ends them, the youngest first."""

    def __init__(self, logs: Path | None = None, *, env: Mapping[str, str] | None = None) -> None:
        """Keep one log per child in the directory ``logs``, or let them write where we do; ``env`` is added to ours."""
        self._logs = logs
        self._env = dict(env or {})
        self._children: list[tuple[Child, Callable[[], bool] | None]] = []

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every child."""
        self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Start a child and return at once; ``wait_until_ready`` then polls ``ready`` of all that are new."""
        if self._logs is not None:
            self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        child = Child.start(
            name,
            command,
            log=self._logs / f"{name}.log" if self._logs else None,
            env={**os.environ, **self._env, **(env or {})},
            cwd=cwd,
        )
        self._children.append((child, ready))
        return child

    def wait_until_ready(self, deadline_s: float = 60.0) -> None:
        """Wait until every child that has a ``ready`` says so.

        Raises:
            StartError: one ended early or the deadline passed; with the end of its log.
        """
        deadline = time.monotonic() + deadline_s
        for child, ready in self._children:
            if ready is not None:
                child.wait_until(ready, max(0.0, deadline - time.monotonic()))
        self.check()

    def check(self) -> None:
        """Raise ``StartError`` when a child has ended that nobody asked to."""
        for child, _ in self._children:
            child.check()

    def stop(self) -> None:
        """End all children, the youngest first; go on with the others when interrupted, then pass the interrupt on."""
        with contextlib.ExitStack() as stack:
            for child, _ in self._children:
                stack.callback(child.stop)
            self._children = []
