"""What a run asks of its processes: of the sink over HTTP, of the broker's programs by their logs."""

import contextlib
import http.client
import json
from pathlib import Path

from bench import sink
from broker.local.processes import LOOPBACK


def count_received(port: int) -> int:
    """How many webhooks came to the sink at this port so far."""
    return int(json.loads(_get(port, "/-/count"))["count"])


def receipts(port: int, path: Path) -> sink.Receipts:
    """All that came to the sink so far, by way of a file at ``path``."""
    _get(port, f"/-/save?{path}")
    return sink.load(path)


def last_logged(log: Path, name: str) -> int | None:
    """The last whole number under this name in a log of JSON lines, None where there is none."""
    for line in reversed(log.read_text(errors="replace").splitlines()[-200:]):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and isinstance(found.get(name), int):
                return int(found[name])
    return None


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()
