"""What the tests of the local servers share: waiting with a deadline, and looking at processes from outside."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def wait_for(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    """Wait until ``condition`` holds, or fail."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a port at which nobody listens, and which nobody is given by chance: the tests beside this one bind many.

    A server that sets SO_REUSEADDR, as all of ours do, can listen there all the same (`Crew.reserve`).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def is_gone(pid: int) -> bool:
    """Tell whether no such process runs; one that is only waiting to be reaped counts as gone."""
    with suppress(FileNotFoundError, ProcessLookupError):  # gone before the look, or during it
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def start_parent(script: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    """Run a Python script as a process of its own, whose stdout can be read line by line."""
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)  # noqa: S603 — the test's own script


def read_pid(parent: "subprocess.Popen[str]") -> int:
    """Read one line, which holds a process id."""
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def end(parent: "subprocess.Popen[str]") -> None:
    """Kill the process if it still runs, and close its pipe."""
    parent.kill()
    parent.communicate()
