"""The server as a process: quick to start, and gone when told so."""

import signal
import subprocess
import sys
import time

import pytest

from tests.sandbox.aws import fetch

PROGRAM = """
import sys
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import serve

serve(port=int(sys.argv[1]), dialect=Dialect(), on_ready=lambda: print("ready", flush=True))
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals, unused_tcp_port: int) -> None:
    began = time.monotonic()
    with subprocess.Popen(  # noqa: S603 — this very interpreter
        [sys.executable, "-c", PROGRAM, str(unused_tcp_port)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        took = time.monotonic() - began
        status, _ = fetch(f"http://127.0.0.1:{unused_tcp_port}/_sandbox/health")

        process.send_signal(number)
        said = process.stdout.read()
        code = process.wait(5)

    assert (status, said, code) == (200, "stopped\n", 0)
    assert took < 10, "importing moto alone takes about a second on an idle machine"
