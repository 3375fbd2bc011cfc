"""The receiver of the webhooks: a process that answers at once and keeps who got what, and when.

Usage: ``python -m bench.sink PORT CERTIFICATE``. The path of a webhook says how its endpoint behaves and its number:
``/ok/7`` answers 200 at once, ``/hang/7`` never, ``/drip/7`` a byte each second, ``/reset/7`` cuts the connection,
``/fail/7`` answers 500. ``GET /-/count`` tells how many came; ``GET /-/save?PATH`` writes them to a file for ``load``.
Any other GET gets the certificate of SNS's signatures, so that this is the broker's AWS endpoint too.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from array import array
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import uvloop

from bench.payloads import SES_PREFIX

READY = "sink listens at"
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
_DRIP = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
_HEX = slice(len(SES_PREFIX), len(SES_PREFIX) + 8)
UNKNOWN = -1  # the number of a body that names no message of ours


@runtime_checkable
class Transport(Protocol):
    """What we use of asyncio's and uvloop's transports, which have no class in common."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool: ...


class Receipts(NamedTuple):
    """What came in, in order: the message's number, the endpoint's number, and time.monotonic() of the arrival."""

    numbers: "array[int]"
    endpoints: "array[int]"
    times: "array[float]"


def no_receipts() -> Receipts:
    """Nothing yet."""
    return Receipts(array("q"), array("q"), array("d"))


class Connection(asyncio.Protocol):
    """One connection of a deliverer, kept alive."""

    def __init__(self, receipts: Receipts, certificate: bytes) -> None:
        """Note what comes in ``receipts``."""
        self._receipts = receipts
        self._certificate = certificate
        self._rest = b""
        self._transport: Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        if isinstance(transport, Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take every request that is complete."""
        data = self._rest + data if self._rest else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            stop = end + 4 + _length(data[:end].lower())
            if len(data) < stop:
                break
            self._take(data[: data.find(b"\r\n")], data[end + 4 : stop])
            data = data[stop:]
        self._rest = data

    def _take(self, first_line: bytes, body: bytes) -> None:
        target = first_line.split(b" ", 2)[1]
        if self._transport is None or self._transport.is_closing():
            return
        if first_line.startswith(b"GET "):
            self._transport.write(_with_body(self._control(target.decode())))
            return
        _, manner, endpoint = target.split(b"/", 2)
        at = body.find(SES_PREFIX)
        number = int(body[at : at + _HEX.stop][_HEX], 16) if at >= 0 else UNKNOWN
        self._receipts.numbers.append(number)
        self._receipts.endpoints.append(int(endpoint))
        self._receipts.times.append(time.monotonic())
        if manner == b"ok":
            self._transport.write(_OK)
        else:
            _behave(self._transport, manner)

    def _control(self, target: str) -> bytes:
        if target.startswith("/-/count"):
            return json.dumps({"count": len(self._receipts.numbers)}).encode()
        if target.startswith("/-/save?"):
            save(Path(target.partition("?")[2]), self._receipts)
            return b"{}"
        return self._certificate


def _behave(transport: Transport, manner: bytes) -> None:
    """Endpoints as they are met in the wild."""
    if manner == b"reset":
        transport.abort()
    elif manner == b"fail":
        transport.write(_FAILED)
    elif manner == b"drip":
        transport.write(_DRIP)
        _drip(transport)


def _drip(transport: Transport) -> None:
    if not transport.is_closing():
        transport.write(b" ")
        asyncio.get_running_loop().call_later(1.0, _drip, transport)


def _length(head: bytes) -> int:
    at = head.find(b"content-length:")
    if at < 0:
        return 0
    end = head.find(b"\r\n", at)
    return int(head[at + 15 : end if end > 0 else len(head)])


def _with_body(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def save(path: Path, receipts: Receipts) -> None:
    """Write the receipts, so that ``load`` finds them."""
    with path.open("wb") as file:
        file.write(len(receipts.numbers).to_bytes(8, "big"))
        for column in receipts:
            column.tofile(file)


def load(path: Path) -> Receipts:
    """Read what ``save`` wrote."""
    found = no_receipts()
    with path.open("rb") as file:
        count = int.from_bytes(file.read(8), "big")
        for column in found:
            column.fromfile(file, count)
    return found


async def serve(port: int, certificate: bytes) -> None:
    """Take webhooks until the process is ended."""
    receipts = no_receipts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(receipts, certificate), "127.0.0.1", port, backlog=4096)
    sys.stderr.write(f"{READY} {port}\n")
    gc.freeze()
    gc.disable()  # what is kept holds no cycles, and a pause would be measured as the broker's
    await server.serve_forever()


def raise_file_limit() -> None:
    """As many open connections as this machine allows to us."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
