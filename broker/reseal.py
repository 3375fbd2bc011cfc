"""Changing the keys of secrets at rest: what older keys of the ring sealed is sealed again with the newest.

Runs under the login that owns the tables, since it crosses tenants and no role of the service may. It keeps no state:
what the newest key opens is done, so it may be stopped and run again at any time, beside a broker that works.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from broker.errors import BrokerError

BATCH = 500
PASSES = 10  # more only while something goes on sealing with an older key


class Place(msgspec.Struct, frozen=True):
    """A column of sealed values: its table, the columns that name a row, and `where` it is sealed."""

    table: str
    column: str
    key: tuple[str, ...] = ("id",)
    where: str = "true"

    @property
    def name(self) -> str:
        """As people are told of it."""
        return f"{self.table}.{self.column}"


SEALED = (
    Place("endpoint_secrets", "sealed"),
    Place("endpoints", "headers"),
    Place("suppressions", "address"),
    Place("erasures", "address"),
    Place("idempotency_keys", "body", key=("scope", "key"), where="sealed"),
)
"""Every column that holds what `Keyring.seal` gave; a test compares it with the catalogue."""


class Count(msgspec.Struct, frozen=True):
    """Values of one place: all, those sealed again (or to be), and those that no key of the ring opens."""

    seen: int = 0
    older: int = 0
    lost: int = 0


Told = Callable[[Place, Count], None]


async def reseal(url: str, keys: tuple[str, ...], *, told: Told, look_only: bool = False, batch: int = BATCH) -> bool:
    """Seals with the first key what another of them sealed; `told` hears after each batch how far it is.

    Whether everything is under the first key now: nothing was found that is not, after a pass over all of it.
    `look_only` changes nothing. `BrokerError` under a login that does not see all rows.
    """
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        await _check_login(engine)
        for _ in range(PASSES):
            counts = [await _pass(engine, keys, place, told, look_only=look_only, batch=batch) for place in SEALED]
            # Processes with the old ring may have sealed more meanwhile: until a pass finds nothing, or cannot help.
            if look_only or not any(count.older for count in counts):
                return not any(count.older or count.lost for count in counts)
        return False
    finally:
        await engine.dispose()


async def _check_login(engine: AsyncEngine) -> None:
    """One under row-level security would see nothing, and call that a success."""
    async with engine.connect() as connection:
        for place in SEALED:
            asked = text("SELECT row_security_active(CAST(:table AS regclass))")
            if await connection.scalar(asked, {"table": place.table}):
                raise BrokerError("This needs the login that owns the tables: set BROKER_MIGRATION_DATABASE_URL.")


async def _pass(
    engine: AsyncEngine, keys: tuple[str, ...], place: Place, told: Told, *, look_only: bool, batch: int
) -> Count:
    newest, ring = Fernet(keys[0]), MultiFernet([Fernet(key) for key in keys])
    count, after = Count(), None
    while True:
        async with engine.begin() as connection:
            rows = await _read(connection, place, after, batch)
            fresh = [(row, _resealed(bytes(row.value), newest, ring)) for row in rows]
            changed = [(row, value) for row, value in fresh if value is not None and value != bytes(row.value)]
            if changed and not look_only:
                await _write(connection, place, changed)
        lost = sum(value is None for _, value in fresh)
        count = Count(count.seen + len(rows), count.older + len(changed), count.lost + lost)
        told(place, count)
        if len(rows) < batch:
            return count
        after = _name(place, rows[-1])


async def _read(connection: AsyncConnection, place: Place, after: dict[str, Any] | None, batch: int) -> list[Row[Any]]:
    names = ", ".join(place.key)
    beyond = f"({names}) > ({', '.join(f':{name}' for name in place.key)})" if after else "true"
    query = (
        f"SELECT {names}, {place.column} AS value FROM {place.table} WHERE {place.column} IS NOT NULL"  # noqa: S608 - our own names
        f" AND {place.where} AND {beyond} ORDER BY {names} LIMIT {batch}"
    )
    return list(await connection.execute(text(query), after or {}))


async def _write(connection: AsyncConnection, place: Place, changed: list[tuple[Row[Any], bytes]]) -> None:
    """Not where the value has been replaced or erased since it was read."""
    same = " AND ".join(f"{name} = :{name}" for name in place.key)
    update = f"UPDATE {place.table} SET {place.column} = :new WHERE {same} AND {place.column} = :old"  # noqa: S608 - our own names
    values = [{**_name(place, row), "old": row.value, "new": value} for row, value in changed]
    await connection.execute(text(update), values)


def _name(place: Place, row: Row[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in place.key}


def _resealed(value: bytes, newest: Fernet, ring: MultiFernet) -> bytes | None:
    """The same where the newest key opens it, else sealed with that; None where no key does."""
    try:
        newest.decrypt(value)
    except InvalidToken:
        pass
    else:
        return value
    try:
        return ring.rotate(value)
    except InvalidToken:
        return None


def summary(found: Mapping[str, Count], *, clean: bool, keys: int) -> str:
    """What it means for the keys, as a sentence or two."""
    lost = sum(count.lost for count in found.values())
    if lost:
        return f"{lost} values are sealed with a key that is not in BROKER_SECRET_KEYS: put it back and run this again."
    if not clean:
        return "Values are still sealed with an older key: keep every key, and run broker secrets rotate."
    if keys == 1:
        return "Everything is sealed with the only key."
    return (
        "Everything is sealed with the first key. Once every process has been started with it in the first place, run"
        " broker secrets check again; if that is clean too, the other keys may be taken out of BROKER_SECRET_KEYS. Keep"
        " them for as long as you keep backups from before."
    )
