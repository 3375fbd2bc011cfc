"""Runs the local AWS: an AWS on loopback for the demo, development and tests."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from threading import Thread

import msgspec
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from broker.sandbox.cloud import Cloud
from broker.sandbox.dialect import Dialect
from broker.sandbox.front import Front


class _QuietHandler(WSGIRequestHandler):
    """Keeps connections alive and does not write a line per request; `/_sandbox/calls` has the log."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


class Running(msgspec.Struct, frozen=True):
    """A local AWS that runs in a thread; `url` is its endpoint for every service and Region."""

    url: str
    cloud: Cloud


def _listen(host: str, port: int, dialect: Dialect) -> tuple[BaseWSGIServer, Cloud]:
    if host != "localhost" and not ip_address(host).is_loopback:
        raise ValueError(f"The local AWS listens on loopback only, not on {host}: its control API asks for no key.")
    # Bound here, since werkzeug ends the whole process over a port that is taken.
    with socket.create_server((host, port), backlog=128) as listening:
        server = make_server(host, port, _unready, threaded=True, request_handler=_QuietHandler, fd=listening.fileno())
    cloud = Cloud(dialect, f"http://{host}:{server.port}")
    server.app = Front(cloud)
    return server, cloud


def _unready(_environ: object, _start_response: object) -> list[bytes]:
    raise AssertionError("no request is read before the application is set")


def serve(*, host: str = "127.0.0.1", port: int, dialect: Dialect, on_ready: Callable[[], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT; must run in the main thread.

    Raises ValueError for a host that is not loopback and OSError for a port that is taken.
    """
    server, cloud = _listen(host, port, dialect)
    # Stopping waits for the loop, which this thread runs: another thread has to ask for it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: Thread(target=server.shutdown, daemon=True).start())
    if on_ready is not None:
        on_ready()
    try:
        server.serve_forever(poll_interval=0.05)
    finally:
        cloud.close()
        server.server_close()


@contextmanager
def start_in_thread(*, host: str = "127.0.0.1", port: int = 0, dialect: Dialect | None = None) -> Iterator[Running]:
    """A local AWS for tests. moto keeps IAM, SNS and SQS per process, so two of these share them: use own accounts."""
    server, cloud = _listen(host, port, dialect or Dialect())
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Running(cloud.url, cloud)
    finally:
        server.shutdown()
        thread.join()
        cloud.close()
        server.server_close()
