"""Keeps the broker's own topics: one per owner and Region, open to that owner's SES, subscribed to by us."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import msgspec
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.due import Claim, Superseded, back_off, settle, wake
from broker.errors import Refused, Unavailable
from broker.feedback.models import Route, Topic
from broker.identities.models import Identity
from broker.points import reach
from broker.settings import Settings

KIND = "topics"
LEASE = timedelta(seconds=60)
AT_ONCE = 10
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=1), timedelta(minutes=30)
FEEDBACK_PATH = "/v1/feedback/sns"

logger = log.get(__name__)


class BrokerTopics(Protocol):
    """SNS in the broker's own account. Raises `Unavailable` or `Refused`."""

    async def ensure_topic(self, region: str, name: str, *, policy: str) -> str:
        """The ARN of a standard topic with this policy and SignatureVersion 2, made if it is missing.

        Not under the AWS-managed key.
        """
        ...

    async def subscribe(self, topic_arn: str, endpoint: str) -> str | None:
        """Subscribes a URL, or a queue by ARN; the subscription's ARN once it is confirmed, None while it waits."""
        ...

    async def keep_all(self, subscription_arn: str, *, dead_letters: str | None) -> bool:
        """Sets a subscription so that SNS loses nothing while we are away; whether that is so now."""
        ...


class _Subscribed(msgspec.Struct, frozen=True):
    """What came of subscribing. `arn` None: SNS waits for a confirmation."""

    wanted: "_Wanted"
    arn: str | None
    durable: bool


class _Wanted(msgspec.Struct, frozen=True):
    """A topic as it should be, and whether it was confirmed when we looked."""

    region: str
    name: str
    arn: str
    policy: str
    stored_arn: str | None
    confirmed: bool
    endpoint: str


def topic_name(connection_id: UUID) -> str:
    """What the topic of one connection is called in every Region."""
    return f"ses-delegation-broker-{connection_id.hex}"


