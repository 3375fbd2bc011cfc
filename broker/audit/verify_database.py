"""Checks every tenant's chain in the database, as the login that owns its tables."""

from collections.abc import AsyncIterator, Iterator, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.chain import BEGINNING
from broker.audit.models import AuditRow, ChainRow, MarkRow, SealRow
from broker.audit.signing import PublicKeys
from broker.audit.stored import record_of, seal_of
from broker.audit.verify import Finding, Link, Wrong, check_chain, check_head, check_link, unsealed


class Checked(msgspec.Struct, frozen=True):
    """One tenant's chain: how long it is, how many entries wait for their seals, and what is wrong."""

    tenant_id: str
    sealed: int
    waiting: int
    findings: Sequence[Finding]


async def verify_database(
    session: AsyncSession, keys: PublicKeys, *, earlier: tuple[str, int, str] | None = None
) -> AsyncIterator[Checked]:
    """Chain by chain; `session` sees all rows, in one snapshot. `earlier`: tenant, position and hash of a kept head."""
    mark = await session.scalar(select(MarkRow.xact)) or 0
    tenants = await session.scalars(
        select(AuditRow.tenant_id).union(select(SealRow.tenant_id), select(ChainRow.tenant_id)).order_by("tenant_id")
    )
    for tenant_id in tenants.all():
        known = earlier[1:] if earlier is not None and earlier[0] == str(tenant_id) else None
        yield await _verify_one(session, tenant_id, keys, mark=mark, earlier=known)


async def _verify_one(
    session: AsyncSession, tenant_id: UUID, keys: PublicKeys, *, mark: int, earlier: tuple[int, str] | None
) -> Checked:
    links = await _links(session, tenant_id)
    chain = await session.get(ChainRow, tenant_id)
    findings = [finding for link in links for finding in check_link(link, keys)]
    findings += check_chain(links, head=(chain.position, chain.hash or BEGINNING) if chain else None)
    findings += _check_chain_row(tenant_id, chain, links)
    if earlier is not None:
        findings += check_head(links, earlier)
    waiting = await _without_seals(session, tenant_id)
    passed = [row for row in waiting if _is_passed(row, chain, mark)]
    findings += [unsealed(record_of(row)) for row in passed]
    return Checked(str(tenant_id), len(links), len(waiting) - len(passed), findings)


async def _links(session: AsyncSession, tenant_id: UUID) -> list[Link]:
    found = await session.execute(
        select(SealRow, AuditRow)
        .outerjoin(AuditRow, AuditRow.id == SealRow.entry_id)
        .where(SealRow.tenant_id == tenant_id)
        .order_by(SealRow.position)
    )
    return [Link(seal_of(seal), record_of(row) if row is not None else None) for seal, row in found]


async def _without_seals(session: AsyncSession, tenant_id: UUID) -> Sequence[AuditRow]:
    query = (
        select(AuditRow)
        .outerjoin(SealRow, SealRow.entry_id == AuditRow.id)
        .where(AuditRow.tenant_id == tenant_id, SealRow.entry_id.is_(None))
        .order_by(tuple_(AuditRow.xact, AuditRow.id))
    )
    return (await session.scalars(query)).all()


def _is_passed(row: AuditRow, chain: ChainRow | None, mark: int) -> bool:
    """Whether the sealer will never come by this entry: it is too early for its chain, or for one to be made."""
    if chain is None:
        return row.xact < mark
    return (row.xact, row.id) <= (chain.after_xact, chain.after_id)


def _check_chain_row(tenant_id: UUID, chain: ChainRow | None, links: Sequence[Link]) -> Iterator[Finding]:
    if chain is None and links:
        yield Finding(Wrong.CUT, "The row that says how long the chain is has been removed.", str(tenant_id))
