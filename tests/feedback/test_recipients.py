"""The state of a recipient, and why one must not be mailed again."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from broker.caller import Caller
from broker.crypto import Keyring
from broker.feedback.recipients import RecipientState, Standing, advance, reason_of, state_of
from broker.policies.terms import FeedbackKind
from tests.feedback import sns
from tests.feedback.conftest import ChangeGrant, World
from tests.feedback.recipients import JANE, fold, grant_hash, reckoned

standings = st.builds(
    Standing, st.sampled_from(RecipientState), st.integers(0, 50).map(lambda n: sns.NOW + timedelta(minutes=n))
)


def folded(seen: list[Standing]) -> Standing | None:
    standing = None
    for each in seen:
        standing = advance(standing, each)
    return standing


@given(seen=st.lists(standings, min_size=1), random=st.randoms())
def test_the_order_of_events_changes_nothing(seen: list[Standing], random: Any) -> None:
    shuffled = [*seen, *seen[:3]]  # nor does repetition
    random.shuffle(shuffled)

    assert folded(seen) == folded(shuffled)


@given(seen=st.lists(standings, min_size=1), more=standings)
def test_a_state_only_moves_forward(seen: list[Standing], more: Standing) -> None:
    order = list(RecipientState)
    before = folded(seen)
    assert before is not None

    assert order.index(before.state) <= order.index(advance(before, more).state)


@pytest.mark.parametrize(
    ("kind", "changes", "state", "reason"),
    [
        (FeedbackKind.send, {}, "sent", None),
        (FeedbackKind.delay, {"final": False}, "sent", None),
        (FeedbackKind.delivery, {}, "delivered", None),
        (FeedbackKind.open, {}, "delivered", None),
        (FeedbackKind.bounce, {"final": False}, "transient_bounce", None),
        (FeedbackKind.bounce, {"final": None}, "transient_bounce", None),
        (FeedbackKind.bounce, {}, "permanent_bounce", "hard_bounce"),
        (FeedbackKind.complaint, {"feedback_type": "abuse"}, "complaint", "complaint"),
        (FeedbackKind.complaint, {"feedback_type": "not-spam"}, None, None),
        (FeedbackKind.reject, {"final": True}, None, None),
        (FeedbackKind.rendering_failure, {"final": True}, None, None),
        (FeedbackKind.subscription, {"opted_out": True}, None, "opt_out"),
        (FeedbackKind.subscription, {"opted_out": None}, None, None),
    ],
)
async def test_what_each_event_says(
    world: World, keyring: Keyring, kind: FeedbackKind, changes: dict[str, Any], state: str | None, reason: str | None
) -> None:
    event = reckoned(world, keyring, kind, **changes)

    assert (state, reason) == (state_of(event), reason_of(event))


async def rows(world: World, caller: Caller, table: str) -> list[Any]:
    async with world.db.read(caller) as session:
        return list(await session.execute(text(f"SELECT * FROM {table} ORDER BY id")))


async def test_batches_add_up_to_one_row_for_each_recipient(world: World, keyring: Keyring) -> None:
    later = sns.NOW + timedelta(hours=1)
    await fold(
        world,
        keyring,
        [
            reckoned(world, keyring, FeedbackKind.complaint, occurred_at=later),
            reckoned(world, keyring, FeedbackKind.send, recipient=" Jane@Example.org"),
        ],
    )
    await fold(world, keyring, [reckoned(world, keyring), reckoned(world, keyring, FeedbackKind.delivery)])

    (row,) = await rows(world, world.owner, "recipients")
    assert ("complaint", later, later) == (row.state, row.state_at, row.last_at)
    assert (1, 1, 1, 1) == (row.sends, row.deliveries, row.bounces, row.complaints)


async def test_only_the_two_parties_see_a_row(world: World, keyring: Keyring) -> None:
    await fold(world, keyring, [reckoned(world, keyring)])

    for table in ("recipients", "suppressions"):
        counts = [len(await rows(world, each, table)) for each in (world.owner, world.delegate, world.second)]
        assert [1, 1, 0] == counts


async def test_a_suppression_outlasts_the_grant_that_it_came_under(world: World, keyring: Keyring) -> None:
    """One row for the pair; the last event tells which grant's terms are to be kept."""
    await fold(world, keyring, [reckoned(world, keyring)])
    later = sns.NOW + timedelta(days=1)
    # Any other grant will do for one of the same two parties.
    await fold(world, keyring, [reckoned(world, keyring, occurred_at=later, grant_id=world.second_grant_id)])
    await fold(world, keyring, [reckoned(world, keyring, occurred_at=sns.NOW - timedelta(days=1))])

    (row,) = await rows(world, world.owner, "suppressions")
    assert (world.second_grant_id, later, sns.NOW - timedelta(days=1)) == (row.grant_id, row.last_at, row.since)
    assert grant_hash(keyring, world.second_grant_id, JANE) == row.grant_hash
    assert ("hashed", "full") == (row.owner_view, row.delegate_view)
    assert JANE == keyring.open(row.address).decode()


async def test_an_address_that_no_party_may_see_is_not_kept(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    await change_grant(feedback={"owner_view": "hashed", "delegate_events": []})

    await fold(world, keyring, [reckoned(world, keyring)])

    (row,) = await rows(world, world.owner, "suppressions")
    assert ("hashed", None, None) == (row.owner_view, row.delegate_view, row.address)


async def test_an_opt_out_is_taken_back_by_a_later_word(world: World, keyring: Keyring) -> None:
    out = reckoned(world, keyring, FeedbackKind.subscription, opted_out=True)
    back = reckoned(
        world, keyring, FeedbackKind.subscription, opted_out=False, occurred_at=sns.NOW + timedelta(minutes=1)
    )

    await fold(world, keyring, [back])
    await fold(world, keyring, [out])

    (row,) = await rows(world, world.owner, "suppressions")
    assert ("opt_out", False) == (row.reason, row.active)


async def test_a_guessed_complaint_is_marked_until_a_sure_one_comes(world: World, keyring: Keyring) -> None:
    await fold(world, keyring, [reckoned(world, keyring, FeedbackKind.complaint, recipients=3)])
    (guessed,) = await rows(world, world.owner, "suppressions")
    await fold(world, keyring, [reckoned(world, keyring, FeedbackKind.complaint)])

    (sure,) = await rows(world, world.owner, "suppressions")
    assert (True, False) == (guessed.guessed, sure.guessed)


async def test_the_owners_own_mail_is_the_owners_alone(world: World, keyring: Keyring) -> None:
    await fold(world, keyring, [reckoned(world, keyring, grant_id=None, delegate_id=None)])

    (row,) = await rows(world, world.owner, "suppressions")
    assert (world.owner.tenant, "full", None) == (row.delegate_id, row.owner_view, row.delegate_view)
    assert [] == await rows(world, world.delegate, "suppressions")


async def test_events_without_a_recipient_say_nothing(world: World, keyring: Keyring) -> None:
    await fold(world, keyring, [reckoned(world, keyring, recipient=None), reckoned(world, keyring, recipient="")])

    assert [] == await rows(world, world.owner, "recipients")
