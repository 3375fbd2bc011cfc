"""A delegate's account of the local AWS with our role in it, and what the due loop does with a handler's answer."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from broker.aws_access import RoleAccess
from broker.connections import role_documents
from broker.connections.permissions import Role
from broker.connections.role_documents import role_policy, trust_policy
from broker.feedback.configuration_set import ConfigurationSets
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.models import Topic
from broker.feedback.set_rules import set_name
from broker.feedback.subscribing import BrokerSns, Subscribing
from broker.feedback.views import RouteKind
from broker.gateways.aws import Aws
from broker.gateways.ses_sets import SesSets
from broker.gateways.sns_tenant import TenantTopics
from broker.gateways.sts import StsGateway
from broker.ids import new_id
from tests.connections.aws import EXTERNAL_ID
from tests.feedback.conftest import World
from tests.sandbox.aws import REGION, Account

BROKER = "999999999999"


def delegate_role(account: Account, *, without: Sequence[str] = ()) -> RoleAccess:
    """The role of the delegate's template, and how to act through it; `without` leaves actions out."""
    policy = role_policy(Role.DELEGATE, account.id, "aws")
    for statement in policy["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action not in without]
    policy["Statement"] = [statement for statement in policy["Statement"] if statement["Action"]]
    arn = account.make_role("SesDelegationBroker", trust_policy(BROKER, "aws", EXTERNAL_ID), policy=policy)
    return RoleAccess(new_id(), account.id, arn, EXTERNAL_ID, REGION)


def handler(
    aws: Aws, sts: StsGateway, sns: BrokerSns, endpoint: str, *, dead_letters: str | None = None
) -> ConfigurationSets:
    """As it is built in production, with one endpoint and one queue of dead letters for every Region."""
    return ConfigurationSets(
        SesSets(aws, sts, role_documents.session_policy, partition="aws"),
        TenantTopics(aws, sts, role_documents.session_policy),
        Subscribing(sns, lambda _region: endpoint, lambda _region: dead_letters),
        partition="aws",
        broker_account=BROKER,
    )


def work_for(access: RoleAccess | None, **changes: Any) -> RouteWork:
    """A route of a grant to this account, at which nothing was done yet."""
    grant_id = new_id()
    given: dict[str, Any] = {
        "id": new_id(),
        "kind": RouteKind.configuration_set,
        "owner_id": new_id(),
        "delegate_id": access.tenant_id if access else new_id(),
        "grant_id": grant_id,
        "identity_id": new_id(),
        "identity": "example.com",
        "identity_arn": f"arn:aws:ses:{REGION}:111111111111:identity/example.com",
        "region": REGION,
        "accounts": (access.account_id,) if access else ("222222222222",),
        "from_addresses": (),
        "owner": None,
        "delegate": access,
        "settings": {},
        "previous": None,
        "found": {},
        "topic_arn": None,
        "live_at": None,
        "ended": False,
        "fence": 0,
    }
    return RouteWork(**(given | changes))


def after(work: RouteWork, checked: Checked) -> RouteWork:
    """The same route when the answer was stored: its topic is known, and confirmed where it is subscribed to."""
    confirmed = checked.topic is not None and checked.topic.subscription_arn is not None
    return msgspec.structs.replace(
        work,
        previous=work.previous if checked.previous is None else checked.previous,
        found=work.found if checked.found is None else checked.found,
        topic_arn=checked.topic.arn if confirmed and checked.topic else work.topic_arn,
    )


async def know_topic(world: World, checked: Checked) -> None:
    """Writes the tenant's topic down, as whoever runs the handler does."""
    topic = checked.topic
    assert topic is not None
    async with world.db.begin(world.delegate) as session:
        row = (await session.scalars(select(Topic).where(Topic.arn == topic.arn))).one_or_none()
        if row is None:
            row = Topic(id=new_id(), tenant_id=topic.tenant_id, source="tenant_topic", region=REGION, state="pending")
            session.add(row)
        row.arn, row.accounts = topic.arn, [topic.arn.split(":")[4]]
        row.configuration_set = topic.configuration_set
        if topic.subscription_arn is not None:
            row.state, row.subscription_arn = "confirmed", topic.subscription_arn
        await session.flush()


async def topic_state(world: World) -> str:
    """Of the delegate's one topic."""
    async with world.db.read(world.delegate) as session:
        return (await session.scalars(select(Topic.state).where(Topic.source == "tenant_topic"))).one()


def ours(work: RouteWork) -> str:
    """The name of the set and of the topic."""
    return set_name(work.grant_id)


def listed(account: Account, name: str) -> list[dict[str, Any]]:
    """The destinations that SES shows to the account itself."""
    found = account.client("sesv2").get_configuration_set_event_destinations(ConfigurationSetName=name)
    return list(found["EventDestinations"])
