"""Due rows: the one way in which work is scheduled, retried, rescued and fenced.

A table of due rows mixes in `Due`. Whoever changes a row in a way that needs outside work calls `wake` in the same
transaction. A worker `claim`s rows (a lease and a higher fence), works with no transaction open, and `settle`s: a
settle under an old fence writes nothing. Only database time is compared with database time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql import bindparam

from broker import log
from broker.caller import NOBODY, Caller
from broker.db import Database
from broker.errors import BrokerError
from broker.points import reach

logger = log.get(__name__)


class Superseded(Exception):
    """The fence has moved on: another worker claimed the row, and nothing of ours may be written."""


class Due:
    """Columns of a due row. `due_at` empty: nothing to do. `tenant_id`: under whose eyes a worker works on it."""

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    due_at: Mapped[datetime | None] = mapped_column(default=None)
    claimed_until: Mapped[datetime | None] = mapped_column(default=None)
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    attempts: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class Claim(msgspec.Struct, frozen=True):
    """A lease on one due row. `attempts` counts claims since the last settle that succeeded.

    `brought` is what the row's kind has told with its claims (`BRINGS`), as JSON.
    """

    kind: str
    id: UUID
    tenant_id: UUID
    fence: int
    attempts: int
    brought: str | None = None


def wake(session: AsyncSession, row: Any) -> None:
    """Makes `row` (of a `Due` table) due now; the bell rings after the commit. Its state says what is to be done."""
    row.due_at = func.now()
    session.info.setdefault("woken", {}).setdefault(row.__tablename__, set()).add(row.id)


_ONLY = bindparam("only", type_=ARRAY(PG_UUID(as_uuid=True)))
# One row per claimed row, one round trip. A definer function: it crosses tenants, and returns ids only.
_CLAIM = "SELECT id, tenant_id, fence, attempts FROM claim_due({})"
_CLAIM_AND_BRING = (
    "SELECT c.id, c.tenant_id, c.fence, c.attempts, to_json(b)::text FROM claim_due({}) c"
    " LEFT JOIN LATERAL {}(c.id) b ON true"
)
BRINGS = MappingProxyType({"identities": "deny_ahead"})
"""Functions of a row's id that are asked with the claim: what has to be done first needs no question of its own."""


async def claim(
    db: Database,
    kind: str,
    *,
    most: int,
    lease: timedelta,
    only: Sequence[UUID] | None = None,
) -> list[Claim]:
    """Leases up to `most` rows of table `kind` that are due, oldest first; `only` limits it to those ids.

    Over the line of `db`, if it has one, it is one round trip instead of four.
    """
    ids = list(only) if only is not None else None
    if db.line is not None:
        statement = _claiming(kind, "$1, $2, $3, $4")
        return [Claim(kind, *row) for row in await db.line.fetch(statement, kind, most, lease, ids)]
    async with db.begin(NOBODY) as session:
        named = {"kind": kind, "most": most, "lease": lease, "only": ids}
        query = text(_claiming(kind, ":kind, :most, :lease, :only")).bindparams(_ONLY)
        return [Claim(kind, *row) for row in await session.execute(query, named)]


def _claiming(kind: str, parameters: str) -> str:
    brings = BRINGS.get(kind)
    return _CLAIM_AND_BRING.format(parameters, brings) if brings else _CLAIM.format(parameters)


async def work(
    db: Database,
    kind: str,
    do: Callable[[Claim], Awaitable[None]],
    *,
    most: int,
    lease: timedelta,
    only: Sequence[UUID] | None = None,
) -> int:
    """Claims what is due of `kind` and does it side by side; how many there were.

    One failure does not touch the others.

    `do` settles its claim itself. What it raises is logged with its trace, and the row is tried again.
    """
    claims = await claim(db, kind, most=most, lease=lease, only=only)
    if claims:
        reach("due.claimed")
    await asyncio.gather(*(_do(db, do, each) for each in claims))
    return len(claims)


async def _do(db: Database, do: Callable[[Claim], Awaitable[None]], claimed: Claim) -> None:
    try:
        await do(claimed)
    except Superseded:
        logger.info("taken over by another worker", kind=claimed.kind, id=str(claimed.id))
    except Exception:
        logger.exception("work failed", kind=claimed.kind, id=str(claimed.id), tenant_id=str(claimed.tenant_id))
        await give_back(db, claimed)


async def next_due(db: Database, kind: str) -> float | None:
    """Seconds until the next row of `kind` can be claimed (negative: overdue), or None: nothing is planned."""
    if db.line is not None:
        found: float | None = (await db.line.fetch("SELECT next_due($1)", kind))[0][0]
        return found
    async with db.begin(NOBODY) as session:
        seconds = await session.execute(text("SELECT next_due(:kind)"), {"kind": kind})
        return seconds.scalar_one_or_none()


async def settle(session: AsyncSession, done: Claim, *, again_in: timedelta | None, failed: bool = False) -> bool:
    """Ends the lease inside the caller's transaction; `Superseded` rolls it back when the fence has moved on.

    The row is due again after `again_in` (None: never), or at once when it was woken while it was claimed.
    `failed` keeps counting attempts, for back-off. Returns whether the row is due at once, so that a loop may go on.
    """
    found = await session.execute(
        text(
            f"UPDATE {_table(done.kind)} SET claimed_until = NULL,"  # noqa: S608 - one of our own table names
            " attempts = CASE WHEN :failed THEN attempts ELSE 0 END,"
            " due_at = CASE WHEN due_at IS DISTINCT FROM claimed_until THEN due_at"
            " ELSE now() + CAST(:again AS interval) END"
            " WHERE id = :id AND fence = :fence RETURNING due_at <= now() AS due_now"
        ),
        {"id": done.id, "fence": done.fence, "again": again_in, "failed": failed},
    )
    row = found.one_or_none()
    if row is None:
        raise Superseded(f"{done.kind} {done.id} was claimed by another worker.")
    reach("due.settled")
    return bool(row.due_now)


async def give_back(db: Database, done: Claim) -> None:
    """Ends a lease whose work failed unforeseen: due again in 1 s, 2 s, 4 s … 60 s. Never raises."""
    again_in = back_off(done.attempts, first=timedelta(seconds=1), most=timedelta(minutes=1))
    try:
        async with db.begin(Caller.system(done.tenant_id, job=done.kind)) as session:
            await settle(session, done, again_in=again_in, failed=True)
    except (Superseded, BrokerError):
        return  # somebody else has it, or the database is away: the lease does the rest


def back_off(attempts: int, *, first: timedelta, most: timedelta) -> timedelta:
    """Doubling delay after `attempts` tries in a row (1 or more), at most `most`."""
    doubled: timedelta = first * 2 ** min(attempts - 1, 20)
    return min(doubled, most)


KINDS = frozenset(
    {
        "audit_chains",
        "connections",
        "identities",
        "routes",
        "topics",
        "replays",
        "digests",
        "reckonings",
        "erasures",
        "retentions",
        "suppression_pushes",
        "alarms",
    }
)


def _table(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(kind)
    return kind
