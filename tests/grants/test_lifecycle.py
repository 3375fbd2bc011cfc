"""The table of who may do what, walked whole, and the state as a function of paper, effect and clock."""

from datetime import UTC, datetime, timedelta
from itertools import product

import msgspec
import pytest

from broker.grants.lifecycle import (
    Effect,
    Paper,
    Party,
    Standing,
    State,
    Verb,
    flags_of,
    refusal,
    state_of,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def standing(paper: Paper, *, open_by: Party | None = None, effect: Effect = Effect.NONE) -> Standing:
    """A grant on this paper; `open_by` made the latest offer and it is still open."""
    return Standing(
        paper=paper,
        effect=effect,
        expires_at=NOW + HOUR,
        offer_open=open_by is not None,
        offer_by=open_by or Party.OWNER,
        offer_lapses_at=NOW + HOUR,
    )


# (verb, party) → (papers, who must have made the open offer: other / me / none / any), said a second time in full.
DECIDED_BY_OTHER = {
    (verb, party, paper, party.other)
    for verb, party, paper in product(
        (Verb.APPROVE, Verb.COUNTER, Verb.DECLINE), Party, (Paper.OPEN, Paper.AGREED, Paper.PAUSED)
    )
}
WITHDRAWN_BY_MAKER = {
    (Verb.WITHDRAW, party, paper, party) for party, paper in product(Party, (Paper.OPEN, Paper.AGREED, Paper.PAUSED))
}
AMENDED = {(Verb.AMEND, party, paper, None) for party, paper in product(Party, (Paper.AGREED, Paper.PAUSED))}
ENDED = {
    (verb, party, paper, maker)
    for (verb, party), paper, maker in product(
        ((Verb.REVOKE, Party.OWNER), (Verb.RELINQUISH, Party.DELEGATE)),
        (Paper.AGREED, Paper.PAUSED),
        (None, *Party),
    )
}
SUSPENDED = {(Verb.SUSPEND, Party.OWNER, Paper.AGREED, maker) for maker in (None, *Party)}
RESUMED = {(Verb.RESUME, Party.OWNER, Paper.PAUSED, maker) for maker in (None, *Party)}
CONFIRMED = {
    (Verb.CONFIRM, Party.OWNER, paper, maker)
    for paper, maker in product(
        (Paper.AGREED, Paper.PAUSED, Paper.REVOKED, Paper.RELINQUISHED, Paper.EXPIRED), (None, *Party)
    )
}
ALLOWED = DECIDED_BY_OTHER | WITHDRAWN_BY_MAKER | AMENDED | ENDED | SUSPENDED | RESUMED | CONFIRMED


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.RESTORE])
@pytest.mark.parametrize("party", Party)
@pytest.mark.parametrize("paper", Paper)
@pytest.mark.parametrize("open_by", [None, *Party])
def test_every_cell_of_the_table(verb: Verb, party: Party, paper: Paper, open_by: Party | None) -> None:
    """Each verb, party, paper and open offer: allowed exactly where it should be."""
    why_not = refusal(verb, party, standing(paper, open_by=open_by), NOW)

    assert ((verb, party, paper, open_by) in ALLOWED) == (why_not is None)


def test_only_the_owner_of_a_drifted_grant_can_restore_it() -> None:
    """The owner chooses; we never give back on our own what somebody took away."""
    agreed = standing(Paper.AGREED, effect=Effect.APPLIED)
    drifted = Standing(paper=Paper.AGREED, effect=Effect.APPLIED, expires_at=NOW + HOUR, drifted=True)

    assert refusal(Verb.RESTORE, Party.OWNER, drifted, NOW) is None
    assert refusal(Verb.RESTORE, Party.OWNER, agreed, NOW) is not None
    assert refusal(Verb.RESTORE, Party.DELEGATE, drifted, NOW) is not None


def test_a_lapsed_offer_cannot_be_approved_even_before_a_worker_wrote_it_down() -> None:
    """The clock decides, not the worker."""
    lapsed = Standing(paper=Paper.OPEN, effect=Effect.NONE, offer_open=True, offer_by=Party.OWNER, offer_lapses_at=NOW)

    assert State.LAPSED is state_of(lapsed, NOW)
    assert refusal(Verb.APPROVE, Party.DELEGATE, lapsed, NOW) is not None


