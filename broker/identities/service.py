"""Identities as their owner sees them, and what the work on policies needs of them."""

import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections.models import Connection, State
from broker.db import Database
from broker.due import wake
from broker.errors import NotFound
from broker.idempotency import remember
from broker.identities.facts import Facts, is_ours
from broker.identities.models import Identity, PolicyDocument
from broker.identities.room import ground
from broker.identities.views import IdentityChange, IdentityView, shown
from broker.ids import new_id
from broker.policies.pack import room


async def page(
    db: Database, caller: Caller, *, after: UUID | None, limit: int, name: str | None = None
) -> Sequence[IdentityView]:
    """Up to `limit` identities after the id `after`, oldest first; `name` keeps those of one domain or address."""
    query = (
        select(Identity)
        .where(Identity.tenant_id == caller.tenant, Identity.removed_at.is_(None))
        .order_by(Identity.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Identity.id > after)
    if name is not None:
        query = query.where(Identity.name == name)
    async with db.read(caller) as session:
        return [shown(row) for row in await session.scalars(query)]


async def one(db: Database, caller: Caller, identity_id: UUID) -> IdentityView:
    """The identity; NotFound when it is not the caller's."""
    async with db.read(caller) as session:
        row = await find(session, caller, identity_id)
        held = await ground(session, row.id)
        return shown(row, room=room(held, identity_arn=row.arn) if held is not None else None)


async def refresh(db: Database, caller: Caller, identity_id: UUID) -> IdentityView:
    """Asks for a fresh read of the identity: of its policies by its own work, of its settings by its connection's."""
    async with db.begin(caller) as session:
        row = await find(session, caller, identity_id)
        view = shown(row)
        wake(session, row)
        connection = await session.get_one(Connection, row.connection_id)
        if connection.role_arn is not None:
            wake(session, connection)
        await record(session, caller, "identity.refresh_requested", subject=("identity", row.id))
        return await remember(session, caller, view)


async def change(db: Database, caller: Caller, identity_id: UUID, wanted: IdentityChange) -> IdentityView:
    """Sets whether the owner hears of its own mail; what is stored from then on follows it."""
    async with db.begin(caller) as session:
        row = await find(session, caller, identity_id, lock=True)
        if wanted.own_mail is not msgspec.UNSET and wanted.own_mail != row.own_mail:
            row.own_mail = wanted.own_mail
            await record(session, caller, "identity.changed", subject=("identity", row.id), own_mail=row.own_mail)
        return shown(row)


async def find(session: AsyncSession, caller: Caller, identity_id: UUID, *, lock: bool = False) -> Identity:
    """The caller's identity, locked for a change if asked; NotFound for anybody else's."""
    query = select(Identity).where(
        Identity.id == identity_id, Identity.tenant_id == caller.tenant, Identity.removed_at.is_(None)
    )
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("There is no such identity.")
    return row


def access(identity: Identity, connection: Connection) -> RoleAccess | None:
    """How to act on the identity; None where its connection has no role (the owner applies by hand) or was removed."""
    if connection.state == State.REMOVED or connection.role_arn is None:
        return None
    return connection.access(identity.region)


def apply_facts(identity: Identity, facts: Facts) -> None:
    """Stores what SES said of verification and settings; which others overlap is kept as it was."""
    identity.verified = facts.verified
    overlapping = tuple(identity.attributes.get("overlapping", ()))
    identity.attributes = msgspec.to_builtins(msgspec.structs.replace(facts.attributes, overlapping=overlapping))


async def record_policies(session: AsyncSession, identity: Identity, policies: Mapping[str, str]) -> None:
    """Notes what a read found now, and keeps every document that was never seen under its name: one round trip."""
    identity.policies = dict(policies)
    identity.read_at = func.now()
    await keep_documents(session, identity, policies)


async def keep_documents(session: AsyncSession, identity: Identity, policies: Mapping[str, str]) -> None:
    """Keeps each of these documents, by name, that was never seen under its name: one round trip."""
    if not policies:
        return
    rows = [
        {
            "id": new_id(),
            "tenant_id": identity.tenant_id,
            "identity_id": identity.id,
            "name": name,
            "document": document,
            "digest": hashlib.sha256(document.encode()).digest(),
            "ours": is_ours(name),
        }
        for name, document in policies.items()
    ]
    await session.execute(insert(PolicyDocument).values(rows).on_conflict_do_nothing())


async def retire(session: AsyncSession, connection_id: UUID) -> None:
    """Ends the identities of a connection that is being removed; their ARNs are free for whoever proves the account."""
    await session.execute(
        update(Identity)
        .where(Identity.connection_id == connection_id, Identity.removed_at.is_(None))
        .values(removed_at=func.now(), due_at=None)
    )
