"""What other processes have let pass, by Redis, once a second; while that is away each process counts for itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker.gateways.exchanging import exchanging
from broker.rates import WINDOW, Rates, Who

EVERY = 1.0  # seconds
TIMEOUT = 1.0  # seconds
KEPT = 60  # seconds


class SharedRates:
    """Adds up in Redis; no request waits for it. A limit so holds for all processes together, a second late."""

    def __init__(self, url: str, rates: Rates) -> None:
        self._redis = Redis.from_url(url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT)
        self._rates = rates
        self._seen: dict[Who, tuple[int, float]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Exchanges until left, and closes the connection."""
        try:
            async with exchanging(self.exchange, what="rates", every=EVERY, again=EVERY):
                yield
        finally:
            with suppress(RedisError, OSError):
                await self._redis.aclose()

    async def exchange(self, now: float) -> None:
        """Tells what was let pass here since the last time; takes what was let pass elsewhere out of the buckets."""
        taken, self._rates.taken = self._rates.taken, {}
        if not taken:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for (name, each), count in taken.items():
                pipe.incrby(f"broker:rates:{name}:{each}", count)
                pipe.expire(f"broker:rates:{name}:{each}", KEPT)
            totals = (await pipe.execute())[::2]
        self._seen = {who: seen for who, seen in self._seen.items() if now - seen[1] < WINDOW}
        for (who, count), total in zip(taken.items(), totals, strict=True):
            # Who was not seen for a window begins anew: what was let pass before has filled up again.
            before = self._seen.get(who, (total - count, now))[0]
            self._rates.spend(who, max(0, total - count - before), now)
            self._seen[who] = total, now
