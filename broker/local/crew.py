"""Starts servers side by side and ends all of them in reverse order, those too that were still starting."""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from broker.local.child import Child, StartError, fulfil
from broker.local.processes import LOOPBACK, answers

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
        return f"http://{LOOPBACK}:{self.port}"

    def stop(self) -> None:
        """End it."""
        self.child.stop()


class Crew:
    """The servers of one run, as a context manager."""

    def __init__(self, logs: Path) -> None:
        """Keep one log per server in the directory ``logs``."""
        self.logs = logs
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="starter")
        self._endings: list[Callable[[], None]] = []
        self._servers: list[Server] = []
        self._reserved = contextlib.ExitStack()
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
            stack.callback(self._reserved.close)
            stack.callback(self._pool.shutdown)
            for end in self._endings:
                stack.callback(end)
            stack.callback(self._ask_all)

    def reserve(self) -> int:
        """Give a free port of loopback that stays ours: only who asks for this very port can listen at it.

        A socket that is bound and does not listen keeps the system from giving the port away; servers that set
        SO_REUSEADDR, as all of ours do, can listen there all the same (socket(7), ip(7)).
        """
        holder = self._reserved.enter_context(socket.socket())
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, 0))
        port: int = holder.getsockname()[1]
        return port

    def start(self, make: Callable[[], Made]) -> "Future[Made]":
        """Call ``make`` in a thread of its own; it must end what it began when it fails."""
        future: Future[Made] = Future()
        self._endings.append(lambda: _stop(future))  # before it begins: an interrupt may come in between
        self._pool.submit(fulfil, future, make)
        return future

    def serve(
        self,
        name: str,
        words: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        marker: str,
        port: int = 0,
        path: str = "/",
    ) -> "Future[Server]":
        """Start one of our own programs, which listens at ``port`` (0: it listens nowhere).

        It is ready once its log holds ``marker`` (so that it is *it* who listens) and ``GET path`` gets a 2xx.
        """

        def begin() -> Server:
            child = Child.start(name, words, log=self.logs / f"{name}.log", env=env)
            child.wait_until(lambda: self._says(child, marker) and (port == 0 or answers(port, path)), READY_S)
            server = Server(child, port)
            self._servers.append(server)
            return server

        return self.start(begin)

    def check(self) -> None:
        """Raise ``StartError`` when a program has ended that nobody asked to."""
        for server in list(self._servers):
            server.child.check()

    def _ask_all(self) -> None:
        """Ask all of our own programs to end, the youngest first, so that they do it side by side."""
        for server in reversed(self._servers):
            if server.child.running:
                server.child.process.terminate()

    def _says(self, child: Child, marker: str) -> bool:
        if self._ending.is_set():
            raise StartError(f"{child.name} was stopped while it was starting.")
        return child.log is not None and child.log.exists() and marker in child.log.read_text(errors="replace")


def _stop(future: "Future[Made]") -> None:
    if not future.cancel() and future.exception() is None:
        future.result().stop()
