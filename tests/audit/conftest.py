"""A database of its own, whose audit trail is tampered with, and a tenant with some entries in it."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest_asyncio
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from broker.audit import export, seal
from broker.audit.chain import Seal
from broker.audit.models import SealRow
from broker.audit.service import record
from broker.audit.signing import Signer
from broker.audit.stored import seal_of
from broker.audit.verify import Finding
from broker.audit.verify_database import verify_database
from broker.caller import Caller
from broker.db import Database, Role, connect, sessions
from broker.ids import new_id
from tests.conftest import new_tenant
from tests.servers import Postgres
from tests.webhooks.waiting import until_told

SIGNER = Signer([bytes(range(32))])


class Trail:
    """Two tenants, the entries of the first, and somebody who may do anything in the database."""

    def __init__(self, db: Database, owner: AsyncEngine, tenant: Caller, other: Caller) -> None:
        self.db = db
        self.worker = db.as_role(Role.WORKER)
        self.owner = owner
        self.tenant = tenant
        self.other = other

    async def write(self, number: int = 1, **details: Any) -> list[UUID]:
        """Entries about something shared with the other tenant, each in a transaction of its own."""
        subjects = [new_id() for _ in range(number)]
        for at, subject in enumerate(subjects):
            async with self.db.begin(self.tenant) as session:
                await record(
                    session,
                    self.tenant,
                    "grant.approved",
                    subject=("grant", subject),
                    counterpart_id=self.other.tenant,
                    number=at,
                    **details,
                )
        return subjects

    async def seal_all(self, *, most: int = seal.MOST, leaving: int = 0) -> None:
        """Seals until the chain holds all that there is but `leaving`; others may hold the horizon back for a while."""

        async def done() -> bool:
            await seal.run(self.worker, SIGNER, only=[self.tenant.tenant], most=most)
            async with self.owner.connect() as session:
                query = (
                    "SELECT count(*) FROM audit a WHERE tenant_id = :id"
                    " AND NOT EXISTS (SELECT FROM audit_seals s WHERE s.entry_id = a.id)"
                )
                found: int = (await session.execute(text(query), {"id": self.tenant.tenant})).scalar_one()
            return found == leaving

        await until_told(done)

    async def seals(self) -> list[Seal]:
        """The tenant's, in the order of the chain."""
        async with AsyncSession(self.owner) as session:
            query = select(SealRow).where(SealRow.tenant_id == self.tenant.tenant).order_by(SealRow.position)
            return [seal_of(row) for row in await session.scalars(query)]

    async def tamper(self, *statements: str, **named: Any) -> None:
        """As whoever owns the tables."""
        async with self.owner.begin() as connection:
            for statement in statements:
                done = await connection.execute(text(statement), {"me": self.tenant.tenant, **named})
                assert done.rowcount > 0, statement

    async def findings(self, *, earlier: tuple[str, int, str] | None = None) -> list[Finding]:
        """What the operator's check says about this tenant."""
        async with AsyncSession(self.owner) as session:
            found = [each async for each in verify_database(session, SIGNER.public, earlier=earlier)]
        return [one for each in found if each.tenant_id == str(self.tenant.tenant) for one in each.findings]

    async def export(self, reader: Caller | None = None) -> list[bytes]:
        """The lines of an export."""
        lines = export.lines(self.db, reader or self.tenant, SIGNER)
        return io.BytesIO(b"".join([each async for each in lines])).readlines()


@pytest_asyncio.fixture(scope="module")
async def audit_engines(postgres: Postgres) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine]]:
    """Of the service's login and of the owner, who tampers; in the database of this file."""
    engine = connect(postgres.app_url, pool_size=10)
    owner = create_async_engine(postgres.owner_url)
    async with owner.begin() as connection:  # who owns the tables can do that, too
        await connection.execute(text("ALTER TABLE audit_seals DROP CONSTRAINT audit_seals_entry_id_fkey"))
    yield engine, owner
    await asyncio.gather(engine.dispose(), owner.dispose())


@pytest_asyncio.fixture
async def trail(audit_engines: tuple[AsyncEngine, AsyncEngine]) -> Trail:
    """Two new tenants; the first one's registration is its first entry."""
    engine, owner = audit_engines
    db = Database(sessions(engine), role=Role.API)
    return Trail(db, owner, await new_tenant(db), await new_tenant(db))
