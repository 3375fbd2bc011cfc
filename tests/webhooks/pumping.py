"""Pumps under the eyes of a test: resident ones that sweep when they are told to, and a client that is scripted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Unavailable
from broker.gateways.http import Answer
from broker.webhooks.attempt import Attempts
from broker.webhooks.holding import Lines
from broker.webhooks.ledger.ledger import Ledger
from broker.webhooks.pump import Pump
from broker.webhooks.sender import Sender


class Scripted:
    """A sender that answers as `react` says: with a status, 0 for none, or None for one that hangs until `go` is set.

    What other tests have left behind goes elsewhere than to `mine`, and does not count.
    """

    def __init__(self, react: Callable[[str], int | None] = lambda _: 200, *, mine: str = "") -> None:
        self.mine = mine
        self.react = react
        self.go = asyncio.Event()
        self.sent: list[tuple[str, str]] = []
        """URL and id of what was posted, in order."""

    def ids(self) -> list[str]:
        return [event_id for _, event_id in self.sent]

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout: timedelta,  # noqa: ASYNC109 - as the protocol says
        tenant_id: UUID,
    ) -> Answer:
        if not url.startswith(self.mine):
            return Answer(200, {}, b"", 1)
        self.sent.append((url, headers["webhook-id"]))
        status = self.react(url)
        if status is None:
            await self.go.wait()
            status = 200
        if status == 0:
            raise Unavailable("The connection could not be made.")
        return Answer(status, {}, b"", 1)


class Deaf(Pump):
    """Looks around only when `sweep` is called."""

    async def _sweep_on(self) -> None:
        await asyncio.Event().wait()


def a_pump(
    kind: type[Pump], lines: Lines, db: Database, sender: Sender, keyring: Keyring, *, linger: float = 0.25
) -> Pump:
    """A pump whose retries have no jitter."""
    attempts = Attempts(sender, timeout=timedelta(minutes=1), dice=lambda: 0.5)
    return kind(lines, db, attempts, keyring, ledger=Ledger(), linger=timedelta(seconds=linger))


@asynccontextmanager
async def resident(pump: Pump) -> AsyncIterator[Pump]:
    """The pump at work; stopped at the end as a worker stops it."""
    working = asyncio.create_task(pump.run())
    try:
        yield pump
    finally:
        await stop(working)


async def stop(working: "asyncio.Task[Any]") -> None:
    """Cancels and waits for the end."""
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
