"""Looks up the keys that come from where keys are guessed: all of them together, a few times a second.

An owner may share an address with somebody who guesses, and must still be able to revoke with a key that this process
has not seen yet. Which key is right, only the database knows; so whoever is refused unasked may be that owner, and any
reserve of single look-ups is used up by the one who asks most. Hence none is refused unasked: each waits for the next
look-up, which is one statement for all who wait, of all addresses.

- The database: `1 / EVERY` statements a second in each process, with at most `PLACES` keys each (1 ms), one at a time,
  whatever comes. Where more wait, each address gets as many places as the others, and chance decides between its keys,
  so that it helps nobody to be early, or to ask for the same one often. Who had no place waits for the next look-up.
- Guessing: it is slowed from hundreds of keys a second on one connection to one every `EVERY`, and to `PLACES / EVERY`
  on any number of them. That is no defence of the keys, which have 256 random bits; it is one of the database.
- No oracle: a wrong key is answered as one that never had a place, with 429, and when depends on chance alone: all keys
  wait for one statement, which compares digests under a secret pepper. A right key is let in, as everywhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain, islice, zip_longest
from secrets import SystemRandom
from typing import TypeVar

from sqlalchemy import LargeBinary, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from broker.caller import NOBODY, Caller, Scope
from broker.db import Database
from broker.tenants.guesses import network

EVERY = 0.1  # seconds
PLACES = 128  # keys in one look-up
LOOKS = 5  # for which one waits at most; who guesses waits as long, so that more get their turn

T = TypeVar("T")
Find = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, Caller]]]

_CHANCE = SystemRandom()
_FIND = text(
    "SELECT digest, key_id, tenant_id, scopes FROM unnest(:digests) AS asked(digest), LATERAL authenticate(digest)"
).bindparams(bindparam("digests", type_=ARRAY(LargeBinary)))


class Together:
    """Who waits for the next look-up, by address. One for all routes of a process."""

    def __init__(self, find: Find) -> None:
        """`find`: the callers of those digests that are of valid keys."""
        self._find = find
        self._one_at_a_time = asyncio.Lock()
        self._waiting: dict[str, set[bytes]] = {}
        self._next: asyncio.Task[Mapping[bytes, Caller | None]] | None = None

    async def caller_of(self, client: str, digest: bytes) -> Caller | None:
        """After `EVERY` and a look-up, `LOOKS` times at most; None for a wrong key, and for one that had no place."""
        host = network(client)
        for _ in range(LOOKS):
            looked_up = await self._join(host, digest)
            if digest in looked_up:
                return looked_up[digest]
        return None

    async def _join(self, host: str, digest: bytes) -> Mapping[bytes, Caller | None]:
        self._waiting.setdefault(host, set()).add(digest)
        if self._next is None:
            self._next = asyncio.create_task(self._look_up())
        return await asyncio.shield(self._next)  # others wait for it, too

    async def _look_up(self) -> Mapping[bytes, Caller | None]:
        """Those that had a place, right or wrong."""
        await asyncio.sleep(EVERY)
        async with self._one_at_a_time:
            waiting, self._waiting, self._next = self._waiting, {}, None
            asked = placed(waiting.values())
            found = await self._find(asked)
            return {digest: found.get(digest) for digest in asked}


def placed(waiting: Iterable[Iterable[bytes]]) -> list[bytes]:
    """Those with a place: in turn one of each address. Sorted, since a look-up locks the rows of right keys."""
    shuffled = [_shuffled(each) for each in _shuffled(waiting)]
    turns = (digest for digest in chain.from_iterable(zip_longest(*shuffled)) if digest is not None)
    return sorted(islice(dict.fromkeys(turns), PLACES))


def _shuffled(values: Iterable[T]) -> list[T]:
    mixed = list(values)
    _CHANCE.shuffle(mixed)
    return mixed


async def find(db: Database, digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
    """The callers of those digests that are of valid keys, in one round trip."""
    async with db.begin(NOBODY) as session:
        rows = (await session.execute(_FIND, {"digests": list(digests)})).all()
    return {
        bytes(row.digest): Caller(
            tenant_id=row.tenant_id, key_id=row.key_id, scopes=frozenset(Scope(scope) for scope in row.scopes)
        )
        for row in rows
    }
