"""Every answer of the API is one that its OpenAPI document tells of, whatever is sent (schemathesis)."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Any

import httpx
import pytest_asyncio
import uvicorn

from bench.fuzz import fuzz_api
from broker.app import build
from broker.feedback.door import Door
from broker.parts import Parts
from broker.settings import Settings

SEED = 20_260


@pytest_asyncio.fixture
async def served(settings: Settings) -> AsyncIterator[str]:
    """The API in a thread with a loop of its own, over HTTP, and with the door for SNS before it; its URL."""
    parts = Parts(settings)
    app: Any = build(parts)  # ASGI as Litestar and as uvicorn type it differ
    door = Door(app, parts.receiver, body_limit=settings.body_limit, ledger=parts.ledger)
    server = uvicorn.Server(uvicorn.Config(door, lifespan="on", log_config=None, access_log=False))
    with closing(socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        await asyncio.to_thread(_await_start, server, thread)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await asyncio.to_thread(thread.join)


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started and thread.is_alive():
        thread.join(0.01)


async def test_no_answer_is_one_that_the_document_does_not_tell_of(served: str, tmp_path: Path) -> None:
    """No 5xx, no undocumented status or body, no stranger let in, no answer later than ten seconds.

    `broker bench fuzz` sends more; with the seed in the message it sends this again.
    """
    async with httpx.AsyncClient(base_url=served) as client:
        answer = await client.post("/v1/tenants", json={"name": "Fuzz", "roles": ["owner", "delegate"]})

    found = await asyncio.to_thread(
        fuzz_api, served, tmp_path / "fuzz", key=answer.json()["secret"], examples=1, seed=SEED
    )

    assert 0 == found.failures, f"seed {SEED}: {found.told}"
    assert found.operations > 90
    assert found.cases > 3_000
