"""The webhook receiver and the inbox that reads it: what came in, checked as a customer would."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from broker.local.customer import Inbox
from broker.local.receiver import LARGEST, serve
from broker.local.telling import Untrue

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = json.dumps({"type": "email.bounced", "timestamp": "2026-01-05T10:00:00Z", "data": {"grant_id": "1"}})


@pytest.fixture
def url() -> Iterator[str]:
    """A receiver that runs in a thread."""
    with serve(0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def inbox(url: str) -> Iterator[Inbox]:
    """A customer that knows the secret."""
    inbox = Inbox(url, SECRET)
    yield inbox
    inbox.close()


def post(url: str, body: str, *, secret: str = SECRET) -> int:
    """Send a signed webhook; the status of the answer."""
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "event",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("event", now, body),
    }
    return httpx.post(f"{url}/hook", content=body, headers=headers, trust_env=False, timeout=60).status_code


def test_a_signed_webhook_is_heard(url: str, inbox: Inbox) -> None:
    status = post(url, BODY)

    [heard] = inbox.read()
    assert (204, "email.bounced", {"grant_id": "1"}) == (status, heard.type, heard.data)


def test_webhooks_are_heard_once_and_in_order(url: str, inbox: Inbox) -> None:
    post(url, BODY)
    inbox.read()
    post(url, BODY.replace("bounced", "complained"))

    assert ["email.bounced", "email.complained"] == [heard.type for heard in inbox.read()]


def test_a_webhook_signed_with_another_secret_is_no_webhook(url: str, inbox: Inbox) -> None:
    post(url, BODY, secret="whsec_AAFVsBQIhrscChlQIMV+b5sSYspob7oD")

    with pytest.raises(Untrue, match="signature"):
        inbox.read()


def test_the_delay_is_from_the_event_to_the_receiver(url: str, inbox: Inbox) -> None:
    post(url, BODY.replace("2026-01-05T10:00:00Z", datetime.now(UTC).isoformat()))

    [heard] = inbox.read()
    assert 0 <= heard.delay_ms < 60_000


def test_a_body_that_is_too_large_is_refused(url: str, inbox: Inbox) -> None:
    status = httpx.post(f"{url}/hook", content=b"x" * (LARGEST + 1), trust_env=False, timeout=60).status_code

    assert (413, []) == (status, inbox.read())


@pytest.mark.parametrize("broken", [False, True])
def test_a_customer_who_hangs_up_is_no_trouble_but_a_fault_is_told(
    broken: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool resets what it keeps alive; nobody is to look for a fault behind that."""
    ended = threading.Event()
    with serve(0) as server:
        if broken:
            monkeypatch.setattr(server.RequestHandlerClass, "do_POST", lambda _: 1 / 0)
        close = server.close_request

        def end(request: Any) -> None:
            close(request)
            ended.set()

        monkeypatch.setattr(server, "close_request", end)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_port)) as customer:
            customer.sendall(b"POST /hook HTTP/1.1\r\n\r\n")
            if not broken:
                assert customer.recv(12) == b"HTTP/1.1 204"
                customer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                customer.close()  # with a reset
            over = ended.wait(60)
        server.shutdown()
        thread.join()

    assert over
    assert ("Traceback" in capsys.readouterr().err) is broken
