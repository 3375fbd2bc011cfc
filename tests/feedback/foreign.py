"""What the tests of topics that the broker does not see share: both accounts on a local AWS, and a turn of the loop."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import select, update

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections import role_documents
from broker.connections.models import Account as BoundAccount
from broker.connections.models import Connection
from broker.connections.permissions import Role
from broker.connections.role_documents import role_policy, trust_policy
from broker.db import Database
from broker.db import Role as DbRole
from broker.feedback.beneath import children_of, from_addresses_of
from broker.feedback.foreign_topic import ForeignTopic
from broker.feedback.handling import Beside, Checked, Handler, RouteWork
from broker.feedback.models import Route
from broker.feedback.views import NewRoute, RouteKind
from broker.gateways.aws import Aws, Credentials
from broker.gateways.http import HttpFetcher
from broker.gateways.ses_notifications import NotificationsGateway
from broker.gateways.sts import StsGateway
from broker.grants.models import Grant
from broker.identities.models import Identity
from broker.ids import new_id
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Settings
from tests.connections.aws import EXTERNAL_ID, make_role
from tests.feedback.conftest import World, make_world
from tests.sandbox.aws import REGION, Account, allow
from tests.sandbox.aws import Aws as LocalAws

DIALECTS = {
    "source_account": Dialect(sns_retry_seconds=0.02),
    "source_owner": Dialect(sns_retry_seconds=0.02, source_key="SourceOwner", clearing_without_forwarding="forwards"),
}


@asynccontextmanager
async def notifications_of(local: LocalAws, settings: Settings) -> AsyncIterator[NotificationsGateway]:
    """The gateway of a broker whose AWS is the local one."""
    here = msgspec.structs.replace(settings, aws_endpoint_url=local.url, aws_region=REGION)
    made = local.control("POST", "accounts", {"account_id": here.aws_account_id})
    aws = Aws(here, own=Credentials(made["access_key_id"], made["secret_access_key"]))
    fetcher = HttpFetcher(trusted_url=local.url)
    yield NotificationsGateway(aws, StsGateway(aws, fetcher, here), role_documents.session_policy)
    await fetcher.close()
    await aws.close()


@pytest.fixture(scope="module", params=list(DIALECTS))
def local(request: pytest.FixtureRequest) -> Iterator[LocalAws]:
    """A local AWS under either value of the switches that touch notifications."""
    with start_in_thread(dialect=DIALECTS[request.param]) as running:
        yield LocalAws(running)


@pytest_asyncio.fixture
async def ses(local: LocalAws, settings: Settings) -> AsyncIterator[NotificationsGateway]:
    async with notifications_of(local, settings) as gateway:
        yield gateway


class Scene(msgspec.Struct, frozen=True):
    """A world whose two parties have real accounts with our role in them."""

    world: World
    local: LocalAws
    owner: Account
    delegate: Account
    owner_access: RoleAccess
    delegate_access: RoleAccess

    @property
    def name(self) -> str:
        return self.world.identity_arn.rpartition("/")[2]

    def topic(self, name: str, account: Account | None = None, *, for_account: str | None = None) -> str:
        """A topic that SES may publish to on behalf of the owner, whichever key it says so by."""
        account, publisher = account or self.delegate, for_account or self.owner.id
        arn = account.make_topic(name)
        key = f"aws:{self.local.cloud.dialect.source_key}"
        document = allow(
            "sns:Publish",
            arn,
            principal={"Service": "ses.amazonaws.com"},
            Condition={"StringEquals": {key: publisher}},
        )
        given = {"TopicArn": arn, "AttributeName": "Policy", "AttributeValue": json.dumps(document)}
        account.client("sns").set_topic_attributes(**given)
        return arn

    def handlers(self, ses: NotificationsGateway) -> dict[RouteKind, Handler]:
        """Of the delegate's own topic alone."""
        return {RouteKind.foreign_topic: ForeignTopic(self.world.db.as_role(DbRole.WORKER), ses)}

    def asked(self, **settings: Any) -> NewRoute:
        """What the delegate asks for."""
        return NewRoute(grant_id=self.world.grant_id, kind=RouteKind.foreign_topic, settings=settings)

    def settings_in_ses(self, name: str | None = None) -> dict[str, Any]:
        """An identity's notifications as its owner sees them, the grant's own unless another is named."""
        name = name or self.name
        found = self.owner.client("ses").get_identity_notification_attributes(Identities=[name])
        return dict(found["NotificationAttributes"][name])

    def set_topic(self, kind: str, arn: str | None, name: str | None = None) -> None:
        """By the owner's own hand."""
        named = {"Identity": name or self.name, "NotificationType": kind} | ({"SnsTopic": arn} if arn else {})
        self.owner.client("ses").set_identity_notification_topic(**named)

    async def make_route(
        self, kind: RouteKind, settings: dict[str, Any], *, grant_id: UUID | None = None, **values: Any
    ) -> UUID:
        """A route as it is when it was asked for."""
        world = self.world
        second = grant_id == world.second_grant_id
        route = Route(
            id=new_id(),
            tenant_id=world.owner.tenant,
            delegate_id=(world.second if second else world.delegate).tenant,
            grant_id=grant_id or world.grant_id,
            identity_id=values.pop("identity_id", world.identity_id),
            kind=kind.value,
            state="requested",
            made_by="delegate",
            settings=settings,
            **values,
        )
        async with world.db.begin(world.owner) as session:
            session.add(route)
        return route.id

    async def route(self, route_id: UUID) -> Route:
        async with self.world.db.read(self.world.owner) as session:
            return (await session.scalars(select(Route).where(Route.id == route_id))).one()

    async def change_route(self, route_id: UUID, **values: Any) -> None:
        async with self.world.db.begin(self.world.owner) as session:
            await session.execute(update(Route).where(Route.id == route_id).values(**values))

    async def work(self, route_id: UUID, *, by_role: bool = True) -> RouteWork:
        """What the due loop hands to a handler."""
        route, world = await self.route(route_id), self.world
        async with world.db.read(world.owner) as session:
            grant = await session.get_one(Grant, route.grant_id)
            identity = await session.get_one(Identity, route.identity_id)
            children = await children_of(session, identity)
        return RouteWork(
            id=route.id,
            kind=RouteKind(route.kind),
            owner_id=route.tenant_id,
            delegate_id=route.delegate_id,
            grant_id=route.grant_id,
            identity_id=route.identity_id,
            identity=identity.name,
            identity_arn=identity.arn,
            region=identity.region,
            accounts=tuple(grant.accounts),
            from_addresses=from_addresses_of(grant),
            owner=self.owner_access if by_role else None,
            delegate=self.delegate_access if by_role else None,
            settings=route.settings,
            previous=route.previous,
            found=route.found,
            topic_arn=None,
            live_at=route.live_at,
            ended=grant.ended_at is not None,
            fence=route.fence,
            delegates=(self.delegate_access,) if by_role else (),
            connected=frozenset({self.delegate.id}),
            beside=Beside(children=children),
        )

    async def turn(self, handler: Handler, route_id: UUID, *, by_role: bool = True) -> Checked:
        """One turn of the due loop: check or remove, and what came of it is written down."""
        work, wanted = await self.work(route_id, by_role=by_role), (await self.route(route_id)).wanted
        checked = await (handler.check(work) if wanted else handler.remove(work))
        seen = {"previous": checked.previous, "found": checked.found}
        values: dict[str, Any] = {name: value for name, value in seen.items() if value is not None}
        values |= {"state": checked.state.value, "reason": checked.reason, "choices": list(checked.choices)}
        await self.change_route(route_id, **values)
        return checked

    async def forget(self, route_id: UUID) -> None:
        """It is to be removed."""
        await self.change_route(route_id, wanted=False)