def topic_policy(topic_arn: str, accounts: Sequence[str]) -> str:
    """Lets SES publish for these accounts and for nobody else.

    Two statements, since it is not documented which of the two keys SES sets for a topic of another account: the SES
    guide names `aws:SourceAccount` (configure-sns-notifications), the SNS guide `aws:SourceOwner`
    (sns-access-policy-use-cases). Conditions of one statement would have to hold both.
    """
    statements = [
        {
            "Sid": f"SesBy{key}",
            "Effect": "Allow",
            "Principal": {"Service": "ses.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": topic_arn,
            "Condition": {"StringEquals": {f"aws:{key}": sorted(accounts)}},
        }
        for key in ("SourceAccount", "SourceOwner")
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def over_https(settings: Settings, _region: str) -> tuple[str, str] | None:
    """Where topics are delivered to over HTTPS, as SNS names it: protocol and endpoint; None before it is set."""
    url = settings.public_url
    return (url.partition(":")[0], url + FEEDBACK_PATH) if url else None


async def run(db: Database, sns: BrokerTopics, settings: Settings, *, only: Sequence[UUID] | None = None) -> int:
    """Works on the topics that are due (of those in `only`, if given); returns how many."""

    async def check(claimed: Claim) -> None:
        await _check(db, sns, settings, claimed)

    return await due.work(db, KIND, check, most=AT_ONCE, lease=LEASE, only=only)


async def _check(db: Database, sns: BrokerTopics, settings: Settings, claimed: Claim) -> None:
    try:
        await _set_up(db, sns, settings, claimed)
    except (Unavailable, Refused) as error:
        await _settle(db, claimed, settings, reason=error.detail)


async def _set_up(db: Database, sns: BrokerTopics, settings: Settings, claimed: Claim) -> None:
    if await _is_tenants(db, claimed):
        return
    wanted = await _wanted(db, settings, claimed)
    needed = ("aws_account_id",) if protocol_of(wanted.endpoint) == "sqs" else ("public_url", "aws_account_id")
    missing = [name for name in needed if not getattr(settings, name)]
    if missing:
        settings_needed = " and ".join(f"BROKER_{name.upper()}" for name in missing)
        await _settle(db, claimed, settings, reason=f"The operator has not set {settings_needed}.")
        return
    arn = await sns.ensure_topic(wanted.region, wanted.name, policy=wanted.policy)
    reach("topics.made")
    if arn != wanted.stored_arn:
        # Before subscribing: SNS asks for confirmation at once, and only of topics that are known.
        await _store_arn(db, claimed, arn)
        reach("topics.stored")
    subscription = await sns.subscribe(arn, wanted.endpoint)
    reach("topics.subscribed")
    durable = subscription is not None and await _keep_all(sns, settings, wanted.region, subscription)
    await _settle(db, claimed, settings, subscribed=_Subscribed(wanted, subscription, durable))


async def _keep_all(sns: BrokerTopics, settings: Settings, region: str, subscription: str) -> bool:
    queue = settings.queues.get(region)
    dead_letters = queue.dead_arn if queue else settings.dead_letters.get(region)
    try:
        return await sns.keep_all(subscription, dead_letters=dead_letters)
    except Refused as error:
        logger.warning("subscription cannot be made durable", subscription_arn=subscription, reason=error.detail)
        return False


async def _is_tenants(db: Database, claimed: Claim) -> bool:
    """A tenant's own topic is looked after by its routes, with the tenant's role: they are woken instead."""
    async with db.begin(_caller(claimed)) as session:
        topic = (await session.scalars(select(Topic).where(Topic.id == claimed.id))).one()
        if topic.source == "broker_topic":
            return False
        await _wake_routes(session, topic)
        await settle(session, claimed, again_in=None)
    return True


async def _wanted(db: Database, settings: Settings, claimed: Claim) -> _Wanted:
    async with db.read(_caller(claimed)) as session:
        topic = (await session.scalars(select(Topic).where(Topic.id == claimed.id))).one()
    # One that was made before topics belonged to connections keeps its name.
    name = topic.arn.rpartition(":")[2] if topic.arn else topic_name(topic.connection_id or topic.tenant_id)
    arn = f"arn:{settings.aws_partition}:sns:{topic.region}:{settings.aws_account_id}:{name}"
    policy = topic_policy(arn, topic.accounts)
    return _Wanted(topic.region, name, arn, policy, topic.arn, topic.state == "confirmed", endpoint(topic, settings))


def endpoint(topic: Topic, settings: Settings) -> str:
    """Where SNS is to deliver a topic's messages: the ARN of its Region's queue, or else the URL of this API.

    A subscription by HTTPS that stands is left as it is.
    """
    stands = topic.protocol == "https" and topic.state == "confirmed"
    queue = None if stands else settings.queues.get(topic.region)
    return queue.arn if queue else settings.public_url + FEEDBACK_PATH


def protocol_of(endpoint: str) -> str:
    """As in `Topic.protocol`."""
    return "sqs" if endpoint.startswith("arn:") else "https"


async def _store_arn(db: Database, claimed: Claim, arn: str) -> None:
    async with db.begin(_caller(claimed)) as session:
        fenced = update(Topic).where(Topic.id == claimed.id, Topic.fence == claimed.fence)
        stored = await session.execute(fenced.values(arn=arn).returning(Topic.id))
        if stored.one_or_none() is None:
            raise Superseded(f"Topic {claimed.id} was claimed by another worker.")


async def _settle(
    db: Database,
    claimed: Claim,
    settings: Settings,
    *,
    subscribed: _Subscribed | None = None,
    reason: str | None = None,
) -> None:
    caller = _caller(claimed)
    async with db.begin(caller) as session:
        topic = (
            await session.scalars(select(Topic).where(Topic.id == claimed.id).with_for_update(key_share=True))
        ).one()
        if subscribed is not None:
            topic.protocol, topic.durable = protocol_of(subscribed.wanted.endpoint), subscribed.durable
        if subscribed is not None and subscribed.arn is not None:
            await confirm(session, caller, topic, subscribed.arn)
        elif subscribed is not None and subscribed.wanted.confirmed:
            await lose(session, caller, topic, "SNS no longer has the subscription; it was asked for again.")
        if reason is not None:
            topic.reason = reason
            logger.warning("topic waits", topic_id=str(topic.id), reason=reason)
        await session.flush()
        settled = topic.state == "confirmed" and reason is None
        wait = back_off(claimed.attempts, first=FIRST_RETRY, most=LONGEST_RETRY)
        again = settings.identity_check_every if settled else wait
        await settle(session, claimed, again_in=again, failed=not settled)


async def confirm(session: AsyncSession, caller: Caller, topic: Topic, subscription_arn: str) -> None:
    """The topic's messages reach us: its routes may be set up now. Does nothing where that was known."""
    if topic.state == "confirmed" and topic.subscription_arn == subscription_arn and topic.reason is None:
        return
    topic.state, topic.reason, topic.subscription_arn = "confirmed", None, subscription_arn
    await _wake_routes(session, topic)
    await record(session, caller, "topic.confirmed", subject=("topic", topic.id))


async def _wake_routes(session: AsyncSession, topic: Topic) -> None:
    """Those that wait for the topic: an owner's of this Region, of which one may come through several topics."""
    here = select(Identity.id).where(Identity.tenant_id == topic.tenant_id, Identity.region == topic.region)
    through = or_(Route.topic_id == topic.id, Route.identity_id.in_(here))
    states = ("requested", "pending", "broken") if topic.state == "confirmed" else ("configured", "live", "quiet")
    for route in await session.scalars(select(Route).where(through, Route.state.in_((*states, "pending")))):
        wake(session, route)


async def lose(session: AsyncSession, caller: Caller, topic: Topic, reason: str) -> None:
    """The topic's messages do not reach us any more; it waits to be confirmed again."""
    topic.state, topic.reason, topic.subscription_arn = "lost", reason, None
    await record(session, caller, "topic.lost", subject=("topic", topic.id), reason=reason)


def _caller(claimed: Claim) -> Caller:
    return Caller.system(claimed.tenant_id, job=KIND)
