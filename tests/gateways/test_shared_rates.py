"""Several processes hold one limit together, and each its own while Redis is away."""

from uuid import uuid4

import pytest
from redis.exceptions import RedisError

from broker.gateways import shared_rates
from broker.gateways.shared_rates import SharedRates
from broker.rates import Rates

TENANT, KEY = uuid4(), uuid4()


def passed(rates: Rates, requests: int, now: float) -> int:
    """How many of these requests are let pass."""
    standings = [rates.take(b"digest", TENANT, KEY, act=None, now=now) for _ in range(requests)]
    return sum(standing is not None and standing.refused is None for standing in standings)


async def test_two_processes_let_pass_what_one_would(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second late: what came in that second is taken off the next ones."""
    monkeypatch.setattr(shared_rates, "EVERY", 3600.0)  # they exchange here only, and by the clock of this test
    one, other = Rates(tenant=1, key=0), Rates(tenant=1, key=0)
    first, second = SharedRates(redis_url, one), SharedRates(redis_url, other)
    async with first.running(), second.running():
        passed(one, 1, 0.0)
        passed(other, 1, 0.0)
        await first.exchange(0.0)
        await second.exchange(0.0)
        passed(one, 8, 0.0)
        passed(other, 1, 0.0)
        await first.exchange(0.0)
        await second.exchange(0.0)

        assert 0 == passed(other, 10, 0.0)
        assert 3 == passed(other, 10, 3.5)


async def test_without_redis_each_counts_for_itself() -> None:
    """It fails open to the bucket that is there, and no request waits."""
    rates = Rates(tenant=1, key=0)
    async with SharedRates("redis://127.0.0.1:9/0", rates).running():
        passed(rates, 4, 0.0)
        with pytest.raises(RedisError):
            await SharedRates("redis://127.0.0.1:9/0", rates).exchange(0.0)

    assert (6, {("tenant", TENANT): 6}) == (passed(rates, 10, 0.0), rates.taken)
