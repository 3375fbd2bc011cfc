"""arq's jobs: each unpacks its context and makes the loop of one kind look at what is due."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

Ring = Callable[[Sequence[UUID]], None]
"""Told that something may be due: for these ids, or anywhere when there are none."""


async def look(ctx: dict[str, Any], kind: str, ids: Sequence[str] = ()) -> None:
    """The doorbell rang for this kind of due row."""
    rings: dict[str, list[Ring]] = ctx["bells"]
    named = [UUID(each) for each in ids]
    for ring in rings.get(kind, []):
        ring(named)
