"""Starts servers side by side and ends all of them in reverse order, those too that were still starting."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from broker.local.child import Child, StartError
from broker.local.processes import answers, at_free_port

READY_S = 90.0  # a machine that is busy with other things takes its time to import all of us


class Stoppable(Protocol):
    """A server that can be ended; ending it twice does nothing."""

    def stop(self) -> None: ...


Made = TypeVar("Made", bound=Stoppable)


class Server:
    """One of our own programs, listening at ``port`` of loopback (0: it listens nowhere)."""

    def __init__(self, child: Child, port: int) -> None:
        """Made by ``Crew.serve``."""
        self.child = child
        self.port = port

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it."""
        self.child.stop()


class Crew:
    """The servers of one run, as a context manager."""

    def __init__(self, logs: Path) -> None:
        """Keep one log per server in the directory ``logs``."""
        self.logs = logs
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="starter")
        self._futures: list[Future[Stoppable]] = []
        self._servers: list[Server] = []
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        """Begin."""
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every server, the youngest first; a second interrupt does not keep the others from being ended."""
        self._ending.set()
        with contextlib.ExitStack() as stack:
            stack.callback(self._pool.shutdown)
            for future in self._futures:
                stack.callback(_stop, future)

    def start(self, make: Callable[[], Made]) -> "Future[Made]":
        """Call ``make`` in a thread of its own; it must end what it began when it fails."""
        future = self._pool.submit(make)
        self._futures.append(future)  # type: ignore[arg-type]
        return future

    def serve(
        self,
        name: str,
        words: Callable[[int], Sequence[str | Path]],
        *,
        env: Mapping[str, str],
        marker: str,
        port: int | None = None,
        path: str | None = None,
    ) -> "Future[Server]":
        """Start a program that listens at the port that ``words`` gets.

        It is ready once its log holds ``marker`` (that *it* listens, and not somebody who was faster to take the port)
        and ``GET path``, if given, gets a 2xx. Without ``path`` it listens nowhere.
        """

        def begin(port: int) -> Server:
            child = Child.start(name, words(port), log=self.logs / f"{name}.log", env=env)
            child.wait_until(lambda: self._says(child, marker) and (path is None or answers(port, path)), READY_S)
            server = Server(child, port)
            self._servers.append(server)
            return server

        return self.start(lambda: begin(0) if path is None else at_free_port(begin, port))

    def check(self) -> None:
        """Raise ``StartError`` when a program has ended that nobody asked to."""
        for server in list(self._servers):
            server.child.check()

    def _says(self, child: Child, marker: str) -> bool:
        if self._ending.is_set():
            raise StartError(f"{child.name} was stopped while it was starting.")
        return child.log is not None and child.log.exists() and marker in child.log.read_text(errors="replace")


def _stop(future: "Future[Stoppable]") -> None:
    if not future.cancel() and future.exception() is None:
        future.result().stop()
