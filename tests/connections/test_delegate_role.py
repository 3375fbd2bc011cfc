"""A delegate's role: its own template, verified by its trust alone, and enough for the route that needs it."""

import json
from collections.abc import Callable
from uuid import UUID

import pytest

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections import service, verify
from broker.connections.models import Kind, State
from broker.connections.permissions import Role
from broker.connections.role_documents import role_policy, session_policy
from broker.connections.templates import Format, RolePlan, render
from broker.connections.views import ConnectionView, NewConnection
from broker.db import Database
from broker.db import Role as DatabaseRole
from broker.gateways.ses_sets import SesSets
from broker.grants.release import release
from broker.identities.discover import Discovery
from tests.conftest import MakeTenant
from tests.connections.aws import Gateways
from tests.connections.test_templates import READERS, Documents
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Aws as LocalAws


async def connect(db: Database, caller: Caller, gateways: Gateways, account_id: str, *roles: Role) -> ConnectionView:
    asked = NewConnection(kind=Kind.ROLE, account_id=account_id, regions=(REGION,), roles=roles)
    return await service.create(db, caller, asked, here=gateways.here)


@pytest.mark.parametrize(
    ("tenant", "asked", "expected"),
    [
        (("owner",), (), [Role.OWNER]),
        (("delegate",), (), [Role.DELEGATE]),
        (("owner", "delegate"), (), [Role.OWNER]),
        (("owner", "delegate"), (Role.DELEGATE, Role.OWNER), [Role.DELEGATE, Role.OWNER]),
    ],
)
async def test_a_role_is_for_what_its_tenant_is_or_asks(
    db: Database,
    make_tenant: MakeTenant,
    gateways: Gateways,
    cloud: LocalAws,
    tenant: tuple[str, ...],
    asked: tuple[Role, ...],
    expected: list[Role],
) -> None:
    caller = await make_tenant(*tenant)
    view = await connect(db, caller, gateways, cloud.account().id, *asked)

    assert expected == view.roles


V1 = [
    "ses:GetIdentityNotificationAttributes",
    "ses:SetIdentityHeadersInNotificationsEnabled",
    "ses:SetIdentityNotificationTopic",
]
"""For old cross-account notifications: the first version of SES's API knows no resources."""


async def test_a_role_of_the_delegates_template_is_verified_and_can_be_used(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    """It lacks every right of an owner's role, so nothing is looked for with it."""
    delegate, account = await make_tenant("delegate"), cloud.account()
    view = await connect(db, delegate, gateways, account.id)
    text = await service.template(db, delegate, view.id, here=gateways.here, form=Format.TERRAFORM)
    trust, policy = (json.loads(text.split(f"<<-{word}\n")[1].split(f"  {word}\n")[0]) for word in ("TRUST", "POLICY"))
    account.make_role("SesDelegationBroker", trust, policy=policy)
    await service.verify(db, delegate, view.id, here=gateways.here)
    await check(db, gateways, view.id)
    view = await service.one(db, delegate, view.id, here=gateways.here)
    access = await access_of(db, delegate, view.id)
    sets = SesSets(gateways.aws, gateways.sts, session_policy, partition="aws")
    await sets.create(access, "delegation-broker-x", tags={"a": "b"})

    assert (State.VERIFIED, None) == (view.state, view.reason)
    assert role_policy(Role.DELEGATE, account.id, "aws") == policy
    assert ["ses:GetAccount", *V1] == view.unscoped_actions
    assert ["delegation-broker-x"] == account.client("sesv2").list_configuration_sets()["ConfigurationSets"]


async def check(db: Database, gateways: Gateways, connection_id: UUID) -> None:
    discovery = Discovery(gateways.ses, partition="aws")
    await verify.run(db.as_role(DatabaseRole.WORKER), gateways.sts, discovery, release=release, only=[connection_id])


async def access_of(db: Database, caller: Caller, connection_id: UUID) -> RoleAccess:
    async with db.read(caller) as session:
        return (await service.find(session, caller, connection_id)).access(REGION)


@pytest.mark.parametrize("read", READERS)
def test_one_role_can_be_for_both(read: Callable[[RolePlan], Documents]) -> None:
    """Statements have ids of their own (IAM User Guide, reference_policies_elements_sid)."""
    plan = RolePlan("111111111111", "999999999999", "e" * 48, "SesDelegationBroker", "aws", (Role.OWNER, Role.DELEGATE))
    _, policy = read(plan)
    ids = [statement["Sid"] for statement in policy["Statement"]]
    granted = {action for statement in policy["Statement"] for action in statement["Action"]}

    assert len(set(ids)) == len(ids)
    assert all(each.isalnum() for each in ids)
    assert {"ses:CreateEmailIdentityPolicy", "iam:PassRole"} <= granted


def test_the_notes_say_what_the_role_is_for() -> None:
    plan = RolePlan("111111111111", "999999999999", "e" * 48, "SesDelegationBroker", "aws", (Role.DELEGATE,))

    assert "sending policies" not in render(plan, Format.SHELL)
