"""Who may start the next attempt: tenants take turns, and none takes more than its part of what is under way.

One event loop sends for everybody, so what is under way for one tenant is what the others wait behind.
"""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar
from uuid import UUID

L = TypeVar("L", bound=Hashable)

MOST = 512
MOST_OF_ONE = 128


class Shares(Generic[L]):
    """Counts what is under way by tenant; lanes that found no room wait here, tenant by tenant."""

    def __init__(self, *, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._count = 0
        self._counts: dict[UUID, int] = {}
        self._waiting: dict[UUID, deque[L]] = {}

    def take(self, tenant_id: UUID) -> bool:
        """Whether one more attempt of this tenant may begin; it counts from now on."""
        mine = self._counts.get(tenant_id, 0)
        if self._count >= self._most or mine >= self._most_of_one:
            return False
        self._count += 1
        self._counts[tenant_id] = mine + 1
        return True

    def give(self, tenant_id: UUID, number: int = 1) -> None:
        """`number` attempts of this tenant no longer count."""
        self._count -= number
        left = self._counts[tenant_id] - number
        if left:
            self._counts[tenant_id] = left
        else:
            del self._counts[tenant_id]

    @property
    def someone_waits(self) -> bool:
        """Whether a lane waits for room."""
        return bool(self._waiting)

    def wait(self, tenant_id: UUID, lane: L) -> None:
        """Queues a lane that found no room."""
        waiting = self._waiting.setdefault(tenant_id, deque())
        if lane not in waiting:
            waiting.append(lane)

    def next(self) -> L | None:
        """The lane whose turn it is, or None: after each lane of a tenant comes the next tenant."""
        for tenant_id in list(self._waiting):
            if self._count >= self._most:
                return None
            if self._counts.get(tenant_id, 0) < self._most_of_one:
                return self._pop(tenant_id)
        return None

    def _pop(self, tenant_id: UUID) -> L:
        waiting = self._waiting.pop(tenant_id)
        lane = waiting.popleft()
        if waiting:
            self._waiting[tenant_id] = waiting  # behind the other tenants
        return lane
