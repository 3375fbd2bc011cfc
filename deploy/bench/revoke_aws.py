"""The local AWS that also serves the certificate of the generator's messages, so that both come from one endpoint.

`python -m bench.revoke_aws PORT CERTIFICATE`. Until SIGTERM.
"""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Event

from bench.messages import CERTIFICATE_PATH
from broker.sandbox.server import start_in_thread
from broker.sandbox.sns_delivery import Courier

READY = "local AWS with the bench's certificate"


class Vouching(Courier):
    """A courier with one more certificate."""

    def __init__(self, url: str, closing: Event, more: Mapping[str, bytes]) -> None:
        """Serve ``more``, PEM texts by path, too."""
        super().__init__(url, closing)
        self._more = more

    def certificate_at(self, path: str) -> bytes | None:
        """The PEM text served at a path, None when there is none."""
        return self._more.get(path) or super().certificate_at(path)


def main(port: int, pem: bytes) -> None:
    """Serves."""
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with start_in_thread(port=port) as running:
        cloud = running.cloud
        cloud.courier.close()
        cloud.courier = Vouching(cloud.url, cloud.closing, {CERTIFICATE_PATH: pem})
        print(READY, flush=True)  # noqa: T201 — what the bench waits for
        stop.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes())
