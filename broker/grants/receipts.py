"""Receipts that both parties can keep, and check without the broker."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from uuid import UUID

import msgspec
from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.chain import instant
from broker.audit.models import AuditRow, SealRow
from broker.audit.signing import Signer
from broker.caller import Caller
from broker.db import Database
from broker.grants import proof
from broker.grants.lifecycle import Paper
from broker.grants.models import Offer
from broker.grants.present import is_verified, names_of, terms_of
from broker.grants.service import find, receipt_of
from broker.grants.views import Receipt, SignedReceipt

VERSION = version("ses-delegation-broker")
MOST_STEPS = 100

_POLICIES = text("SELECT name, digest, read_at FROM policies_of_grant(:id)")
_NOW = text("SELECT now()")


async def receipt(db: Database, caller: Caller, grant_id: UUID, *, signer: Signer) -> Receipt:
    """What is known about a grant's beginning and its end, signed; `Conflict` as long as nothing was agreed."""
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
        now: datetime = (await session.execute(_NOW)).scalar_one()
        view = receipt_of(grant, offer, now)
        names = await names_of(session, {grant.owner_id, grant.delegate_id})
        agreed = await session.get_one(Offer, grant.agreed_offer_id)
        policies = (await session.execute(_POLICIES, {"id": grant.id})).all()
        steps = await _steps(session, grant.id)
    said = proof.GrantReceipt(
        grant_id=str(grant.id),
        issued_at=instant(now),
        broker_version=VERSION,
        owner=_tenant(grant.owner_id, names),
        delegate=_tenant(grant.delegate_id, names),
        identity_arn=grant.identity_arn,
        agreed=proof.Agreed(str(agreed.id), instant(agreed.decided_at or agreed.created_at), terms_of(agreed.terms)),
        state=view.state.value,
        verified=is_verified(grant),
        by_hand=grant.by_hand,
        activated_at=_told(grant.activated_at),
        expires_at=_told(grant.expires_at),
        suspended=grant.paper is Paper.PAUSED,
        ended=_ended(view),
        residual_policies=view.residual_policies,
        policies=[proof.ReadPolicy(row.name, row.digest, instant(row.read_at)) for row in policies],
        steps=[_step(row, seal) for row, seal in reversed(steps)],
        statement=view.statement,
    )
    return msgspec.structs.replace(view, signed=sign(said, signer))


def sign(said: proof.GrantReceipt, signer: Signer) -> SignedReceipt:
    """With the service's newest key."""
    plain = dict(proof.as_said(said))
    return SignedReceipt(plain, signer.sign(plain))


async def _steps(session: AsyncSession, grant_id: UUID) -> Sequence[Row[AuditRow, SealRow]]:
    """The latest first."""
    query = (
        select(AuditRow, SealRow)
        .join(SealRow, SealRow.entry_id == AuditRow.id)
        .where(AuditRow.subject_id == grant_id, AuditRow.subject_kind == "grant")
        .order_by(AuditRow.id.desc())
        .limit(MOST_STEPS)
    )
    return (await session.execute(query)).all()


def _step(row: AuditRow, seal: SealRow) -> proof.SealedStep:
    return proof.SealedStep(instant(row.at), row.action, str(seal.tenant_id), seal.position, seal.hash)


def _ended(view: Receipt) -> proof.Ended | None:
    if view.asked_at is None:
        return None
    return proof.Ended(
        asked_at=instant(view.asked_at),
        asked_by=view.asked_by or "",
        removed_at=_told(view.removed_at),
        verified_at=_told(view.verified_at),
        sealed_at=_told(view.sealed_at),
        protected_by=view.protected_by,
        protection=view.protection,
    )


def _tenant(id_: UUID, names: Mapping[UUID, str]) -> proof.Tenant:
    return proof.Tenant(str(id_), names.get(id_, ""))


def _told(at: datetime | None) -> str | None:
    return instant(at) if at is not None else None
