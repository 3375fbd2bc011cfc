"""The owner's decision about a delegate's `foreign_topic`."""

from typing import Annotated
from uuid import UUID

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.due import wake
from broker.errors import Conflict, Invalid, NotFound
from broker.feedback import holders, service
from broker.feedback.foreign_terms import Decision, ForeignTopicSettings, account_of, agreed, flaws
from broker.feedback.holders import Holder
from broker.feedback.models import Route
from broker.feedback.views import RouteKind, RouteState, RouteView
from broker.grants.models import Grant
from broker.grants.views import Reason
from broker.idempotency import remember
from broker.identities.models import Identity

_STANDS = frozenset({RouteState.configured, RouteState.live, RouteState.quiet})
SETTING_UP = "The owner has approved; it is being set up in SES."


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The owner's yes."""

    replace: Annotated[
        bool,
        msgspec.Meta(
            description="Let it take the place of the topics that are set now; they are recorded and put back later",
            examples=[False],
        ),
    ] = False


async def approve(db: Database, caller: Caller, route_id: UUID, wanted: Approval) -> RouteView:
    """Has the delegate's topics set on the owner's identity. `Conflict` while a slot is taken, without `replace`.

    Approving again, with or without `replace`, is how an owner answers a route that has become pending or broken.
    """
    async with db.begin(caller) as session:
        route = await _to_decide(session, caller, route_id)
        asked = agreed(route.settings)
        if asked.decision is not None and RouteState(route.state) in _STANDS:
            raise Conflict("This route is approved and set up already.")
        await require_proven(session, route.delegate_id, asked)
        # One decision at a time on an identity, so that the later one is known as such.
        identity = await session.get_one(Identity, route.identity_id, with_for_update={"key_share": True})
        if not wanted.replace and (why := await _conflict(session, route, identity.name)):
            raise Conflict(f"{why} Approve with `replace` to let the delegate's topic take that place, or decline.")
        now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        decision = Decision(at=now, replace=wanted.replace)
        route.settings = route.settings | {"decision": msgspec.to_builtins(decision)}
        route.state, route.reason, route.choices = RouteState.pending.value, SETTING_UP, []
        wake(session, route)
        await _note(session, caller, route, "approved", replace=wanted.replace)
        return await remember(session, caller, await service.view_of(session, caller, route.id))


async def decline(db: Database, caller: Caller, route_id: UUID, why: Reason) -> RouteView:
    """Says no; nothing was ever set. What was approved is removed instead."""
    async with db.begin(caller) as session:
        route = await _to_decide(session, caller, route_id)
        if agreed(route.settings).decision is not None:
            raise Conflict(f"You approved this route; take it back with DELETE /v1/routes/{route.id}.")
        route.state, route.wanted, route.choices, route.due_at = RouteState.removed.value, False, [], None
        route.reason = "The owner has declined." + (f" {why.note}" if why.note else "")
        await _note(session, caller, route, "declined", note=why.note)
        return await remember(session, caller, await service.view_of(session, caller, route.id))


async def check_request(session: AsyncSession, grant: Grant, asked: ForeignTopicSettings) -> None:
    """What making a route of this kind has to satisfy; `Invalid` names every field that SES or we would refuse."""
    accounts = {account_of(slot.topic or "") for slot in asked.wanted.values()}
    proven = await proven_of(session, grant.delegate_id, accounts)
    wrong = flaws(asked, identity_arn=grant.identity_arn, proven=proven)
    if wrong:
        raise Invalid("The settings are not valid: " + " ".join(flaw.detail for flaw in wrong), flaws=wrong)


async def require_proven(session: AsyncSession, delegate_id: UUID, asked: ForeignTopicSettings) -> None:
    """Every topic is in an account that the delegate has proven: else a stranger's would hear of the owner's mail."""
    accounts = {account_of(slot.topic or "") for slot in asked.wanted.values()}
    missing = sorted(accounts - await proven_of(session, delegate_id, accounts))
    if missing:
        raise Conflict(f"The delegate has not proven account {', '.join(missing)}; it connects it, then try again.")


async def proven_of(session: AsyncSession, tenant_id: UUID, accounts: set[str]) -> frozenset[str]:
    """Those of the accounts that are bound to this tenant."""
    rows = await session.execute(
        text("SELECT account_id, tenant_id FROM account_tenants(:accounts)"), {"accounts": sorted(accounts)}
    )
    return frozenset(row.account_id for row in rows if row.tenant_id == tenant_id)


async def _to_decide(session: AsyncSession, caller: Caller, route_id: UUID) -> Route:
    query = select(Route).where(Route.id == route_id, service.visible_to(caller)).with_for_update()
    route = (await session.scalars(query)).one_or_none()
    if route is None:
        raise NotFound("There is no route with this id.")
    if route.tenant_id != caller.tenant:
        raise Conflict("Only the owner of the identity can decide about this route.")
    if route.kind != RouteKind.foreign_topic.value:
        raise Conflict(f"A route of the kind {route.kind} needs no decision; only a foreign_topic does.")
    grant = await session.get_one(Grant, route.grant_id)
    if not route.wanted or route.state == RouteState.removed.value or grant.ended_at is not None:
        raise Conflict("This route is being removed or its grant has ended: there is nothing to decide.")
    return route


async def _conflict(session: AsyncSession, route: Route, identity: str) -> str | None:
    """By what SES held at the last look and by what else was approved meanwhile."""
    others = await holders.rivals(session, identity_id=route.identity_id, besides=route.id)
    seen = {kind: Holder(who) for kind, who in route.found.get("slots", {}).items()}
    held = seen | holders.promised(agreed(route.settings), others)
    return holders.conflict(identity, held)


async def _note(session: AsyncSession, caller: Caller, route: Route, what: str, **details: object) -> None:
    subject = ("route", route.id)
    await record(session, caller, f"route.{what}", subject=subject, counterpart_id=route.delegate_id, **details)
