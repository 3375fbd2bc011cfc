"""A webhook receiver: a process that takes every POST, remembers it, and shows what it got.

Usage: ``python -m broker.local.receiver PORT``. ``POST /hook`` takes a webhook; ``GET /received?after=N`` gives all but
the first N as a JSON list of ``{"at": unix seconds, "headers": {…}, "body": "…"}``. It knows no secret: whoever asks
checks the signatures. The standard library alone, since three of them start at once in a demo.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
READY = "receiver listens at"
LARGEST = 1_000_000  # bytes of one body


class Memory:
    """What came in, in order. Safe to use from several threads."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._received: list[dict[str, Any]] = []

    def add(self, headers: dict[str, str], body: str) -> None:
        """Remember one request, with the time at which it was complete."""
        with self._lock:
            self._received.append({"at": time.time(), "headers": headers, "body": body})

    def since(self, count: int) -> list[dict[str, Any]]:
        """Give all but the first ``count``."""
        with self._lock:
            return self._received[count:]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the broker keeps its connections alive
    disable_nagle_algorithm = True
    memory: Memory

    def do_POST(self) -> None:
        """Take a webhook."""
        length = int(self.headers.get("content-length", 0))
        if length > LARGEST:
            self.close_connection = True
            self._answer(413)
            return
        body = self.rfile.read(length).decode(errors="replace")
        self.memory.add({name.lower(): value for name, value in self.headers.items()}, body)
        sys.stderr.write(f"POST {self.path} {len(body)} bytes\n")
        self._answer(204)

    def do_GET(self) -> None:
        """Show what came in."""
        query = parse_qs(urlsplit(self.path).query)
        after = query.get("after", ["0"])[0]
        self._answer(200, json.dumps(self.memory.since(int(after) if after.isdigit() else 0)).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — the name is http.server's
        """Nothing for the looks of a polling customer; webhooks are printed above."""

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong, unless a customer merely hung up: connections that are kept alive end like that."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(port: int) -> ThreadingHTTPServer:
    """A receiver that listens; ``serve_forever`` makes it answer."""
    return _Server((HOST, port), type("Handler", (_Handler,), {"memory": Memory()}))


if __name__ == "__main__":
    with serve(int(sys.argv[1])) as running:
        sys.stderr.write(f"{READY} {running.server_port}\n")
        running.serve_forever(poll_interval=0.05)
