"""Decides which policy of an identity holds which grant, and how much room is left. SES takes few policies, all small.

A grant gets a policy of its own while there is room for one, and shares one when there is none. Where it is, it stays:
neither a new grant nor one that ends moves any other.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from broker.policies.compile import MAX_DOCUMENT_BYTES, document, statements
from broker.policies.plan import MAX_POLICIES
from broker.policies.terms import Action, Terms

KEPT_FREE = 2  # one place for a Deny document, one for the new version beside the old
EMPTY = len(document([]))  # bytes of a document without statements
ANY_GRANT = UUID(int=0)  # all ids are equally long


class Piece(msgspec.Struct, frozen=True):
    """One grant as far as room is concerned: bytes of its statements, and the slot that it has, if any."""

    id: UUID
    size: int
    slot: int | None


class Ground(msgspec.Struct, frozen=True):
    """An identity as far as room is concerned: its grants, how many policies are not ours, the highest slot ever."""

    pieces: tuple[Piece, ...]
    foreign: int
    highest: int


class Taken(msgspec.Struct, frozen=True):
    """What one grant takes: bytes of the policy in which it is, whose number is `slot`."""

    grant_id: UUID
    bytes: int
    slot: int | None


class Room(msgspec.Struct, frozen=True):
    """What is left on an identity. Room for taking access back, and for replacing a policy, is not counted.

    `policies`: how many more of ours there may be. `bytes`: what fits into those and into the ones there are, and
    `largest` how large one grant may be. `small_grants`: how many more fit that have one account, two actions and one
    From address. `taken`: what each grant takes, largest first; `foreign` is how many policies are not ours.
    """

    policies: int
    bytes: int
    largest: int
    small_grants: int
    foreign: int
    taken: tuple[Taken, ...]


def size_of(terms: Terms, *, identity_arn: str) -> int:
    """The bytes that a grant of these terms takes in a document."""
    return len(document(statements(terms, grant_id=ANY_GRANT, identity_arn=identity_arn)).encode()) - EMPTY


def slot_for(size: int, ground: Ground) -> int | None:
    """The slot for one more grant: a new one while there is a place, else the fullest that still takes it, or None."""
    free = _free(ground)
    if _policies_left(ground) and size <= MAX_DOCUMENT_BYTES - EMPTY:
        return ground.highest + 1
    # The fullest, so that the others keep room for something large.
    return min((slot for slot in free if size + 1 <= free[slot]), key=lambda slot: (free[slot], slot), default=None)


def place(ground: Ground) -> Mapping[UUID, int | None]:
    """A slot for every grant that has none, in the order in which they come; None where there is no room for it."""
    found: dict[UUID, int | None] = {}
    for piece in ground.pieces:
        if piece.slot is None:
            found[piece.id] = slot = slot_for(piece.size, ground)
            ground = settled(ground, msgspec.structs.replace(piece, slot=slot))
    return found


def settled(ground: Ground, piece: Piece) -> Ground:
    """The same ground with this grant as it is now."""
    others = tuple(each for each in ground.pieces if each.id != piece.id)
    highest = max(ground.highest, piece.slot or 0)
    return msgspec.structs.replace(ground, pieces=(*others, piece), highest=highest)


def stays(piece: Piece, ground: Ground) -> bool:
    """Whether a grant that has become this large still fits where it is."""
    free = _free(settled(ground, piece))
    return piece.slot is not None and free[piece.slot] >= 0


def how_many(size: int, ground: Ground) -> int:
    """How many more grants of this size there is room for."""
    new = (MAX_DOCUMENT_BYTES - EMPTY + 1) // (size + 1)
    return _policies_left(ground) * new + sum(max(0, left) // (size + 1) for left in _free(ground).values())


def room(ground: Ground, *, identity_arn: str) -> Room:
    """What is left on an identity."""
    policies, left = _policies_left(ground), [max(0, free - 1) for free in _free(ground).values()]
    new = [MAX_DOCUMENT_BYTES - EMPTY] * policies
    return Room(
        policies=policies,
        bytes=sum(left) + sum(new),
        largest=max([*left, *new], default=0),
        small_grants=how_many(size_of(_small(identity_arn), identity_arn=identity_arn), ground),
        foreign=ground.foreign,
        taken=tuple(
            Taken(piece.id, piece.size, piece.slot)
            for piece in sorted(ground.pieces, key=lambda piece: (-piece.size, piece.id))
        ),
    )


def _small(identity_arn: str) -> Terms:
    name = identity_arn.rpartition(":identity/")[2]
    return Terms(
        principals=("0" * 12,),
        actions=(Action.send, Action.send_raw),
        from_addresses=(name if "@" in name else f"newsletter@{name}",),
        expires_at=datetime.fromtimestamp(0, UTC),
    )


def _free(ground: Ground) -> dict[int, int]:
    """Bytes left in each slot that is in use; one more grant takes its size and a comma."""
    shares: dict[int, list[int]] = {}
    for piece in ground.pieces:
        if piece.slot is not None:
            shares.setdefault(piece.slot, []).append(piece.size)
    return {slot: MAX_DOCUMENT_BYTES - _length(sizes) for slot, sizes in shares.items()}


def _length(sizes: Sequence[int]) -> int:
    return EMPTY + sum(sizes) + len(sizes) - 1


def _policies_left(ground: Ground) -> int:
    return max(0, MAX_POLICIES - KEPT_FREE - ground.foreign - len(_slots(ground.pieces)))


def _slots(pieces: Iterable[Piece]) -> set[int]:
    return {piece.slot for piece in pieces if piece.slot is not None}
