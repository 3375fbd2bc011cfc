"""Adopting a policy: a grant of the same meaning is proposed in its place."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.db import Database
from broker.errors import Conflict, NotFound
from broker.grants import demands
from broker.grants.adopting.replaces import Replaces, digest_of, replaced_by, stored
from broker.grants.adopting.views import Adopting
from broker.grants.lifecycle import NEGOTIABLE, Party
from broker.grants.models import Grant
from broker.grants.moves import database_time
from broker.grants.negotiate import put_forward_first
from broker.grants.views import GrantView, Proposal
from broker.identities.models import Identity
from broker.identities.service import find, keep_documents
from broker.ids import new_id
from broker.points import reach
from broker.policies.adopt import NO_END, adopt
from broker.policies.arns import principal_account
from broker.policies.plan import is_ours, room
from broker.policies.terms import Terms


async def adopt_policy(
    db: Database, caller: Caller, identity_id: UUID, name: str, wanted: Adopting, *, lifetime: timedelta
) -> GrantView:
    """Proposes a grant that means what this policy means; the policy stays until the grant's own was read back.

    `Conflict` says why terms cannot mean the same, or why the policy cannot be replaced now.
    """
    async with db.begin(caller) as session:
        identity = await find(session, caller, identity_id, lock=True)
        document = identity.policies.get(name)
        if document is None:
            raise NotFound("The identity has no policy of this name, as far as SES was read; refresh the identity.")
        await demands.require_role(session, caller, Party.OWNER)
        await _require_place(session, identity, name)
        now = await database_time(session)
        terms, narrows = _adoption(document, identity, wanted.expires_at, now)
        proposal = Proposal(identity_arn=identity.arn, terms=terms, delegate_id=wanted.delegate_id, note=wanted.note)
        delegate_id = demands.delegate(caller, identity.tenant_id, proposal)
        await _require_one_delegate(session, terms, delegate_id)
        await keep_documents(session, identity, {name: document})
        grant = Grant(
            id=new_id(),
            owner_id=identity.tenant_id,
            delegate_id=delegate_id,
            identity_id=identity.id,
            created_at=now,
            replaces=dict(stored(Replaces(name, digest_of(document), tuple(narrows)))),
        )
        view = await put_forward_first(session, caller, grant, proposal, lifetime=lifetime)
        reach("adoptions.proposed")
        return view


async def _require_place(session: AsyncSession, identity: Identity, name: str) -> None:
    """The policy is foreign, nobody else is about to replace it, and there is room for new beside old."""
    if is_ours(name):
        raise Conflict("The broker made this policy; it belongs to a grant already.")
    if not identity.verified:
        raise Conflict("This identity is not verified in SES.")
    if room(identity.policies) == 0:
        raise Conflict(
            f"SES takes no more policies on this identity, which has {len(identity.policies)}: for a moment the new "
            "one has to stand beside the old one. Remove another policy first."
        )
    rows = await session.scalars(
        select(Grant).where(Grant.identity_id == identity.id, Grant.replaces.is_not(None), Grant.paper.in_(NEGOTIABLE))
    )
    for grant in rows:
        replaces = replaced_by(grant)
        if replaces is not None and replaces.policy == name and replaces.is_open:
            raise Conflict(f"Grant {grant.id} is to replace this policy already; withdraw or end it first.")


def _adoption(
    document: str, identity: Identity, expires_at: datetime | None, now: datetime
) -> tuple[Terms, Sequence[str]]:
    """The terms, and where they permit less than the policy."""
    found = adopt(document, identity_arn=identity.arn, now=now, expires_at=expires_at)
    if found.terms is not None:
        return found.terms, found.narrows
    if found.reasons == (NO_END,):
        demands.refuse("/expires_at", NO_END)
    raise Conflict(f"Terms cannot mean the same as this policy. {' '.join(found.reasons)}")


async def _require_one_delegate(session: AsyncSession, terms: Terms, delegate_id: UUID) -> None:
    """No account of the policy is another tenant's; what nobody has proven yet, the delegate proves before approval."""
    accounts = sorted({principal_account(principal) for principal in terms.principals})
    rows = await session.execute(
        text("SELECT account_id, tenant_id FROM account_tenants(:accounts)"), {"accounts": accounts}
    )
    others = sorted(row.account_id for row in rows if row.tenant_id != delegate_id)
    if others:
        raise Conflict(
            f"The policy lets account {', '.join(others)} send, which is not this delegate's, and a grant has one "
            "delegate: write a policy for each delegate, then adopt each."
        )
