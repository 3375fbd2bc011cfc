"""The schedule of retries, and what each answer means."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.webhooks.retries import SCHEDULE, Next, Verdict, decide, delay_after, read_retry_after, why_disabled

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

chances = st.floats(min_value=0, max_value=1)
failures = st.one_of(st.none(), st.integers(min_value=300, max_value=599))


def test_the_schedule_is_the_published_one() -> None:
    hours = [0, 5 / 3600, 5 / 60, 0.5, 2, 5, 10, 14, 20, 24]

    assert [timedelta(hours=hour) for hour in hours] == list(SCHEDULE)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(status: int) -> None:
    assert Next(Verdict.DELIVERED) == decide(1, status, retry_after=DAY, chance=0.5)


@given(number=st.integers(min_value=1, max_value=9), status=failures, chance=chances)
def test_a_failure_is_tried_again_within_a_fifth_of_the_schedule(
    number: int, status: int | None, chance: float
) -> None:
    step = decide(number, status, retry_after=None, chance=chance)

    assert step.verdict is Verdict.RETRY
    assert step.again_in is not None
    assert SCHEDULE[number] * 0.8 - timedelta(microseconds=2) <= step.again_in
    assert step.again_in <= SCHEDULE[number] * 1.2 + timedelta(microseconds=2)


@given(status=failures, chance=chances)
def test_the_tenth_failure_is_the_last(status: int | None, chance: float) -> None:
    step = decide(10, status, retry_after=DAY, chance=chance)

    assert (Verdict.DEAD, None) == (step.verdict, step.again_in)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, True), (502, True), (503, True), (504, True), (500, False), (404, False), (301, False)],
)
def test_retry_after_is_honoured_where_it_means_slow_down(status: int, *, expected: bool) -> None:
    step = decide(1, status, retry_after=DAY, chance=0.5)

    assert expected == (step.quiet_for == DAY)
    assert (DAY if expected else SCHEDULE[1]) == step.again_in


def test_a_short_retry_after_does_not_shorten_the_schedule() -> None:
    step = decide(3, 503, retry_after=timedelta(seconds=1), chance=0.5)

    assert SCHEDULE[3] == step.again_in


@given(number=st.integers(min_value=1, max_value=10), chance=chances)
def test_only_410_means_gone(number: int, chance: float) -> None:
    said = [decide(number, status, retry_after=None, chance=chance).gone for status in (404, 409, 410, 411, 451)]

    assert [False, False, True, False, False] == said


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", timedelta(0)),
        (" 120 ", timedelta(minutes=2)),
        ("0000000000007", timedelta(seconds=7)),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 4000, DAY),
        ("Sun, 01 Mar 2026 12:05:00 GMT", timedelta(minutes=5)),
        ("Sun, 01 Mar 2026 11:00:00 GMT", timedelta(0)),
        ("Sun, 01 Mar 2027 12:05:00 GMT", DAY),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("\u0665", None),
        ("Sun, 99 Mar 2026 12:05:00 GMT", None),
        ("Sun, 01 Mar 2026 12:05:00 +99999999999999", None),
        (f"Sun, 01 Mar {9 * 10**30} 12:05:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: timedelta | None) -> None:
    assert expected == read_retry_after(value, now=NOW)


@given(st.text(max_size=60))
def test_no_retry_after_can_raise_or_exceed_a_day(value: str) -> None:
    wait = read_retry_after(value, now=NOW)

    assert wait is None or timedelta(0) <= wait <= DAY


def test_the_jitter_spans_two_fifths() -> None:
    spread = delay_after(3, chance=1.0) - delay_after(3, chance=0.0)

    assert timedelta(minutes=12) == spread


@pytest.mark.parametrize(
    ("failing_for", "gone", "expected"),
    [
        (None, False, None),
        (timedelta(days=5) - timedelta(seconds=1), False, None),
        (timedelta(days=5), False, "Nothing but failures for five days."),
        (None, True, "The endpoint answered 410 Gone."),
    ],
)
def test_an_endpoint_is_disabled_for_a_reason(
    failing_for: timedelta | None, expected: str | None, *, gone: bool
) -> None:
    assert expected == why_disabled(failing_for, gone=gone)
