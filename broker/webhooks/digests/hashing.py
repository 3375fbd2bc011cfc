"""Counting and hashing the ids of a day, piece by piece: a day may hold more ids than fit into memory."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from broker.webhooks.digests.views import TypeDigest


class Tally:
    """Count and SHA-256 of ids, fed in their order: lower-case canonical text, each followed by a line feed."""

    def __init__(self) -> None:
        self._count = 0
        self._hash = hashlib.sha256()

    def add(self, lines: str, *, count: int) -> None:
        """Some ids, after all those before."""
        self._count += count
        self._hash.update(lines.encode())

    def told(self) -> TypeDigest:
        """So far."""
        return TypeDigest(count=self._count, sha256=self._hash.hexdigest())


class DayTally:
    """The ids of a day, by type and all together."""

    def __init__(self) -> None:
        self._all = Tally()
        self._types: dict[str, Tally] = {}

    def add(self, type_: str | None, lines: str, *, count: int) -> None:
        """Some ids of a type, or of all types together (None): each sequence in its own order."""
        tally = self._all if type_ is None else self._types.setdefault(type_, Tally())
        tally.add(lines, count=count)

    def all(self) -> TypeDigest:
        """All types together."""
        return self._all.told()

    def types(self) -> Mapping[str, TypeDigest]:
        """Those that occurred, by name."""
        return {name: self._types[name].told() for name in sorted(self._types)}


def start_of(day: date) -> datetime:
    """Midnight in UTC, with which the day begins."""
    return datetime.combine(day, time(), tzinfo=UTC)


def ids_of(day: date) -> tuple[UUID, UUID]:
    """The lowest id of a day, and that of the next: a UUIDv7 begins with 48 bits of milliseconds (RFC 9562, 5.7)."""
    first, end = (int(start_of(each).timestamp()) * 1000 << 80 for each in (day, day + timedelta(days=1)))
    return UUID(int=first), UUID(int=end)
