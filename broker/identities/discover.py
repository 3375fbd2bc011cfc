"""Finding identities in an account, and reading what SES says about each."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from random import SystemRandom
from typing import Any, Protocol

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.aws_access import RoleAccess
from broker.connections.models import Connection
from broker.due import wake
from broker.errors import Unavailable
from broker.identities.facts import Attributes, Facts, facts_of, kind_of, overlaps
from broker.identities.models import Identity
from broker.identities.service import apply_facts, record_policies
from broker.ids import new_id

PROBE = "delegation-broker-permission-check"
"""A policy name that nobody ever creates: deleting it changes nothing and tells whether deleting is allowed."""

_PAUSE = 1.1
_FEW_PAUSES, _MANY_PAUSES = 5, 60
"""Pauses that one look takes for SES's limit of one call a second: few while an owner waits for the verification."""


class SesReader(Protocol):
    """Looks into one Region of an account; each raises Refused or Unavailable."""

    async def list_identities(self, access: RoleAccess) -> list[dict[str, Any]]: ...

    async def identity(self, access: RoleAccess, identity: str) -> dict[str, Any]: ...

    async def account(self, access: RoleAccess) -> dict[str, Any]: ...

    async def notification_topics_of(
        self, access: RoleAccess, identities: Sequence[str]
    ) -> dict[str, dict[str, str | None]]: ...

    async def delete_policy(self, access: RoleAccess, identity: str, name: str) -> None: ...


class RegionSeen(msgspec.Struct, frozen=True):
    """One Region: the verification status of every identity by name, and the facts of those that could be read."""

    access: RoleAccess
    verified: dict[str, bool]
    facts: dict[str, Facts]


class Discovery:
    """Looks for identities and keeps them as rows; what verification of a connection asks for."""

    def __init__(self, ses: SesReader, *, partition: str) -> None:
        self._ses = ses
        self._partition = partition

    async def look(self, access: RoleAccess, *, probe: bool) -> RegionSeen:
        """All identities of one Region. `probe`: also whether policies may be deleted, without changing anything."""
        listed = await self._ses.list_identities(access)
        verified = {each["IdentityName"]: each.get("VerificationStatus") == "SUCCESS" for each in listed}
        account = await self._ses.account(access)
        topics = await self._ses.notification_topics_of(access, list(verified))
        facts: dict[str, Facts] = {}
        pauses = _FEW_PAUSES if probe else _MANY_PAUSES
        for name in _shuffled(verified):
            told, taken = await self._patiently(access, name, pauses)
            pauses -= taken
            if told is not None:
                facts[name] = facts_of(name, told, topics.get(name, {}), account)
        if probe and verified:
            await self._ses.delete_policy(access, next(iter(verified)), PROBE)
        return RegionSeen(access, verified, facts)

    async def _patiently(self, access: RoleAccess, name: str, pauses: int) -> tuple[dict[str, Any] | None, int]:
        """GetEmailIdentity's answer and the pauses taken; None when SES had no time within `pauses` of them."""
        for taken in range(pauses + 1):
            try:
                return await self._ses.identity(access, name), taken
            except Unavailable:
                if taken < pauses:
                    await asyncio.sleep(_PAUSE)
        return None, pauses

    async def record(
        self, session: AsyncSession, connection: Connection, seen: Sequence[RegionSeen], *, began: datetime
    ) -> None:
        """Makes and refreshes rows; what SES no longer lists is marked, never deleted."""
        for region in seen:
            query = select(Identity).where(
                Identity.tenant_id == connection.tenant_id,
                Identity.connection_id == connection.id,
                Identity.region == region.access.region,
                Identity.removed_at.is_(None),
            )
            rows = {row.name: row for row in await session.scalars(query.with_for_update())}
            overlapping = overlaps(region.verified)
            for name, verified in region.verified.items():
                row = rows.pop(name, None) or self._new(session, connection, region.access, name)
                await session.flush()
                row.verified = verified
                await _refresh(session, row, region.facts.get(name), began=began)
                _set(row, overlapping=overlapping[name], listed=True)
            for row in rows.values():
                row.verified = False
                _set(row, listed=False)

    def _new(self, session: AsyncSession, connection: Connection, access: RoleAccess, name: str) -> Identity:
        row = Identity(
            id=new_id(),
            tenant_id=connection.tenant_id,
            connection_id=connection.id,
            account_id=access.account_id,
            region=access.region,
            name=name,
            kind=kind_of(name),
            arn=f"arn:{self._partition}:ses:{access.region}:{access.account_id}:identity/{name}",
            verified=False,
            attributes=msgspec.to_builtins(Attributes()),
            policies={},
        )
        session.add(row)
        return row


def _shuffled(names: Iterable[str]) -> list[str]:
    """So that in an account with more identities than SES lets us read, each gets its turn."""
    order = list(names)
    SystemRandom().shuffle(order)
    return order


async def _refresh(session: AsyncSession, row: Identity, facts: Facts | None, *, began: datetime) -> None:
    """Policies that the identity's own work has read after this look began are kept."""
    if facts is not None:
        apply_facts(row, facts)
        if row.read_at is None or row.read_at < began:
            await record_policies(session, row, facts.policies)
    elif row.read_at is None:
        wake(session, row)


def _set(row: Identity, **changed: Any) -> None:
    """Changes attributes; assigned anew, because changes inside a JSON value are not noticed."""
    fresh = row.attributes | msgspec.to_builtins(changed)
    if fresh != row.attributes:
        row.attributes = fresh
