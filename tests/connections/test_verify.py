"""Checking roles in the local AWS, as the worker does it."""

import asyncio
import json
from uuid import UUID

import pytest
from sqlalchemy import select, text

from broker.audit import service as audit
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections import service, verify
from broker.connections.binding import bind
from broker.connections.models import Account, Kind, State
from broker.connections.permissions import Role
from broker.connections.role_documents import role_policy, trust_policy
from broker.connections.views import ConnectionView
from broker.db import Database
from broker.db import Role as DatabaseRole
from broker.grants.release import release
from broker.identities import service as identities
from broker.identities.discover import Discovery, RegionSeen
from broker.webhooks.models import EventRow
from tests.conftest import MakeTenant, new_tenant
from tests.connections.aws import Gateways, connected, foreign_policy, make_role
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Account as LocalAccount
from tests.sandbox.aws import Aws as LocalAws


async def check(db: Database, gateways: Gateways, connection_id: UUID) -> int:
    discovery = Discovery(gateways.ses, partition="aws")
    worker = db.as_role(DatabaseRole.WORKER)
    return await verify.run(worker, gateways.sts, discovery, release=release, only=[connection_id])


async def verified(db: Database, gateways: Gateways, owner: Caller, view: ConnectionView) -> ConnectionView:
    """Asks for verification, has the worker do it, and looks."""
    await service.verify(db, owner, view.id, here=gateways.here)
    assert await check(db, gateways, view.id) == 1
    return await service.one(db, owner, view.id, here=gateways.here)


async def due_again(db: Database, owner: Caller, connection_id: UUID) -> None:
    """As if the time of the next check had come."""
    async with db.begin(owner) as session:
        await session.execute(
            text("UPDATE connections SET due_at = now(), claimed_until = NULL WHERE id = :id"), {"id": connection_id}
        )


async def events_of(db: Database, owner: Caller) -> list[str]:
    async with db.read(owner) as session:
        return list(await session.scalars(select(EventRow.type).order_by(EventRow.id)))


