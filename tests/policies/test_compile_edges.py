"""Small rules of the compiler that no policy of an ordinary grant shows."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from broker.policies.compile import first_second, grant_of, has_wildcard, instant
from tests.policies.examples import GRANT

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("suffix", ["", *"abcdefgh"])
def test_the_sid_of_a_grant_tells_the_grant(suffix: str) -> None:
    assert GRANT == grant_of(GRANT.hex + suffix)


@pytest.mark.parametrize(
    "sid",
    ["", GRANT.hex[:-1], GRANT.hex + "X", GRANT.hex + "i", GRANT.hex + "ab", GRANT.hex[:-1] + "X", GRANT.hex.upper()],
)
def test_any_other_sid_is_nobodys(sid: str) -> None:
    assert grant_of(sid) is None


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_an_instant_is_written_in_utc_wherever_we_are(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    written = instant(datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1))))
    monkeypatch.undo()
    time.tzset()

    assert written == "2026-03-01T12:00:00Z"


def test_a_window_opens_with_a_whole_second() -> None:
    assert first_second(NOON) == NOON
    assert first_second(NOON + timedelta(microseconds=1)) == NOON + timedelta(seconds=1)


@pytest.mark.parametrize(("pattern", "expected"), [("a*", True), ("a?b", True), ("a", False), ("X", False)])
def test_stars_and_question_marks_are_wildcards(pattern: str, expected: bool) -> None:
    assert has_wildcard(pattern) == expected
