"""The server as a process: quick to start, and gone when told so."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import aioboto3
import pytest

from broker.sandbox.dialect import Dialect
from broker.sandbox.server import serve, start_in_thread
from tests.sandbox.aws import CONFIG, REGION, Aws, fetch, simple

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


def test_it_listens_on_loopback_only(unused_tcp_port: int) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        serve(host="0.0.0.0", port=unused_tcp_port, dialect=Dialect())  # noqa: S104 — it is to be refused


def test_a_taken_port_is_an_error(aws: Aws) -> None:
    with pytest.raises(OSError, match="in use"), start_in_thread(port=int(aws.url.rpartition(":")[2])):
        pass


async def test_asynchronous_clients_are_served_too(aws: Aws) -> None:
    account = aws.account()
    account.verify("example.com")
    keys = {"aws_access_key_id": account.keys.access_key_id, "aws_secret_access_key": account.keys.secret_access_key}
    session = aioboto3.Session(region_name=REGION, **keys)

    async with session.client("sesv2", endpoint_url=aws.url, config=CONFIG) as client:
        sent = await client.send_email(**simple("news@example.com"))

    assert sent["MessageId"].startswith("0102")


def test_many_callers_at_once_are_served(aws: Aws) -> None:
    accounts = [aws.account() for _ in range(8)]

    def use(number: int) -> int:
        account = accounts[number]
        topic = account.make_topic("feedback", publishers=account.id)
        queue = account.make_queue("feedback", topic)
        account.verify("example.com")
        account.client("ses").set_identity_notification_topic(
            Identity="example.com", NotificationType="Delivery", SnsTopic=topic
        )
        for _ in range(5):
            account.client("sesv2").send_email(**simple("news@example.com"))
        return len(queue.feedback(5))

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(use, range(8)))

    assert heard == [5] * 8
