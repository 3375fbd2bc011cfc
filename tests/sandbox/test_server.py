"""The server as a process: quick to start, and gone when told so."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import aioboto3
import pytest

from broker.local.child import PortTakenError
from broker.local.processes import at_free_port
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


@contextmanager
def process() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server in a process of its own, ready to be called, and its port."""
    with ExitStack() as stack:

        def start(port: int) -> tuple[subprocess.Popen[str], int]:
            command = [sys.executable, "-c", PROGRAM, str(port)]
            found = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 — this very interpreter
            )
            assert found.stdout is not None
            if found.stdout.readline() != "ready\n":
                raise PortTakenError(f"Nobody is ready at port {port}.")
            return found, port

        yield at_free_port(start)


def end(running: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[str, int]:
    """What the process says after the signal, and its exit code."""
    running.send_signal(number)
    said, _ = running.communicate(timeout=12)  # what SNS delivers to who is silent would take fifteen seconds
    return said, running.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with process() as (running, port):
        status, _ = fetch(f"http://127.0.0.1:{port}/_sandbox/health")

        said, code = end(running, number)

    assert (status, said, code) == (200, "stopped\n", 0)


def test_an_endpoint_that_never_answers_does_not_hold_up_the_end() -> None:
    with process() as (running, port), socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        aws = Aws(f"http://127.0.0.1:{port}")
        account = aws.account()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        account.client("sns").subscribe(TopicArn=account.make_topic("news"), Protocol="http", Endpoint=endpoint)
        connection, _ = silent.accept()

        with connection:
            said, code = end(running)

    assert (said, code) == ("stopped\n", 0)


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
