"""Blanks events in place, for both their parties, and takes away the deliveries of what is blank."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Blank(msgspec.Struct, frozen=True):
    """An event by its key, and what is left of its data."""

    id: UUID
    at: datetime
    data: dict[str, Any]
    is_gone: bool
    """Nothing of it is worth sending any more: its deliveries are cancelled, too."""


class Done(msgspec.Struct, frozen=True):
    """How many deliveries were cancelled and answers of receivers blanked.

    `lanes`: those that had a delivery of any of the events; whoever holds one may have it in memory.
    `busy`: no event was blanked, since a delivery of one was being finished; try again.
    """

    cancelled: int
    answers: int
    lanes: frozenset[UUID] = frozenset()
    busy: bool = False


_LANES = text("SELECT lanes_with(:ids, :ats)")
# One row; the definer function sees only events of the caller's tenant, and works for both parties.
_CANCEL = text("SELECT busy, cancelled, blanked FROM cancel_deliveries(:ids, :ats)")
_BLANK = text(
    """
    UPDATE events e SET data = CAST(b.data AS jsonb), payload = NULL,
      recipient_hash = CASE WHEN b.gone THEN NULL ELSE e.recipient_hash END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[]), CAST(:datas AS text[]), CAST(:gone AS boolean[]))
      AS b (id, at, data, gone)
    WHERE e.at = b.at AND e.id = b.id
    """
)


async def blank(session: AsyncSession, events: Sequence[Blank]) -> Done:
    """Three round trips for any number.

    What a pump has in its memory already is not touched: see `in_flight`.
    """
    if not events:
        return Done(0, 0)
    every = {"ids": [each.id for each in events], "ats": [each.at for each in events]}
    lanes = frozenset(await session.scalars(_LANES, every))
    gone = [each for each in events if each.is_gone]
    named = {"ids": [each.id for each in gone], "ats": [each.at for each in gone]}
    found = (await session.execute(_CANCEL, named)).one()
    if found.busy:
        return Done(found.cancelled, found.blanked, lanes=lanes, busy=True)
    await session.execute(
        _BLANK,
        {
            **every,
            "datas": [msgspec.json.encode(each.data).decode() for each in events],
            "gone": [each.is_gone for each in events],
        },
    )
    return Done(found.cancelled, found.blanked, lanes=lanes)
