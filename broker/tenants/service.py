"""Registering, and administering oneself and one's keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn
from uuid import UUID

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict, Flaw, Forbidden, Invalid, NotFound
from broker.idempotency import remember
from broker.ids import new_id
from broker.policies.check import has_hidden
from broker.quotas import Quota
from broker.room import leave_room
from broker.tenants.keys import mint
from broker.tenants.models import ApiKey, Tenant
from broker.tenants.views import (
    ApiKeyMade,
    ApiKeyView,
    NewApiKey,
    Registered,
    Registration,
    TenantChange,
    TenantView,
)

LAST_YEAR = 9000  # Postgres takes later ones, Python's UTC does not take all of 9999


async def register(db: Database, caller: Caller, wanted: Registration, *, keyring: Keyring) -> Registered:
    """Makes a tenant and its first key, with every scope."""
    _check_name(wanted.name)
    minted = mint()
    tenant_id, key_id = new_id(), new_id()
    async with db.begin(caller) as session:
        await session.execute(
            text("SELECT register_tenant(:id, :name, :roles, :email, :key, 'first key', :prefix, :digest, :scopes)"),
            {
                "id": tenant_id,
                "name": wanted.name,
                "roles": sorted({role.value for role in wanted.roles}),
                "email": wanted.contact_email,
                "key": key_id,
                "prefix": minted.prefix,
                "digest": keyring.digest(minted.secret),
                "scopes": [scope.value for scope in Scope],
            },
        )
        # The answer is read as the tenant that was just made.
        await session.execute(text("SELECT set_config('app.tenant_id', :id, true)"), {"id": str(tenant_id)})
        answer = Registered(
            tenant=_tenant_view(await session.get_one(Tenant, tenant_id)),
            key=_key_view(await session.get_one(ApiKey, key_id)),
            secret=minted.secret,
        )
        # Back to whoever registers it, nobody or another tenant: the answer is remembered for that one.
        await session.execute(
            text("SELECT set_config('app.tenant_id', :id, true)"), {"id": str(caller.tenant_id or "")}
        )
        return await remember(session, caller, answer, keyring=keyring)


async def show(db: Database, caller: Caller) -> TenantView:
    """Oneself."""
    async with db.read(caller) as session:
        return _tenant_view(await session.get_one(Tenant, caller.tenant))


async def change(db: Database, caller: Caller, wanted: TenantChange) -> TenantView:
    """Changes one's name or addresses."""
    if wanted.name is not msgspec.UNSET:
        _check_name(wanted.name)
    async with db.begin(caller) as session:
        tenant = await session.get_one(Tenant, caller.tenant)
        if wanted.name is not msgspec.UNSET:
            tenant.name = wanted.name
        if wanted.contact_email is not msgspec.UNSET:
            tenant.contact_email = wanted.contact_email
        if wanted.alarm_address is not msgspec.UNSET:
            tenant.alarm_address = wanted.alarm_address
        await record(session, caller, "tenant.changed", subject=("tenant", tenant.id))
        return _tenant_view(tenant)


async def list_keys(
    db: Database, caller: Caller, *, after: UUID | None = None, limit: int = 50
) -> Sequence[ApiKeyView]:
    """One's keys, revoked ones too, oldest first, up to `limit` after the id `after`."""
    query = select(ApiKey).where(ApiKey.tenant_id == caller.tenant).order_by(ApiKey.id).limit(limit)
    if after is not None:
        query = query.where(ApiKey.id > after)
    async with db.read(caller) as session:
        return [_key_view(row) for row in await session.scalars(query)]


async def make_key(db: Database, caller: Caller, wanted: NewApiKey, *, keyring: Keyring, now: datetime) -> ApiKeyMade:
    """A further key, no wider than the one that asks for it."""
    scopes = sorted(set(wanted.scopes))
    if not set(scopes) <= caller.scopes:
        raise Forbidden("A key cannot have scopes that the key which makes it lacks.")
    _check_end(wanted.expires_at, now)
    minted = mint()
    mine = select(func.count()).select_from(ApiKey).where(ApiKey.tenant_id == caller.tenant)
    in_force = mine.where(ApiKey.revoked_at.is_(None)).where(
        (ApiKey.expires_at.is_(None)) | (ApiKey.expires_at > func.now())
    )
    async with db.begin(caller) as session:
        await leave_room(session, caller, Quota.API_KEYS, in_force)
        key = ApiKey(
            id=new_id(),
            tenant_id=caller.tenant,
            name=wanted.name,
            prefix=minted.prefix,
            digest=keyring.digest(minted.secret),
            scopes=[scope.value for scope in scopes],
            created_at=now,
            expires_at=wanted.expires_at,
        )
        session.add(key)
        await session.flush()
        await record(session, caller, "api_key.made", subject=("api_key", key.id), scopes=key.scopes)
        return await remember(session, caller, ApiKeyMade(key=_key_view(key), secret=minted.secret), keyring=keyring)


async def revoke_key(db: Database, caller: Caller, key_id: UUID) -> None:
    """Ends a key at once; the last key that can administer cannot be revoked."""
    async with db.begin(caller) as session:
        key = await session.get(ApiKey, key_id)
        if key is None or key.tenant_id != caller.tenant:
            raise NotFound("There is no API key with this id.")
        if key.revoked_at is None:
            await _keep_one_administrator(session, caller, key)
            key.revoked_at = func.now()
            await record(session, caller, "api_key.revoked", subject=("api_key", key.id))


async def _keep_one_administrator(session: AsyncSession, caller: Caller, key: ApiKey) -> None:
    # Locked in one order, so that two keys cannot revoke each other at the same moment.
    others = await session.scalars(
        select(ApiKey)
        .where(ApiKey.tenant_id == caller.tenant, ApiKey.revoked_at.is_(None))
        .where(ApiKey.scopes.contains([Scope.ADMIN.value]))
        .where((ApiKey.expires_at.is_(None)) | (ApiKey.expires_at > func.now()))
        .order_by(ApiKey.id)
        .with_for_update()
    )
    if {row.id for row in others} == {key.id}:
        raise Conflict("This is your last key with the scope admin; make another one first.")


def _check_name(name: str) -> None:
    """The other party decides by it: nothing invisible, nothing that turns the direction of reading."""
    if not name.strip() or has_hidden(name):
        _refuse("/name", "A name must show something, and hold no control or invisible characters.")


def _check_end(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is None:
        return
    if expires_at.tzinfo is None or expires_at <= now:
        _refuse("/expires_at", "Must be a time in the future, with an offset.")
    if expires_at.year > LAST_YEAR:
        _refuse("/expires_at", f"The year must not be after {LAST_YEAR}.")


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise Invalid(detail, flaws=(Flaw(pointer, detail),))


def _tenant_view(row: Tenant) -> TenantView:
    return TenantView(
        id=row.id,
        name=row.name,
        roles=row.roles,
        contact_email=row.contact_email,
        created_at=row.created_at,
        alarm_address=row.alarm_address,
    )


def _key_view(row: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=row.scopes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
