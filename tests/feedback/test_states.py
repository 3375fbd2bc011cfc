"""What a route shows, and what of it is told."""

from datetime import datetime, timedelta

import pytest

from broker.feedback.states import Heard, degrades, shown
from broker.feedback.views import RouteState
from tests.feedback.sns import NOW

WEEK = timedelta(days=7)
LONG_AGO = NOW - timedelta(days=20)
LATELY = NOW - timedelta(days=1)


@pytest.mark.parametrize(
    ("since", "last", "elsewhere", "expected"),
    [
        (LATELY, None, None, "configured"),
        (LONG_AGO, None, None, "quiet"),
        (LONG_AGO, None, LATELY, "quiet"),
        (LONG_AGO, LATELY, None, "live"),
        # Nothing tells that the delegate still sends.
        (LONG_AGO, LONG_AGO, None, "live"),
        (LONG_AGO, LONG_AGO, LONG_AGO, "live"),
        (LONG_AGO, LONG_AGO, LATELY, "quiet"),
        (LONG_AGO, LATELY, NOW, "live"),
    ],
)
def test_silence_is_judged_by_what_was_to_be_expected(
    since: datetime, last: datetime | None, elsewhere: datetime | None, expected: str
) -> None:
    state, reason = shown(
        RouteState.configured, Heard(since=since, last=last, elsewhere=elsewhere), now=NOW, quiet_after=WEEK
    )

    assert expected == state
    assert (expected == "quiet") == (reason is not None)


@pytest.mark.parametrize("state", [state for state in RouteState if state is not RouteState.configured])
def test_what_does_not_work_is_shown_as_it_was_found(state: RouteState) -> None:
    heard = Heard(since=LONG_AGO, last=LATELY, elsewhere=None)

    assert (state, None) == shown(state, heard, now=NOW, quiet_after=WEEK)


WORSE = {
    *(("broken", before) for before in ("configured", "live", "quiet", "pending")),
    *(("pending", before) for before in ("configured", "live", "quiet")),
}


@pytest.mark.parametrize("after", list(RouteState))
def test_only_what_worked_can_get_worse(after: RouteState) -> None:
    for before in RouteState:
        assert ((after.value, before.value) in WORSE) == degrades(before, after, was_set=True)
        assert not (degrades(RouteState.pending, after, was_set=False))
