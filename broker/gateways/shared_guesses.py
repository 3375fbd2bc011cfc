"""What other processes have seen of guessed keys, by Redis; while that is away each process counts for itself."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker.gateways.exchanging import exchanging

EVERY = 0.2  # seconds
AGAIN = 1.0  # seconds, while Redis is away
TIMEOUT = 1.0  # seconds
AT_ONCE = 1_000  # buckets in one exchange; the rest count here alone

Source = tuple[str, str]

# A bucket that drains, by the clock of Redis: what is left of it, and so many more. KEYS: the bucket. ARGV: how many
# more, and how many drain in a second.
_FILL = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local kept = redis.call('HMGET', KEYS[1], 'level', 'at')
local drained = math.max(0, now - (tonumber(kept[2]) or now)) * tonumber(ARGV[2])
local level = math.max(0, (tonumber(kept[1]) or 0) - drained) + tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(level / tonumber(ARGV[2])) + 1)
return string.format('%.6f', level)
"""


class Noted(Protocol):
    """What one process has counted since the last time, and who takes the sum."""

    noted: dict[Source, int]

    def learn(self, levels: Mapping[Source, float], at: float) -> None:
        """How full these buckets are with what all processes have counted."""
        ...


class SharedGuesses:
    """Adds up in Redis; no request waits for it. Whoever goes from process to process finds its bucket there."""

    def __init__(self, url: str, guesses: Noted, *, per_second: float) -> None:
        """`per_second`: how many drain."""
        self._redis = Redis.from_url(url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT)
        self._guesses = guesses
        self._per_second = per_second

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Exchanges until left, and closes the connection."""
        try:
            async with exchanging(self.exchange, what="guesses", every=EVERY, again=AGAIN):
                yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    async def exchange(self, now: float) -> None:
        """Tells what was counted here since the last time, and learns how full those buckets are. Nothing: no call."""
        noted, self._guesses.noted = self._guesses.noted, {}
        told = dict(list(noted.items())[:AT_ONCE])
        if not told:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for (kind, name), count in told.items():
                pipe.eval(_FILL, 1, f"broker:guesses:{kind}:{name}", str(count), str(self._per_second))
            levels = await pipe.execute()
        self._guesses.learn({source: float(level) for source, level in zip(told, levels, strict=True)}, now)
