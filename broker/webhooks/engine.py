"""Builds a pump on connections of its own."""

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from broker.crypto import Keyring
from broker.db import Database
from broker.webhooks.attempt import Attempts
from broker.webhooks.holding import Lines
from broker.webhooks.ledger.ledger import Ledger
from broker.webhooks.pump import LINGER, Pump
from broker.webhooks.sender import Sender

TIMEOUT = timedelta(seconds=15)
_DICE = random.random  # spreads retries, guards nothing


class Engine:
    """The delivery engine of one process: a resident pump, or bursts. `db` has the role broker_pump.

    `url` leads to the same database without a pooler in transaction mode between; `timeout` is the total deadline of
    one attempt, `dice` numbers from 0 to 1 for the jitter of retries.
    """

    def __init__(
        self,
        url: str,
        db: Database,
        sender: Sender,
        keyring: Keyring,
        *,
        timeout: timedelta = TIMEOUT,
        dice: Callable[[], float] = _DICE,
        ledger: Ledger | None = None,
    ) -> None:
        self._lines = Lines(url)
        self._db = db
        self._keyring = keyring
        self._ledger = ledger or Ledger()
        self._attempts = Attempts(sender, timeout=timeout, dice=dice)

    def pump(self, *, linger: timedelta = LINGER) -> Pump:
        """A pump; one at a time."""
        return Pump(self._lines, self._db, self._attempts, self._keyring, ledger=self._ledger, linger=linger)

    async def burst(self, only: Sequence[UUID] | None = None) -> int:
        """Delivers what is due now (of the endpoints `only`); the number of attempts."""
        return await self.pump(linger=timedelta(0)).burst(only)

    async def close(self) -> None:
        """Closes the connections."""
        await self._lines.close()
