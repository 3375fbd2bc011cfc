"""arq's jobs: each unpacks its context and makes the loops of one queue look at what is due."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

Ring = Callable[[Sequence[UUID]], None]
"""Told that something may be due: for these ids, or anywhere when there are none."""


async def look(ctx: dict[str, Any], queue: str, ids: Sequence[str] = ()) -> None:
    """The doorbell rang for this queue."""
    rings: dict[str, list[Ring]] = ctx["bells"]
    named = [UUID(each) for each in ids]
    for ring in rings.get(queue, []):
        ring(named)
