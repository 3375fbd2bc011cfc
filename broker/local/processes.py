"""What a local run asks of its processes: free ports, answers there, and an end by signals."""

import contextlib
import http.client
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

from broker.local import interrupts
from broker.local.child import PortTakenError

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
        with interrupts.unprinted():
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