def trusting(account: LocalAccount, condition: dict[str, object] | None) -> None:
    """A role whose trust policy has another condition than the template's, or none."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
        "Action": "sts:AssumeRole",
    }
    if condition:
        statement["Condition"] = condition
    account.make_role(
        "SesDelegationBroker",
        {"Version": "2012-10-17", "Statement": [statement]},
        policy=role_policy(Role.OWNER, account.id, "aws"),
    )


async def test_a_role_that_demands_our_external_id_is_verified_and_its_account_bound(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")

    view = await verified(db, gateways, owner, view)

    assert (State.VERIFIED, None) == (view.state, view.reason)
    assert view.verified_at is not None
    assert await events_of(db, owner) == ["connection.verified"]
    async with db.read(owner) as session:
        assert await session.scalar(select(Account.connection_id).where(Account.account_id == account.id)) == view.id


async def test_identities_are_found_when_a_role_is_verified(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account, other = await make_tenant("owner"), cloud.account(), cloud.account()
    document = foreign_policy(account.verify("example.com"), other.id)
    account.client("sesv2").create_email_identity_policy(
        EmailIdentity="example.com", PolicyName="their-own", Policy=document
    )
    account.verify("Ann@example.com")
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")

    await verified(db, gateways, owner, view)

    found = {view.name: view for view in await identities.page(db, owner, after=None, limit=10)}
    assert {"example.com": "domain", "Ann@example.com": "email"} == {name: each.kind for name, each in found.items()}
    domain = found["example.com"]
    assert domain.arn == f"arn:aws:ses:{REGION}:{account.id}:identity/example.com"
    assert domain.verified
    assert [("their-own", False)] == [(policy.name, policy.ours) for policy in domain.policies]
    assert domain.room_left == 19
    assert domain.attributes.overlapping == ("Ann@example.com",)
    assert domain.attributes.production_access is False


async def test_a_role_that_does_not_exist_yet_is_waited_for(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)

    waiting = await verified(db, gateways, owner, view)
    make_role(account, view.external_id or "")
    await due_again(db, owner, view.id)
    await check(db, gateways, view.id)

    assert waiting.state is State.PENDING
    assert "cannot be assumed" in (waiting.reason or "")
    assert (await service.one(db, owner, view.id, here=gateways.here)).state is State.VERIFIED


@pytest.mark.parametrize(
    ("condition", "reason"),
    [(None, "without an ExternalId"), ({"StringLike": {"sts:ExternalId": "*"}}, "with another ExternalId")],
)
async def test_a_role_that_does_not_demand_our_external_id_is_refused(
    db: Database,
    make_tenant: MakeTenant,
    gateways: Gateways,
    cloud: LocalAws,
    condition: dict[str, object] | None,
    reason: str,
) -> None:
    """Anybody who can make us act could use such a role through us."""
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    trusting(account, condition)

    view = await verified(db, gateways, owner, view)

    assert view.state is State.LOST
    assert reason in (view.reason or "")
    assert await identities.page(db, owner, after=None, limit=10) == []
    assert await events_of(db, owner) == ["connection.lost"]


async def test_a_refused_role_is_checked_again_when_its_owner_asks(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    trusting(account, None)
    await verified(db, gateways, owner, view)
    account.client("iam").update_assume_role_policy(
        RoleName="SesDelegationBroker", PolicyDocument=_trust_json(view.external_id or "")
    )

    assert (await verified(db, gateways, owner, view)).state is State.VERIFIED


class Overtaken(Discovery):
    """While it looks, another worker takes the connection over."""

    def __init__(self, gateways: Gateways, db: Database, owner: Caller) -> None:
        super().__init__(gateways.ses, partition="aws")
        self._db, self._owner = db, owner

    async def look(self, access: RoleAccess, *, probe: bool) -> RegionSeen:
        async with self._db.begin(self._owner) as session:
            await session.execute(text("UPDATE connections SET fence = fence + 1"))
        return await super().look(access, probe=probe)


async def test_a_worker_that_was_overtaken_writes_nothing(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    account.verify("example.com")
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")
    await service.verify(db, owner, view.id, here=gateways.here)

    worker = db.as_role(DatabaseRole.WORKER)
    await verify.run(worker, gateways.sts, Overtaken(gateways, db, owner), release=release, only=[view.id])

    assert (await service.one(db, owner, view.id, here=gateways.here)).state is State.PENDING
    assert await identities.page(db, owner, after=None, limit=10) == []
    assert await events_of(db, owner) == []


async def test_one_of_two_tenants_who_prove_an_account_at_once_gets_it(
    committed_db: Database, gateways: Gateways, cloud: LocalAws
) -> None:
    account = cloud.account()
    owners = [await new_tenant(committed_db, "owner") for _ in range(4)]
    views = [await connected(committed_db, owner, gateways, account.id, Kind.ROLE) for owner in owners]

    async def prove(owner: Caller, connection_id: UUID) -> bool:
        async with committed_db.begin(owner) as session:
            return await bind(session, await service.find(session, owner, connection_id, lock=True))

    won = await asyncio.gather(*(prove(owner, view.id) for owner, view in zip(owners, views, strict=True)))

    assert sorted(won) == [False, False, False, True]


async def test_a_role_without_a_right_that_is_needed_waits_and_says_which(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    account.verify("example.com")
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "", without=("ses:DeleteEmailIdentityPolicy",))

    view = await verified(db, gateways, owner, view)

    assert view.state is State.PENDING
    assert "DeleteEmailIdentityPolicy" in (view.reason or "")


async def test_checking_rights_changes_nothing_in_the_account(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account, other = await make_tenant("owner"), cloud.account(), cloud.account()
    document = foreign_policy(account.verify("example.com"), other.id)
    ses = account.client("sesv2")
    ses.create_email_identity_policy(EmailIdentity="example.com", PolicyName="their-own", Policy=document)
    before = ses.get_email_identity_policies(EmailIdentity="example.com")["Policies"]
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")

    await verified(db, gateways, owner, view)

    assert before == ses.get_email_identity_policies(EmailIdentity="example.com")["Policies"]


async def test_an_account_that_another_tenant_has_proven_is_refused(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    """Even where the second tenant has a role in it: the first proof counts, and nothing is said about whose it is."""
    first, second, account = await make_tenant("owner"), await make_tenant("owner"), cloud.account()
    mine = await connected(db, first, gateways, account.id, Kind.ROLE)
    make_role(account, mine.external_id or "")
    await verified(db, gateways, first, mine)
    theirs = await connected(db, second, gateways, account.id, Kind.ROLE)
    account.client("iam").update_assume_role_policy(
        RoleName="SesDelegationBroker", PolicyDocument=_trust_json(theirs.external_id or "")
    )

    view = await verified(db, gateways, second, theirs)

    assert view.state is State.LOST
    assert "already bound to another tenant" in (view.reason or "")


async def test_a_verified_role_that_goes_away_degrades_and_comes_back(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")
    await verified(db, gateways, owner, view)
    iam = account.client("iam")
    iam.update_assume_role_policy(RoleName="SesDelegationBroker", PolicyDocument=_trust_json("0" * 48))
    degraded = await verified(db, gateways, owner, view)
    iam.update_assume_role_policy(RoleName="SesDelegationBroker", PolicyDocument=_trust_json(view.external_id or ""))

    back = await verified(db, gateways, owner, view)

    assert [State.DEGRADED, State.VERIFIED] == [degraded.state, back.state]
    assert ["connection.verified", "connection.degraded", "connection.verified"] == await events_of(db, owner)


async def test_throttling_leaves_a_new_connection_pending_and_tries_again(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")
    cloud.control("POST", "faults", {"operation": "ListEmailIdentities", "error": "throttle", "times": 1})

    pending = await verified(db, gateways, owner, view)
    await due_again(db, owner, view.id)
    await check(db, gateways, view.id)

    assert pending.state is State.PENDING
    assert (await service.one(db, owner, view.id, here=gateways.here)).state is State.VERIFIED


async def test_a_check_that_is_repeated_changes_nothing(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    account.verify("example.com")
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")
    first = await verified(db, gateways, owner, view)
    before = await identities.page(db, owner, after=None, limit=10)
    await due_again(db, owner, view.id)

    await check(db, gateways, view.id)

    assert first == await service.one(db, owner, view.id, here=gateways.here)
    assert [each.id for each in before] == [each.id for each in await identities.page(db, owner, after=None, limit=10)]
    entries = await audit.entries(db, owner, audit.Filters(subject_id=view.id))
    assert [entry.action for entry in entries].count("connection.verified") == 1


def _trust_json(external_id: str) -> str:

    return json.dumps(trust_policy("999999999999", "aws", external_id))


async def test_discovery_keeps_to_one_call_a_second(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    """SES takes no more for an account, Region and operation (SES Developer Guide, quotas)."""
    owner, account = await make_tenant("owner"), cloud.account()
    names = {"example.com", "example.org"}
    for name in names:
        account.verify(name)
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")

    cloud.control("PATCH", "dialect", {"rate_limit_per_second": 1})
    try:
        view = await verified(db, gateways, owner, view)
    finally:
        cloud.control("PATCH", "dialect", {"rate_limit_per_second": None})

    found = await identities.page(db, owner, after=None, limit=10)
    assert view.state is State.VERIFIED
    assert names == {each.name for each in found if each.attributes.feedback_forwarding}
