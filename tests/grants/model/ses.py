"""SES as a sync may meet it: throttled, refusing, silent about what it did, late, or the last thing that it sees."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable
from broker.policies.plan import is_ours
from tests.grants.fake_ses import MOST, FakeSes


class Trouble(StrEnum):
    """What becomes of one call."""

    NONE = "none"
    THROTTLED = "throttled"
    LOST = "lost"  # no answer, and nothing was done
    UNHEARD = "unheard"  # no answer, and it was done
    LATE = "late"  # no answer, and it is done later
    HOLLOW = "hollow"  # answered as done, and done later
    DIES_BEFORE = "dies_before"  # the worker ends before SES hears of it
    DIES_AFTER = "dies_after"  # the worker ends before it hears of SES


class UnreliableSes:
    """Identity policies with a list of what becomes of the next calls.

    `denied` are (account, operation) that its owner does not let us do. `late` are writes that are still on their way.
    `meanwhile` is done just before the call of that number. `watch` is called whenever something has changed,
    `heard` with what a read told the broker: by account and identity, and when.
    """

    def __init__(self) -> None:
        self.fake = FakeSes()
        self.denied: set[tuple[str, str]] = set()
        self.late: list[tuple[datetime, Callable[[], None]]] = []
        self.meanwhile: dict[int, Callable[[], Awaitable[object]]] = {}
        self.watch: Callable[[], None] = lambda: None
        self.heard: Callable[[str, Mapping[str, str], datetime], None] = lambda _key, _found, _at: None
        self.died = asyncio.Event()
        self._troubles: list[Trouble] = []
        self._calls = 0
        self._at = datetime.min.replace(tzinfo=UTC)

    def expect(self, *troubles: Trouble, at: datetime) -> None:
        """Begins to count calls, which are made at this time, with this trouble in store."""
        self._troubles, self._calls, self._at = list(troubles), 0, at
        self.died.clear()

    def land(self, until: datetime) -> int:
        """What was asked for by this time and is on its way arrives; how much that is."""
        landing = [deed for at, deed in self.late if at <= until]
        self.late = [(at, deed) for at, deed in self.late if at > until]
        for deed in landing:
            deed()
        return len(landing)

    async def read_policies(self, access: RoleAccess, identity: str) -> dict[str, str]:
        """As the fake."""
        trouble = await self._begin(access, "read")
        found = await self.fake.read_policies(access, identity)
        await self._end(trouble)
        self.heard(f"{access.account_id}/{identity}", found, self._at)
        return found

    async def create_policy(self, access: RoleAccess, identity: str, name: str, document: str) -> None:
        """As the fake."""
        trouble = await self._begin(access, "create")
        held = self.fake.policies[f"{access.account_id}/{identity}"]
        if trouble in {Trouble.LATE, Trouble.HOLLOW}:
            self.late.append((self._at, lambda: _create_late(held, name, document)))
            self._leave(trouble)
            return
        await self.fake.create_policy(access, identity, name, document)
        await self._end(trouble)

    async def delete_policy(self, access: RoleAccess, identity: str, name: str) -> None:
        """As the fake."""
        trouble = await self._begin(access, "delete")
        held = self.fake.policies[f"{access.account_id}/{identity}"]
        if trouble in {Trouble.LATE, Trouble.HOLLOW}:
            meant = held.get(name)
            self.late.append((self._at, lambda: _delete_late(held, name, meant)))
            self._leave(trouble)
            return
        await self.fake.delete_policy(access, identity, name)
        await self._end(trouble)

    async def _begin(self, access: RoleAccess, operation: str) -> Trouble:
        self._calls += 1
        if (deed := self.meanwhile.pop(self._calls, None)) is not None:
            await deed()
        trouble = self._troubles.pop(0) if self._troubles else Trouble.NONE
        if trouble is Trouble.DIES_BEFORE:
            await self._die()
        if (access.account_id, operation) in self.denied:
            raise Refused(f"User is not authorized to perform this {operation}.", code="AccessDenied")
        if trouble is Trouble.THROTTLED:
            raise Unavailable("Maximum sending rate exceeded.")
        if trouble is Trouble.LOST:
            raise Unavailable("SES did not answer in time.")
        return trouble

    async def _end(self, trouble: Trouble) -> None:
        self.watch()
        if trouble is Trouble.DIES_AFTER:
            await self._die()
        if trouble is Trouble.UNHEARD:
            raise Unavailable("SES did not answer in time.")

    def _leave(self, trouble: Trouble) -> None:
        if trouble is Trouble.LATE:
            raise Unavailable("SES did not answer in time.")

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()


def _create_late(held: dict[str, str], name: str, document: str) -> None:
    if len(held) < MOST:
        held.setdefault(name, document)


def _delete_late(held: dict[str, str], name: str, meant: str | None) -> None:
    """SES knows no conditional delete: a foreign policy that somebody wrote anew meanwhile would be lost to anybody."""
    if is_ours(name) or held.get(name) == meant:
        held.pop(name, None)
