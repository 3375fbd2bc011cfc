"""Connecting AWS accounts: claim, look, ask for a check, remove."""

import secrets
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.connections import challenge
from broker.connections.binding import hold
from broker.connections.models import Account, Connection, Kind, State
from broker.connections.templates import Format, render
from broker.connections.views import ConnectionView, Installation, NewConnection, role_plan, shown
from broker.db import Database
from broker.due import wake
from broker.errors import Conflict, Flaw, Invalid, NotFound
from broker.idempotency import remember
from broker.ids import new_id
from broker.quotas import Quota
from broker.room import leave_room
from broker.tenants.models import Tenant

_REGION_PREFIXES = {"aws-us-gov": "us-gov-", "aws-cn": "cn-"}


class Release(Protocol):
    """Ends what hangs on a connection that is being removed, in the same transaction; Conflict while it is in use."""

    async def __call__(self, session: AsyncSession, connection_id: UUID, /) -> None: ...


async def create(db: Database, caller: Caller, asked: NewConnection, *, here: Installation) -> ConnectionView:
    """A pending connection with an ExternalId of its own, or with a challenge to prove the account."""
    _check(asked, here.settings.aws_partition)
    row = Connection(
        id=new_id(),
        tenant_id=caller.tenant,
        kind=asked.kind,
        account_id=asked.account_id,
        regions=list(dict.fromkeys(asked.regions)),
        roles=list(dict.fromkeys(asked.roles)),
        # Ours, random, and for this tenant and account only: the confused deputy needs it to be guessable or shared.
        external_id=secrets.token_hex(24),
        role_arn=_role_arn(asked.account_id, here) if asked.kind is Kind.ROLE else None,
        state=State.PENDING,
    )
    if asked.kind is not Kind.ROLE:
        _challenge(row)
    mine = select(func.count()).select_from(Connection).where(Connection.tenant_id == caller.tenant)
    async with db.begin(caller) as session:
        await leave_room(session, caller, Quota.CONNECTIONS, mine.where(Connection.state != State.REMOVED))
        row.roles = row.roles or await _usual_roles(session, caller)
        session.add(row)
        try:
            await session.flush()
        except IntegrityError as error:
            raise Conflict("You already have a connection to this account; remove it first.") from error
        await session.refresh(row)
        subject = ("connection", row.id)
        await record(session, caller, "connection.created", subject=subject, kind=row.kind, account_id=row.account_id)
        return await remember(session, caller, shown(row, here))


async def page(
    db: Database, caller: Caller, *, here: Installation, after: UUID | None, limit: int
) -> Sequence[ConnectionView]:
    """Up to `limit` connections after the id `after`, oldest first; removed ones are not shown."""
    query = (
        select(Connection)
        .where(Connection.tenant_id == caller.tenant, Connection.state != State.REMOVED)
        .order_by(Connection.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Connection.id > after)
    async with db.read(caller) as session:
        return [shown(row, here) for row in await session.scalars(query)]


async def one(db: Database, caller: Caller, connection_id: UUID, *, here: Installation) -> ConnectionView:
    """The connection; NotFound when it is not the caller's."""
    async with db.read(caller) as session:
        return shown(await find(session, caller, connection_id), here)


async def template(db: Database, caller: Caller, connection_id: UUID, *, here: Installation, form: Format) -> str:
    """The template that creates the role; Conflict for a connection without one."""
    async with db.read(caller) as session:
        row = await find(session, caller, connection_id)
    if row.kind != Kind.ROLE:
        raise Conflict("Only a connection of kind role has a template.")
    return render(role_plan(row, here), form)


async def verify(db: Database, caller: Caller, connection_id: UUID, *, here: Installation) -> ConnectionView:
    """Asks for a check of the role now; a connection that is proven by its tenant gets a fresh challenge instead."""
    async with db.begin(caller) as session:
        row = await find(session, caller, connection_id, lock=True)
        if row.kind == Kind.ROLE:
            _ask_for_check(session, row)
        else:
            _challenge(row)
        await session.flush()
        await session.refresh(row)
        await record(session, caller, "connection.verification_requested", subject=("connection", row.id))
        return await remember(session, caller, shown(row, here))


async def remove(db: Database, caller: Caller, connection_id: UUID, *, release: Release) -> None:
    """Forgets the account and frees it for whoever proves it next; Conflict while grants rest on it."""
    async with db.begin(caller) as session:
        row = await find(session, caller, connection_id, lock=True)
        await hold(session, row.account_id)
        await release(session, row.id)
        await session.execute(
            delete(Account).where(Account.connection_id == row.id, Account.tenant_id == caller.tenant)
        )
        row.state, row.reason, row.nonce, row.due_at = State.REMOVED, None, None, None
        subject = ("connection", row.id)
        await record(session, caller, "connection.removed", subject=subject, account_id=row.account_id)


async def find(session: AsyncSession, caller: Caller, connection_id: UUID, *, lock: bool = False) -> Connection:
    """The caller's connection, locked for a change if asked; NotFound for anybody else's and for removed ones."""
    query = select(Connection).where(
        Connection.id == connection_id,
        Connection.tenant_id == caller.tenant,
        Connection.state != State.REMOVED,
    )
    row = await session.scalar(query.with_for_update(key_share=True) if lock else query)
    if row is None:
        raise NotFound("There is no such connection.")
    return row


def _check(asked: NewConnection, partition: str) -> None:
    flaws = []
    if asked.kind is not Kind.PROOF and not asked.regions:
        flaws.append(Flaw("/regions", "Name at least one Region with SES identities."))
    prefix = _REGION_PREFIXES.get(partition)
    for at, region in enumerate(asked.regions):
        other = any(region.startswith(each) for each in _REGION_PREFIXES.values() if each != prefix)
        if other or (prefix and not region.startswith(prefix)):
            flaws.append(
                Flaw(f"/regions/{at}", f"{region} is not in the partition {partition}, which this broker serves.")
            )
    if flaws:
        raise Invalid(" ".join(flaw.detail for flaw in flaws), flaws=tuple(flaws))


async def _usual_roles(session: AsyncSession, caller: Caller) -> list[str]:
    """An owner's role where the tenant is one: that is what every tenant connected before there was a choice."""
    held = await session.scalar(select(Tenant.roles).where(Tenant.id == caller.tenant))
    return ["owner"] if held is None or "owner" in held else ["delegate"]


def _role_arn(account_id: str, here: Installation) -> str:
    return f"arn:{here.settings.aws_partition}:iam::{account_id}:role/{here.settings.role_name}"


def _ask_for_check(session: AsyncSession, row: Connection) -> None:
    """A new role gets its two minutes again; one that was verified keeps its state until the check has an outcome."""
    row.attempts = 0
    if row.verified_at is None:
        row.state, row.reason = State.PENDING, None
    wake(session, row)


def _challenge(row: Connection) -> None:
    """A fresh nonce takes the place of an older one. Its end is in database time, with which it is compared."""
    row.nonce = secrets.token_urlsafe(32)
    row.nonce_expires_at = func.now() + challenge.LIFETIME
