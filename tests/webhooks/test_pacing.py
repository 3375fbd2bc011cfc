"""Pace and rate limit of one endpoint: rules, seen without a clock."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.webhooks.pacing import (
    FIRST_WINDOW,
    LONGEST_PAUSE,
    PATIENCE,
    WIDEST_WINDOW,
    Bucket,
    Pace,
    learn,
    pause_after,
)


def after(*outcomes: bool) -> Pace:
    """The pace that these outcomes lead to; True is a success."""
    pace = Pace()
    for delivered in outcomes:
        pace = learn(pace, delivered=delivered)
    return pace


def test_the_window_grows_by_one_with_each_success() -> None:
    assert FIRST_WINDOW + 3 == after(True, True, True).window


def test_the_window_halves_with_each_failure() -> None:
    assert (FIRST_WINDOW + 4) // 2 == after(True, True, True, True, False).window


@given(st.lists(st.booleans(), max_size=200))
def test_the_window_never_leaves_its_bounds(outcomes: list[bool]) -> None:
    assert 1 <= after(*outcomes).window <= WIDEST_WINDOW


@given(st.lists(st.booleans(), max_size=50))
def test_an_endpoint_is_failing_when_its_last_attempts_all_failed(outcomes: list[bool]) -> None:
    failing = len(outcomes) >= PATIENCE and not any(outcomes[-PATIENCE:])

    assert failing == after(*outcomes).failing


def test_one_success_ends_the_failing() -> None:
    assert not after(*[False] * 20, True).failing


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (3, 0), (4, 1), (5, 2), (6, 4), (9, 32), (10, 60), (15, 60), (5000, 60)]
)
def test_a_failing_endpoint_is_left_alone_for_longer_and_longer(failures: int, seconds: float) -> None:
    assert seconds == pause_after(Pace(1, failures))


def test_no_pause_is_longer_than_a_minute() -> None:
    assert LONGEST_PAUSE == max(pause_after(Pace(1, failures)) for failures in range(100))


def times_taken(rate: int, gaps: list[float]) -> list[float]:
    """When one who tries after each of these gaps gets through."""
    bucket, now, taken = Bucket(rate), 1000.0, []
    for gap in gaps:
        now += gap
        while bucket.wait(now) == 0:
            bucket.take()
            taken.append(now)
    return taken


@settings(deadline=None)
@given(st.integers(1, 1000), st.lists(st.floats(0, 3), min_size=1, max_size=40))
def test_in_no_stretch_of_time_more_goes_than_the_rate_and_a_tenth_of_a_second_of_it(
    rate: int, gaps: list[float]
) -> None:
    """A tenth of a second's worth, or one: that is what may go at once."""
    ahead = [number - rate * at for number, at in enumerate(times_taken(rate, gaps))]

    # How far the number of those that went runs ahead of the rate, from the moment when it was least so.
    least = list(itertools.accumulate(ahead, min))
    assert all(now - then + 1 <= max(1.0, rate / 10) + 1e-6 for now, then in zip(ahead, least, strict=True))


@settings(deadline=None)
@given(st.integers(1, 1000))
def test_after_the_wait_that_it_names_one_more_may_go(rate: int) -> None:
    bucket, now, waits = Bucket(rate), 0.0, []
    for _ in range(200):
        waits.append(bucket.wait(now))
        now += waits[-1] + 1e-9
        assert 0 == bucket.wait(now)
        bucket.take()

    assert 0 == waits[0]
    assert sum(waits) <= 200 / rate


def test_what_was_not_used_is_not_saved_up() -> None:
    assert 10 == len(times_taken(100, [3600.0]))


def test_a_full_bucket_says_so() -> None:
    """A lane is let go of only then: whoever has it next begins with a full one."""
    bucket = Bucket(1)
    fresh = bucket.is_full(10.0)
    bucket.wait(10.0)
    bucket.take()

    assert (True, False, False, True) == (fresh, bucket.is_full(10.0), bucket.is_full(10.9), bucket.is_full(11.0))
