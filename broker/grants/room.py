"""Whether there is room for a grant on its identity, and for how many, said before anybody agrees to it."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.db import Database
from broker.errors import Conflict
from broker.grants.demands import check_terms
from broker.grants.lifecycle import Party
from broker.grants.moves import database_time
from broker.grants.views import TERMS_EXAMPLE
from broker.identities import room as identities
from broker.identities.service import find
from broker.policies.compile import MAX_DOCUMENT_BYTES
from broker.policies.pack import KEPT_FREE, Ground, Piece, how_many, place, room, settled, size_of, slot_for, stays
from broker.policies.plan import MAX_POLICIES
from broker.policies.terms import Terms

MOST_NAMED = 5  # of the grants that take the room


class Fitting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Terms of a grant that might be agreed to."""

    terms: Annotated[Terms, Meta(examples=[TERMS_EXAMPLE])]


class Fits(msgspec.Struct, frozen=True):
    """How many more grants of these terms the identity takes, each of `bytes` bytes.

    `largest`: how many bytes one more grant may have. Both are null where you apply policies by hand.
    """

    grants: Annotated[int | None, Meta(examples=[198])]
    bytes: Annotated[int, Meta(examples=[339])]
    largest: Annotated[int | None, Meta(examples=[4054])]


async def fits(db: Database, caller: Caller, identity_id: UUID, wanted: Fitting) -> Fits:
    """How many grants of these terms would find a slot, one after the other.

    `NotFound` where the identity is not the caller's, `Invalid` where nobody could agree to the terms.
    """
    async with db.read(caller) as session:
        identity = await find(session, caller, identity_id)
        check_terms(wanted.terms, identity.arn, await database_time(session))
        ground = await identities.ground(session, identity.id)
    size = size_of(wanted.terms, identity_arn=identity.arn)
    if ground is None:
        return Fits(None, size, None)
    housed = _all_housed(ground, but=None)
    return Fits(how_many(size, housed), size, room(housed, identity_arn=identity.arn).largest)


async def find_slot(
    session: AsyncSession, identity_id: UUID, arn: str, *, grant_id: UUID | None, terms: Terms, party: Party
) -> int | None:
    """The slot for a grant of these terms: the one that it has if it fits there. None where policies are made by hand.

    Raises `Conflict`, saying how much room is left, where nothing else on the identity takes it. The owner is also told
    which grants take the room.
    """
    ground = await identities.ground(session, identity_id)
    if ground is None:
        return None
    size = size_of(terms, identity_arn=arn)
    mine = next((piece for piece in ground.pieces if piece.id == grant_id), None)
    if mine is not None and stays(Piece(mine.id, size, mine.slot), ground):
        return mine.slot
    others = _all_housed(ground, but=grant_id)
    slot = slot_for(size, others)
    if slot is None:
        raise Conflict(_refusal(size, others, arn, party))
    return slot


def _all_housed(ground: Ground, *, but: UUID | None) -> Ground:
    """The ground without this grant, and with a slot for those that wait for one."""
    pieces = [piece for piece in ground.pieces if piece.id != but]
    ground = Ground(tuple(pieces), ground.foreign, ground.highest)
    slots = place(ground)
    for piece in pieces:
        if piece.id in slots:
            ground = settled(ground, Piece(piece.id, piece.size, slots[piece.id]))
    return ground


def _refusal(size: int, ground: Ground, arn: str, party: Party) -> str:
    left = room(ground, identity_arn=arn)
    said = (
        f"There is no room for this grant on the identity: it takes {size} bytes, and at most {left.largest} are left "
        f"in one policy ({left.bytes} in all). SES takes {MAX_POLICIES} policies of {MAX_DOCUMENT_BYTES} bytes on an "
        f"identity; {left.foreign} are not ours and {KEPT_FREE} are kept free for taking access back."
    )
    if party is Party.OWNER:
        most = ", ".join(f"{each.grant_id} ({each.bytes} bytes)" for each in left.taken[:MOST_NAMED])
        said += f" {len(left.taken)} grants take the rest" + (f", most of it {most}." if most else ".")
    return said + " Name fewer principals and addresses, or end a grant or remove a policy."