def test_an_expired_grant_cannot_be_revoked_or_amended() -> None:
    """It has ended already."""
    over = Standing(paper=Paper.AGREED, effect=Effect.APPLIED, expires_at=NOW)

    assert refusal(Verb.REVOKE, Party.OWNER, over, NOW) is not None
    assert refusal(Verb.AMEND, Party.DELEGATE, over, NOW) is not None


def test_a_suspended_grant_whose_end_has_come_cannot_be_resumed() -> None:
    """Nobody has to have written it down."""
    over = Standing(paper=Paper.PAUSED, effect=Effect.REMOVED, expires_at=NOW)

    assert "A grant that is ending cannot be resumed." == refusal(
        Verb.RESUME, Party.OWNER, msgspec.structs.replace(over, effect=Effect.REMOVING), NOW
    )
    assert refusal(Verb.RESUME, Party.OWNER, over, NOW) is not None


def test_a_suspension_that_ses_refuses_says_so() -> None:
    """Somebody has to look at it."""
    stuck = Standing(paper=Paper.PAUSED, effect=Effect.REMOVING, stuck_at=NOW, expires_at=NOW + HOUR)

    assert ("suspension_stuck",) == flags_of(stuck, NOW)


@pytest.mark.parametrize(
    ("paper", "effect", "expected"),
    [
        (Paper.OPEN, Effect.NONE, State.PROPOSED),
        (Paper.DECLINED, Effect.NONE, State.DECLINED),
        (Paper.WITHDRAWN, Effect.NONE, State.WITHDRAWN),
        (Paper.LAPSED, Effect.NONE, State.LAPSED),
        (Paper.AGREED, Effect.NONE, State.ACTIVATING),
        (Paper.AGREED, Effect.APPLYING, State.ACTIVATING),
        (Paper.AGREED, Effect.APPLIED, State.ACTIVE),
        (Paper.AGREED, Effect.FAILED, State.ACTIVATION_FAILED),
        (Paper.PAUSED, Effect.REMOVING, State.SUSPENDING),
        (Paper.PAUSED, Effect.REMOVED, State.SUSPENDED),
        (Paper.REVOKED, Effect.REMOVING, State.REVOKING),
        (Paper.REVOKED, Effect.REMOVED, State.REVOKED),
        (Paper.RELINQUISHED, Effect.REMOVING, State.RELINQUISHING),
        (Paper.RELINQUISHED, Effect.REMOVED, State.RELINQUISHED),
        (Paper.EXPIRED, Effect.REMOVING, State.ENDING),
        (Paper.EXPIRED, Effect.REMOVED, State.EXPIRED),
    ],
)
def test_the_state_follows_from_paper_and_effect(paper: Paper, effect: Effect, expected: State) -> None:
    """One state for people."""
    assert expected is state_of(standing(paper, open_by=Party.OWNER, effect=effect), NOW)


def test_a_grant_whose_window_has_not_begun_is_scheduled() -> None:
    """Agreed, but nothing is in SES yet."""
    later = Standing(paper=Paper.AGREED, effect=Effect.NONE, not_before=NOW + HOUR, expires_at=NOW + 2 * HOUR)

    assert State.SCHEDULED is state_of(later, NOW)
    assert State.ACTIVATING is state_of(later, NOW + HOUR)
    assert State.ENDING is state_of(later, NOW + 2 * HOUR)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, ()), (9, ()), (10, ("revocation_overdue",)), (60, ("revocation_stuck",))]
)
def test_a_slow_revocation_says_so(seconds: int, expected: tuple[str, ...]) -> None:
    """Overdue at 10 s, stuck at 60 s."""
    revoking = Standing(paper=Paper.REVOKED, effect=Effect.REMOVING, ended_at=NOW, expires_at=NOW + HOUR)

    assert expected == flags_of(revoking, NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [0, 10, 60, 6_000])
@pytest.mark.parametrize("paper", [Paper.REVOKED, Paper.PAUSED, Paper.RELINQUISHED, Paper.EXPIRED])
def test_an_owner_that_works_by_hand_is_awaited_and_nobody_else_is_blamed(paper: Paper, seconds: int) -> None:
    """However long it takes: nobody but the owner can remove the policy there."""
    removing = Standing(paper, Effect.REMOVING, expires_at=NOW + 9_999 * HOUR, ended_at=NOW, by_hand=True)
    removed = Standing(paper, Effect.REMOVED, expires_at=NOW + 9_999 * HOUR, ended_at=NOW, by_hand=True)
    later = NOW + timedelta(seconds=seconds)

    assert ("awaiting_owner",) == flags_of(removing, later)
    assert () == flags_of(removed, later)
