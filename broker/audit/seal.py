"""Sealing, as a due row for each tenant: its entries get their places in its chain, in the order of their commits.

Off the way of whoever writes an entry: a chain that was written along with the entries would have all of a tenant's
transactions wait for each other.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import func, insert, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.audit.chain import BEGINNING, Seal, make_seal
from broker.audit.models import AuditRow, ChainRow, SealRow
from broker.audit.signing import Signer
from broker.audit.stored import record_of, row_of
from broker.caller import NOBODY, Caller
from broker.db import Database
from broker.due import Claim, Superseded

KIND = "audit_chains"
LEASE = timedelta(seconds=30)
AT_ONCE = 4  # chains
MOST = 200  # entries in one transaction; a signature takes about 50 µs

logger = log.get(__name__)

# As in the feed of events: what is above may be followed by an earlier transaction that has not ended yet.
_SETTLED = text("audit.xact < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
_WAKE = "SELECT wake_chains()"


async def run(db: Database, signer: Signer, *, only: Sequence[UUID] | None = None, most: int = MOST) -> int:
    """Seals one batch of each chain that is due (of those in `only`); how many. `db` under broker_worker."""
    await wake(db)
    return await due.work(db, KIND, partial(seal, db, signer, most=most), most=AT_ONCE, lease=LEASE, only=only)


async def wake(db: Database) -> None:
    """Makes the chains of what was written since the last time due. One statement, which writes only if there is any.

    Nobody who writes an entry touches its chain, so this is looked for: once a second, as all that is due.
    """
    if db.line is not None:
        await db.line.fetch(_WAKE)
        return
    async with db.begin(NOBODY) as session:
        await session.execute(text(_WAKE))


async def seal(db: Database, signer: Signer, claim: Claim, *, most: int = MOST) -> None:
    """One transaction: the seals, how far the chain is, and the end of the lease, or none of them.

    `Superseded`, with nothing written, when another worker has claimed the chain since.
    """
    async with db.begin(Caller.system(claim.tenant_id, job=KIND)) as session:
        query = select(ChainRow, func.now()).where(ChainRow.id == claim.id, ChainRow.fence == claim.fence)
        found = (await session.execute(query.with_for_update(of=ChainRow))).one_or_none()
        if found is None:
            raise Superseded(f"The audit chain of {claim.id} was claimed by another worker.")
        chain, now = found
        rows = await _next(session, chain, most)
        seals: list[Seal] = []
        for row in rows:
            previous = seals[-1].hash if seals else chain.hash or BEGINNING
            place = chain.position + len(seals) + 1
            seals.append(make_seal(record_of(row), position=place, previous=previous, sealed_at=now, signer=signer))
        if rows:
            values = [
                row_of(each, counterpart_id=row.counterpart_id, sealed_at=now)
                for each, row in zip(seals, rows, strict=True)
            ]
            await session.execute(insert(SealRow), values)
            await _move(session, claim, rows[-1], seals[-1])
        await due.settle(session, claim, again_in=timedelta(0) if len(rows) == most else None)
    if seals:
        # The log is another place than the database: who cuts the chain there does not cut it here.
        logger.info("audit sealed", chain=str(claim.tenant_id), position=seals[-1].position, hash=seals[-1].hash)


async def _next(session: AsyncSession, chain: ChainRow, most: int) -> Sequence[AuditRow]:
    place = tuple_(AuditRow.xact, AuditRow.id)
    query = (
        select(AuditRow)
        .where(AuditRow.tenant_id == chain.tenant_id, place > tuple_(chain.after_xact, chain.after_id), _SETTLED)
        .order_by(AuditRow.xact, AuditRow.id)
        .limit(most)
    )
    return (await session.scalars(query)).all()


async def _move(session: AsyncSession, claim: Claim, last: AuditRow, head: Seal) -> None:
    values = {"after_xact": last.xact, "after_id": last.id, "position": head.position, "hash": head.hash}
    await session.execute(update(ChainRow).where(ChainRow.id == claim.id).values(**values))
