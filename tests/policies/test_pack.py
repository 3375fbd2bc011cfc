"""Grants find room in few small policies, stay where they are, and what is said to be left is left."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from broker.policies.compile import MAX_DOCUMENT_BYTES, document, statements
from broker.policies.pack import (
    EMPTY,
    KEPT_FREE,
    Ground,
    Piece,
    how_many,
    place,
    room,
    settled,
    size_of,
    slot_for,
    stays,
)
from broker.policies.plan import MAX_POLICIES
from broker.policies.terms import Action
from tests.policies.examples import IDENTITY, terms

SMALL = terms(from_addresses=("newsletter@example.com",))
MOST = MAX_POLICIES - KEPT_FREE

sizes = st.integers(200, 1_500) | st.integers(200, MAX_DOCUMENT_BYTES - EMPTY)


def grown(sizes: Sequence[int], *, foreign: int = 0) -> Ground:
    """Grants of these sizes come one after the other, as long as there is room."""
    ground = Ground((), foreign, 0)
    for number, size in enumerate(sizes, 1):
        slot = slot_for(size, ground)
        if slot is not None:
            ground = settled(ground, Piece(UUID(int=number), size, slot))
    return ground


def lengths(ground: Ground) -> dict[int, int]:
    """Bytes of each document, as it would be written."""
    found: dict[int, list[int]] = {}
    for piece in ground.pieces:
        found.setdefault(piece.slot or 0, []).append(piece.size)
    return {slot: EMPTY + sum(its) + len(its) - 1 for slot, its in found.items()}


def test_a_hundred_and_forty_small_grants_have_room_and_eleven_share_a_policy() -> None:
    size = size_of(SMALL, identity_arn=IDENTITY)
    ground = grown([size] * 140)

    assert 140 == len(ground.pieces)
    assert MOST == len(lengths(ground))
    assert 11 == (MAX_DOCUMENT_BYTES - EMPTY + 1) // (size + 1)
    assert 11 * MOST - 140 == room(ground, identity_arn=IDENTITY).small_grants


def test_a_size_is_what_a_grant_adds_to_a_document() -> None:
    ids = [UUID(int=number) for number in range(11)]
    bulk = terms(actions=(Action.send, Action.send_bulk), from_addresses=("a@example.com",))
    for agreed in (SMALL, bulk):
        written = [each for grant in ids for each in statements(agreed, grant_id=grant, identity_arn=IDENTITY)]

        assert len(document(written)) == EMPTY + 11 * (size_of(agreed, identity_arn=IDENTITY) + 1) - 1


def test_a_grant_has_a_policy_of_its_own_while_there_is_room() -> None:
    slots = [piece.slot for piece in grown([300] * (MOST + 1), foreign=2).pieces]

    assert list(range(1, MOST - 1)) == slots[: MOST - 2]
    assert set(slots[MOST - 2 :]) == {1}


@given(st.lists(sizes, max_size=120), st.integers(0, 25))
def test_no_document_is_too_large_and_the_places_kept_free_stay_free(sizes: list[int], foreign: int) -> None:
    held = lengths(grown(sizes, foreign=foreign))

    assert all(length <= MAX_DOCUMENT_BYTES for length in held.values())
    assert len(held) <= max(0, MOST - foreign)


@given(st.lists(sizes, max_size=60), st.integers(0, 25), sizes)
def test_the_room_that_is_told_is_exact(sizes: list[int], foreign: int, size: int) -> None:
    """As many as are said to fit do fit, and the next one does not."""
    ground = grown(sizes, foreign=foreign)
    expected = how_many(size, ground)
    largest = room(ground, identity_arn=IDENTITY).largest

    fitted = 0
    assert (slot_for(size, ground) is None) == (size > largest)
    while (slot := slot_for(size, ground)) is not None:
        fitted += 1
        ground = settled(ground, Piece(UUID(int=10_000 + fitted), size, slot))
    assert expected == fitted


@given(st.lists(sizes, max_size=60), st.integers(0, 25), sizes, st.data())
def test_nobody_moves_for_another(sizes: list[int], foreign: int, size: int, data: st.DataObject) -> None:
    """Neither for one that comes nor for one that ends."""
    ground = grown(sizes, foreign=foreign)
    before = {piece.id: piece.slot for piece in ground.pieces}
    ended = data.draw(st.sampled_from([piece.id for piece in ground.pieces] or [UUID(int=0)]))
    rest = Ground(tuple(each for each in ground.pieces if each.id != ended), foreign, ground.highest)

    after = settled(rest, Piece(UUID(int=9_999), size, None))

    assert {UUID(int=9_999)} == set(place(after))
    assert before == {piece.id: piece.slot for piece in after.pieces if piece.slot is not None} | {
        grant: slot for grant, slot in before.items() if grant == ended
    }


def test_a_grant_stays_where_it_fits_and_leaves_where_it_has_become_too_large() -> None:
    ground = grown([1_300] * 3, foreign=MOST - 1)

    assert {1} == {piece.slot for piece in ground.pieces}
    assert stays(Piece(UUID(int=2), 1_400, 1), ground)
    assert not stays(Piece(UUID(int=2), 1_500, 1), ground)
    assert slot_for(1_500, ground) is None


def test_a_number_is_never_given_to_a_slot_again() -> None:
    """A late write of an old name must not be taken for somebody else's policy."""
    assert 8 == slot_for(300, Ground((), 0, 7))
