"""Token buckets: a burst passes, a flood does not, and what is told is what happens."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.quotas import Act, Quota, Quotas, parse
from broker.rates import MOST_KEPT, Rates, Standing

TENANT, KEY, DIGEST = uuid4(), uuid4(), b"digest"


def ask(rates: Rates, now: float, act: str | None = None) -> Standing:
    found = rates.take(DIGEST, TENANT, KEY, act=act, now=now)
    assert found is not None
    return found


@given(st.lists(st.floats(0, 3), max_size=200))
def test_never_more_than_the_quota_and_what_the_time_has_filled(gaps: list[float]) -> None:
    """Over any stretch of time, however the requests come."""
    rates, now, passed = Rates(tenant=0, key=0.5), 100.0, []
    for gap in gaps:
        now += gap
        if ask(rates, now).refused is None:
            passed.append(now)

    for first, begun in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= 5 + (passed[last] - begun) * 0.5 + 1e-6


@given(st.floats(0.1, 20), st.integers(0, 300))
def test_whoever_comes_back_when_told_passes(rate: float, requests: int) -> None:
    """Retry-After is enough, and `r` is what passes at once."""
    rates, now = Rates(tenant=0, key=rate), 0.0
    for _ in range(requests):
        ask(rates, now)
    standing = ask(rates, now)
    if standing.refused:
        assert ask(rates, now + standing.retry_after.total_seconds()).refused is None


def test_a_refusal_takes_nothing_from_the_other_buckets() -> None:
    """A key that is out of its share does not eat the tenant's."""
    rates = Rates(tenant=1, key=0.1)

    standings = [ask(rates, 0.0) for _ in range(5)]

    assert [None, "key", "key", "key", "key"] == [each.refused and each.refused.name for each in standings]
    assert 9 == standings[-1].left[0]


def test_a_known_key_with_nothing_left_is_told_apart_from_one_never_seen() -> None:
    rates = Rates(tenant=0, key=0.1)
    before = rates.refused(DIGEST, 0.0)
    ask(rates, 0.0)

    assert (None, True, None) == (before, rates.refused(DIGEST, 1.0) is not None, rates.refused(DIGEST, 10.0))


def test_nothing_limits_where_nothing_is_set() -> None:
    rates = Rates(tenant=0, key=0, acts={"simulations": 0})

    assert rates.take(DIGEST, TENANT, KEY, act="simulations", now=0.0) is None


def test_what_other_processes_let_pass_counts() -> None:
    """And never more than one window's worth, so that a wrong number is over in ten seconds."""
    rates = Rates(tenant=1, key=0)
    rates.spend(("tenant", TENANT), 10**9, 0.0)

    assert (True, None) == (ask(rates, 9.0).refused is not None, ask(rates, 12.0).refused)


def test_memory_does_not_grow_with_the_keys_that_ever_came() -> None:
    rates = Rates(tenant=0, key=1)
    for number in range(MOST_KEPT + 100):
        rates.take(f"{number}".encode(), TENANT, uuid4(), act=None, now=number * 0.1)

    assert len(rates._buckets) <= MOST_KEPT  # noqa: SLF001 - what is kept cannot be seen from outside


def test_quotas_are_read_from_one_setting() -> None:
    quotas = parse("api_keys=3, simulations=0,")

    assert (3, 20) == (quotas.most(Quota.API_KEYS), quotas.most(Quota.ENDPOINTS))
    assert (0.0, 60.0) == (quotas.a_minute()[Act.SIMULATIONS], Quotas().a_minute()[Act.ENDPOINT_TESTS])


@pytest.mark.parametrize("text", ["apikeys=3", "api_keys", "api_keys=-1", "api_keys=many", "api_keys=1.5"])
def test_a_quota_that_is_none_is_named_with_those_that_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not name=number with a name of api_keys, connections"):
        parse(text)


def test_the_last_request_that_passes_tells_when_the_next_one_may_come() -> None:
    """`t` is never 0 with nothing left: a client that heeds it would ask at once."""
    limit, _ = ask(Rates(tenant=0, key=0.1), 0.0).headers()

    assert (b"ratelimit", b'"key";r=0;t=10') == limit
