"""Who keeps an account that two tenants show: a role goes before a mere proof, and the operator before both."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.models import AuditRow
from broker.caller import Caller
from broker.connections import displace, service
from broker.connections.binding import TAKEN
from broker.connections.models import Kind, State
from broker.connections.views import ConnectionView
from broker.db import Database, Role
from broker.errors import Conflict, NotFound
from tests.conftest import MakeTenant
from tests.connections.aws import Gateways, connected, make_role, presigned
from tests.connections.test_false_claims import holder
from tests.connections.test_prove import nonce_of, proven
from tests.connections.test_verify import due_again, events_of, verified
from tests.sandbox.aws import Account
from tests.sandbox.aws import Aws as LocalAws


async def by_proof(
    db: Database, gateways: Gateways, cloud: LocalAws, tenant: Caller, account: Account, kind: Kind = Kind.PROOF
) -> ConnectionView:
    view = await connected(db, tenant, gateways, account.id, kind)
    return await proven(db, gateways, tenant, view, presigned(cloud, account.keys, nonce_of(view)))


async def by_role(db: Database, gateways: Gateways, tenant: Caller, account: Account) -> ConnectionView:
    view = await connected(db, tenant, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")
    return await verified(db, gateways, tenant, view)


async def audited(db: Database, tenant: Caller, connection_id: UUID) -> list[tuple[str, str, Mapping[str, Any]]]:
    async with db.read(tenant) as session:
        query = select(AuditRow).where(AuditRow.subject_id == connection_id).order_by(AuditRow.id)
        return [(row.action, row.actor, row.details) for row in await session.scalars(query)]


@pytest.mark.parametrize("kind", [Kind.PROOF, Kind.MANUAL])
async def test_a_role_takes_the_account_from_a_mere_proof(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws, kind: Kind
) -> None:
    intern, administrator, account = await make_tenant(), await make_tenant(), cloud.account()
    proof = await by_proof(db, gateways, cloud, intern, account, kind)

    role = await by_role(db, gateways, administrator, account)

    assert (State.VERIFIED, administrator.tenant) == (role.state, await holder(db, account.id))
    lost = await service.one(db, intern, proof.id, here=gateways.here)
    assert (State.LOST, displace.DISPLACED) == (lost.state, lost.reason)
    assert ["connection.verified", "connection.lost"] == await events_of(db, intern)


async def test_the_loser_finds_it_in_its_audit_trail_and_learns_nobodys_name(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    intern, administrator, account = await make_tenant(), await make_tenant(), cloud.account()
    proof = await by_proof(db, gateways, cloud, intern, account)
    await by_role(db, gateways, administrator, account)

    trail = await audited(db, intern, proof.id)

    assert ["account.released", "connection.lost"] == [action for action, _, _ in trail[-2:]]
    assert {"system:displace"} == {actor for _, actor, _ in trail[-2:]}
    assert account.id == trail[-2][2]["account_id"]
    assert str(administrator.tenant) not in str(trail)


async def test_whoever_lost_it_cannot_prove_it_back(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    intern, administrator, account = await make_tenant(), await make_tenant(), cloud.account()
    proof = await by_proof(db, gateways, cloud, intern, account)
    await by_role(db, gateways, administrator, account)
    again = await service.verify(db, intern, proof.id, here=gateways.here)

    with pytest.raises(Conflict, match="make a role in it") as refusal:
        await proven(db, gateways, intern, again, presigned(cloud, account.keys, nonce_of(again)))

    assert (TAKEN, administrator.tenant) == (refusal.value.detail, await holder(db, account.id))


async def test_a_role_is_not_displaced_by_another_role(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    first, second, account = await make_tenant(), await make_tenant(), cloud.account()
    await by_role(db, gateways, first, account)
    other = await connected(db, second, gateways, account.id, Kind.ROLE)
    account.client("iam").delete_role_policy(RoleName="SesDelegationBroker", PolicyName=_policy(account))
    account.client("iam").delete_role(RoleName="SesDelegationBroker")
    make_role(account, other.external_id or "")

    view = await verified(db, gateways, second, other)

    assert (State.LOST, first.tenant) == (view.state, await holder(db, account.id))
    assert "ask the operator of the broker" in (view.reason or "")


def _policy(account: Account) -> str:
    listed = account.client("iam").list_role_policies(RoleName="SesDelegationBroker")
    return str(listed["PolicyNames"][0])


async def test_a_role_that_others_could_use_displaces_nobody(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    """Only a role that was found good counts."""
    first, second, account = await make_tenant(), await make_tenant(), cloud.account()
    await by_proof(db, gateways, cloud, first, account)
    other = await connected(db, second, gateways, account.id, Kind.ROLE)
    make_role(account, "0" * 48)

    view = await verified(db, gateways, second, other)

    assert (State.PENDING, first.tenant) == (view.state, await holder(db, account.id))


async def nothing_rests_on_it(_: AsyncSession, __: UUID) -> None:
    """As `broker.grants.release` where there is no grant."""


async def a_grant_rests_on_it(_: AsyncSession, __: UUID) -> None:
    raise Conflict("1 grant needs this connection; end them first, and wait until their removal is verified.")


async def test_a_proof_with_a_live_grant_is_kept(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    delegate, claimant, account = await make_tenant(), await make_tenant(), cloud.account()
    proof = await by_proof(db, gateways, cloud, delegate, account)
    worker = db.as_role(Role.WORKER)

    await displace.displace(worker, account.id, claimant.tenant, release=a_grant_rests_on_it)

    kept = await service.one(db, delegate, proof.id, here=gateways.here)
    assert (State.VERIFIED, None, delegate.tenant) == (kept.state, kept.reason, await holder(db, account.id))
    with pytest.raises(Conflict, match="1 grant needs this connection"):
        await displace.release_account(worker, account.id, why="x", release=a_grant_rests_on_it)


@pytest.mark.parametrize("kind", [Kind.ROLE, Kind.PROOF])
async def test_the_operator_takes_it_from_anybody_and_says_why(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws, kind: Kind
) -> None:
    tenant, account = await make_tenant(), cloud.account()
    is_role = kind is Kind.ROLE
    view = await (by_role(db, gateways, tenant, account) if is_role else by_proof(db, gateways, cloud, tenant, account))
    worker = db.as_role(Role.WORKER)

    taken = await displace.release_account(worker, account.id, why="sold to another", release=nothing_rests_on_it)

    lost = await service.one(db, tenant, view.id, here=gateways.here)
    assert (view.id, State.LOST, None) == (taken, lost.state, await holder(db, account.id))
    assert "The operator of the broker has released this account: sold to another" == lost.reason
    assert "system:operator" == (await audited(db, tenant, view.id))[-1][1]
    with pytest.raises(NotFound, match="bound to nobody"):
        await displace.release_account(worker, account.id, why="again", release=nothing_rests_on_it)


async def test_a_role_that_the_operator_released_is_not_bound_again_by_itself(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    tenant, account = await make_tenant(), cloud.account()
    view = await by_role(db, gateways, tenant, account)
    await displace.release_account(db.as_role(Role.WORKER), account.id, why="disputed", release=nothing_rests_on_it)

    async with db.read(tenant) as session:
        due = await session.scalar(text("SELECT due_at FROM connections WHERE id = :id"), {"id": view.id})

    assert due is None
    await due_again(db, tenant, view.id)  # what asking for verification does
    assert State.VERIFIED is (await verified(db, gateways, tenant, view)).state