async def make_scene(db: Database, local: LocalAws, *, may_test: bool = False) -> Scene:
    """An identity of an owner with a grant for a delegate, the broker's topic not set yet."""
    owner, delegate = local.account(), local.account()
    for account in (owner, delegate):
        account.leave_sandbox()
    role = make_role(owner, EXTERNAL_ID)
    policy = role_policy(Role.DELEGATE, delegate.id, "aws")
    if not may_test:
        policy["Statement"] = [each for each in policy["Statement"] if "ses:SendEmail" not in each["Action"]]
    theirs = delegate.make_role("SesDelegationBroker", trust_policy("999999999999", "aws", EXTERNAL_ID), policy=policy)
    world = await make_world(db, owner_account=owner.id, delegate_account=delegate.id, external_id=EXTERNAL_ID)
    name = world.identity_arn.rpartition("/")[2]
    owner.verify(name)
    sending = allow(["ses:SendEmail"], world.identity_arn, principal={"AWS": delegate.id})
    owner.client("sesv2").create_email_identity_policy(EmailIdentity=name, PolicyName="d", Policy=json.dumps(sending))
    await prove(db, world.delegate, delegate.id)
    return Scene(
        world,
        local,
        owner,
        delegate,
        RoleAccess(world.owner.tenant, owner.id, role, EXTERNAL_ID, REGION),
        RoleAccess(world.delegate.tenant, delegate.id, theirs, EXTERNAL_ID, REGION),
    )


async def prove(db: Database, tenant: Caller, account_id: str) -> None:
    """The account is bound to the tenant."""
    connection_id = new_id()
    async with db.begin(tenant) as session:
        session.add(
            Connection(
                id=connection_id,
                tenant_id=tenant.tenant,
                kind="proof",
                account_id=account_id,
                regions=[REGION],
                external_id="x" * 32,
                state="verified",
            )
        )
        await session.flush()
        session.add(BoundAccount(account_id=account_id, tenant_id=tenant.tenant, connection_id=connection_id))
