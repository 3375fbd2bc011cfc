"""The order of locks: checking a connection and settling one of its identities do not wait for each other in a ring."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections import verify
from broker.connections.models import Connection
from broker.db import Database, Role
from broker.errors import Refused
from broker.grants.release import release
from tests.conftest import new_tenant
from tests.grants.conftest import connect_account, verified_identity


class _OpenToUs:
    """STS, where the role is as it should be."""

    async def assume(self, access: RoleAccess, *, external_id: str | None) -> str:
        if external_id != access.external_id:
            raise Refused("Not authorized.", code="AccessDenied")
        return access.account_id


class _Meanwhile:
    """A discovery during whose record, with the connection locked, a sync settles the identity."""

    def __init__(self, db: Database, owner: Caller, identity: UUID) -> None:
        self._db, self._owner, self._identity = db, owner, identity
        self.settled = False

    async def look(self, access: RoleAccess, *, probe: bool) -> None:
        """Nothing is there."""

    async def record(
        self, session: AsyncSession, connection: Connection, seen: Sequence[None], *, began: datetime
    ) -> None:
        """A row that its own transaction updates for the second time has its foreign keys checked, with a lock."""
        async with self._db.begin(self._owner) as other:
            await other.execute(text("SET LOCAL lock_timeout = '1s'"))
            for _ in range(2):
                await other.execute(text("UPDATE identities SET due_at = NULL WHERE id = :id"), {"id": self._identity})
        self.settled = True


async def test_an_identity_can_be_settled_while_its_connection_is_being_checked(committed_db: Database) -> None:
    owner = await new_tenant(committed_db, "owner")
    connection, account = await connect_account(committed_db, owner, "role")
    identity, _ = await verified_identity(committed_db, owner, connection, account)
    async with committed_db.begin(owner) as session:
        await session.execute(text("UPDATE connections SET due_at = now() WHERE id = :id"), {"id": connection})
    meanwhile = _Meanwhile(committed_db, owner, identity)

    assert 1 == await verify.run(
        committed_db.as_role(Role.WORKER), _OpenToUs(), meanwhile, release=release, only=[connection]
    )

    assert meanwhile.settled
