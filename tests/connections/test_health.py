"""The table that turns what a check found into a state."""

from datetime import timedelta

import pytest

from broker.connections.health import CHECK_EVERY, PATIENCE, Finding, Verdict, judge
from broker.connections.models import State


def judged(finding: Finding, *, state: State, verified: bool, attempts: int = 1) -> Verdict:
    return judge(finding, "AWS's words", state=state, was_verified=verified, attempts=attempts)


@pytest.mark.parametrize("state", [State.PENDING, State.VERIFIED, State.DEGRADED, State.LOST])
def test_a_good_role_is_verified_and_looked_at_again(state: State) -> None:
    assert Verdict(State.VERIFIED, None, CHECK_EVERY) == judged(Finding.GOOD, state=state, verified=False)


@pytest.mark.parametrize("finding", [Finding.NOT_ASSUMABLE, Finding.LACKS_RIGHTS])
def test_a_new_role_that_does_not_work_yet_stays_pending_with_the_reason(finding: Finding) -> None:
    verdict = judged(finding, state=State.PENDING, verified=False)

    assert (State.PENDING, True) == (verdict.state, verdict.failed)
    assert verdict.reason is not None
    assert "AWS's words" in verdict.reason


def test_a_new_role_is_tried_for_about_two_minutes() -> None:
    pauses = [
        judged(Finding.NOT_ASSUMABLE, state=State.PENDING, verified=False, attempts=n) for n in range(1, PATIENCE)
    ]

    waited = sum((verdict.again_in or timedelta(0) for verdict in pauses), timedelta(0))
    assert timedelta(seconds=100) < waited < timedelta(seconds=140)


@pytest.mark.parametrize("finding", [Finding.NOT_ASSUMABLE, Finding.LACKS_RIGHTS])
def test_a_new_role_that_never_works_is_given_up_until_its_owner_asks(finding: Finding) -> None:
    verdict = judged(finding, state=State.PENDING, verified=False, attempts=PATIENCE)

    assert (State.LOST, None) == (verdict.state, verdict.again_in)


@pytest.mark.parametrize("finding", [Finding.WITHOUT_EXTERNAL_ID, Finding.ANY_EXTERNAL_ID, Finding.OTHER_ACCOUNT])
def test_a_role_that_others_could_use_through_us_is_refused_at_once(finding: Finding) -> None:
    verdict = judged(finding, state=State.PENDING, verified=False)

    assert (State.LOST, None) == (verdict.state, verdict.again_in)


def test_an_account_of_another_tenant_is_refused_without_saying_whose_it_is() -> None:
    verdict = judged(Finding.BOUND_ELSEWHERE, state=State.PENDING, verified=False)

    assert (State.LOST, None) == (verdict.state, verdict.again_in)
    assert "already bound to another tenant" in (verdict.reason or "")


def test_a_verified_role_degrades_before_it_is_lost() -> None:
    first = judged(Finding.NOT_ASSUMABLE, state=State.VERIFIED, verified=True)
    last = judged(Finding.NOT_ASSUMABLE, state=State.DEGRADED, verified=True, attempts=PATIENCE)

    assert [State.DEGRADED, State.LOST] == [first.state, last.state]
    assert last.again_in == CHECK_EVERY


def test_a_lost_role_does_not_flap_between_lost_and_degraded() -> None:
    assert judged(Finding.NOT_ASSUMABLE, state=State.LOST, verified=True).state is State.LOST


def test_a_verified_role_that_lacks_a_right_stays_degraded() -> None:
    """It can still take policies away."""
    given_up = judged(Finding.LACKS_RIGHTS, state=State.DEGRADED, verified=True, attempts=PATIENCE)
    next_check = judged(Finding.LACKS_RIGHTS, state=State.DEGRADED, verified=True)

    assert [(State.DEGRADED, CHECK_EVERY)] * 2 == [(each.state, each.again_in) for each in (given_up, next_check)]


def test_a_verified_role_that_was_opened_to_others_degrades_and_is_watched() -> None:
    verdict = judged(Finding.WITHOUT_EXTERNAL_ID, state=State.VERIFIED, verified=True)

    assert (State.DEGRADED, CHECK_EVERY) == (verdict.state, verdict.again_in)


@pytest.mark.parametrize("state", [State.PENDING, State.VERIFIED, State.DEGRADED, State.LOST])
def test_aws_being_down_changes_no_state(state: State) -> None:
    verdict = judged(Finding.UNREACHABLE, state=state, verified=state is not State.PENDING)

    assert (state, True) == (verdict.state, verdict.failed)
