"""Several processes slow one guesser together, and each its own while Redis is away."""

import time
from ipaddress import IPv4Address

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker.gateways.shared_guesses import SharedGuesses
from broker.ids import new_id
from broker.tenants.guesses import BURST, PER_SECOND, Guesses
from broker.tenants.keys import mint

NOW = 1_000.0
AWAY = "redis://127.0.0.1:9/0"


async def exchange(url: str, guesses: Guesses, *, per_second: float = PER_SECOND / 1000) -> None:
    """Once. By default a bucket drains so slowly in Redis, whose clock goes on, that a slow machine sees none of it."""
    shared = SharedGuesses(url, guesses, per_second=per_second)
    try:
        await shared.exchange(NOW)
    finally:
        await shared.close()


def somebody() -> str:
    """An address that nobody else has."""
    return str(IPv4Address(new_id().int % 2**32))


def guess(guesses: Guesses, client: str, times: int, prefix: str = "") -> int:
    """How many of these wrong keys are looked up."""
    looked_up = 0
    for _ in range(times):
        token = prefix + mint().secret[len(prefix) :]
        if guesses.wait(client, token, b"wrong", at=NOW) is None:
            guesses.note(client, token, b"wrong", right=False, at=NOW)
            looked_up += 1
    return looked_up


async def test_whoever_goes_to_the_next_process_finds_its_bucket_there(redis_url: str) -> None:
    """One look-up is what it takes that process to learn of it."""
    client, first, second = somebody(), Guesses(), Guesses()
    before = guess(first, client, 100)
    await exchange(redis_url, first)
    unknown = guess(second, client, 1)
    await exchange(redis_url, second)

    assert (BURST, 1, 0) == (before, unknown, guess(second, client, 100))


async def test_a_prefix_is_guessed_at_from_many_addresses_at_many_processes(redis_url: str) -> None:
    """Each address and each process makes few; the prefix has them all. Another one is not held up."""
    prefix, several = mint().prefix, [Guesses() for _ in range(5)]
    for guesses in several:
        guess(guesses, somebody(), 6, prefix)
        await exchange(redis_url, guesses)
    client, last = somebody(), several[-1]
    last.note(client, mint().secret, b"wrong", right=False, at=NOW)

    assert (0, 1) == (guess(last, client, 1, prefix), guess(last, client, 1))


async def test_a_bucket_drains_and_leaves_nothing_behind(redis_url: str) -> None:
    """By the clock of Redis, so that clocks of processes may differ; it is gone there once it is empty."""
    client, guesses = somebody(), Guesses()
    guess(guesses, client, 3)
    began = time.monotonic()
    await exchange(redis_url, guesses, per_second=PER_SECOND)
    fresh = Guesses()
    guess(fresh, client, 1)
    await exchange(redis_url, fresh, per_second=PER_SECOND)
    async with Redis.from_url(redis_url) as redis:
        name = f"broker:guesses:address:{client}"
        level, lives = float((await redis.hget(name, "level")) or 0), await redis.ttl(name)
    drained = (time.monotonic() - began) * PER_SECOND

    assert 4 - drained - 0.01 <= level <= 4
    assert 0 < lives <= 4 / PER_SECOND + 2


async def test_what_comes_while_redis_is_asked_is_not_lost(redis_url: str) -> None:
    """It is on top of what Redis says, and told the next time."""
    client, first, second = somebody(), Guesses(), Guesses()
    guess(first, client, 10)
    await exchange(redis_url, first)
    guess(second, client, 9)
    noted, second.noted = second.noted, {}
    guess(second, client, 1)
    second.learn({("address", client): 19.0}, NOW)

    assert (9, 0) == (noted["address", client], guess(second, client, 1))
    assert 1 == second.noted["address", client]


async def test_without_redis_each_counts_for_itself() -> None:
    """No request waits, and what could not be told is not kept."""
    client, guesses = somebody(), Guesses()
    async with SharedGuesses(AWAY, guesses, per_second=PER_SECOND).running():
        before = guess(guesses, client, 15)
        with pytest.raises(RedisError):
            await exchange(AWAY, guesses)
        kept = dict(guesses.noted)

        assert (15, {}, 5) == (before, kept, guess(guesses, client, 100))
