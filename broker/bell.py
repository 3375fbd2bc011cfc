"""The doorbell: tells workers to look now. Losing a ring costs latency, never work."""

from collections.abc import Iterable
from typing import Protocol
from uuid import UUID


class Bell(Protocol):
    """Rung after a commit with the kind of due row (its table) and the ids that were woken. Never raises."""

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None: ...


class SilentBell:
    """Rings nowhere: the sweep does the work."""

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None:
        return None


class Bells:
    """Several bells behind one."""

    def __init__(self, *bells: Bell) -> None:
        self._bells = bells

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None:
        rung = list(ids)
        for bell in self._bells:
            await bell.ring(kind, rung)
