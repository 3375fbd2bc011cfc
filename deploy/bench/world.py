"""The tenants of a run, written straight into the tables: a thousand grants by the API would take longer than the run.

A world has ``groups``; each is an owner with an identity, a topic and one grant to a delegate, and the endpoints that
hear its feedback: the delegate's first, and the owner's the rest when there is more than one. Endpoint ``e`` belongs to
group ``e // fan_out``, message ``n`` to group ``n % groups`` (bench.messages).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from bench import payloads
from broker.crypto import Keyring
from broker.ids import new_id
from broker.local.aws import REGION
from broker.policies.terms import FeedbackTerms
from broker.webhooks import signing

MOST_PER_TENANT = 20  # endpoints


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of one group; ``endpoints`` are (tenant, endpoint) in the order of their numbers."""

    number: int
    owner: UUID
    delegate: UUID
    connection: UUID
    identity: UUID
    grant: UUID
    offer: UUID
    topic: UUID
    endpoints: tuple[tuple[UUID, UUID], ...]


class World(msgspec.Struct, frozen=True, kw_only=True):
    """All groups, with the secrets by which their webhooks are signed."""

    groups: tuple[Group, ...]
    fan_out: int
    secrets: dict[UUID, bytes]

    @property
    def endpoint_ids(self) -> list[UUID]:
        """Of all endpoints, in the order of their numbers."""
        return [endpoint for group in self.groups for _, endpoint in group.endpoints]


def plan_world(*, fan_out: int, endpoints: int) -> World:
    """As many groups as it takes for ``endpoints``, of ``fan_out`` endpoints each; at least one.

    Raises:
        ValueError: more endpoints would hear one event than two tenants may have.
    """
    if not 1 <= fan_out <= 2 * MOST_PER_TENANT:
        raise ValueError(f"The fan-out must be between 1 and {2 * MOST_PER_TENANT}.")
    groups = tuple(plan_group(number, fan_out) for number in range(max(1, endpoints // fan_out)))
    secrets = {endpoint: signing.new_secret() for group in groups for _, endpoint in group.endpoints}
    return World(groups=groups, fan_out=fan_out, secrets=secrets)


def plan_group(number: int, fan_out: int) -> Group:
    """One group, with new ids."""
    owner, delegate = new_id(), new_id()
    of_delegate = (fan_out + 1) // 2
    tenants = [delegate] * of_delegate + [owner] * (fan_out - of_delegate)
    return Group(
        number=number,
        owner=owner,
        delegate=delegate,
        connection=new_id(),
        identity=new_id(),
        grant=new_id(),
        offer=new_id(),
        topic=new_id(),
        endpoints=tuple((tenant, new_id()) for tenant in tenants),
    )


async def seed(connection: asyncpg.Connection, world: World, keyring: Keyring, urls: Sequence[str]) -> None:
    """Write the world, in one transaction. ``connection`` is the owner's; ``urls`` are those of the endpoints.

    The rows are what registering, connecting, negotiating and approving leave behind, the topic confirmed and the route
    live, so that nothing of it is due any more.
    """
    now = datetime.now(UTC)
    numbered = list(zip(((g, t, e) for g in world.groups for t, e in g.endpoints), urls, strict=True))
    async with connection.transaction():
        for table, columns, rows in (
            ("tenants", "id name roles", [row for group in world.groups for row in _tenants(group)]),
            (
                "connections",
                "id tenant_id kind account_id regions external_id role_arn state verified_at",
                [_connection(group, now) for group in world.groups],
            ),
            (
                "identities",
                "id tenant_id connection_id account_id region name kind arn verified attributes policies read_at",
                [_identity(group, now) for group in world.groups],
            ),
            (
                "grants",
                (
                    "id owner_id delegate_id identity_id identity_arn paper effect latest_offer_id agreed_offer_id"
                    " terms accounts feedback slot agreed_at activated_at verified_at"
                ),
                [_grant(group, now) for group in world.groups],
            ),
            (
                "offers",
                "id grant_id owner_id delegate_id number made_by terms outcome lapses_at decided_at",
                [_offer(group, now) for group in world.groups],
            ),
            (
                "topics",
                "id tenant_id arn region accounts source state subscription_arn",
                [_topic(group) for group in world.groups],
            ),
            (
                "routes",
                "id tenant_id delegate_id grant_id identity_id kind topic_id state live_at",
                [_route(group, now) for group in world.groups],
            ),
            ("endpoints", "id tenant_id url state", [(e, t, url, "active") for (_, t, e), url in numbered]),
            ("lanes", "id tenant_id", [(e, t) for (_, t, e), _ in numbered]),
            (
                "endpoint_secrets",
                "id tenant_id endpoint_id sealed",
                [(new_id(), t, e, keyring.seal(world.secrets[e])) for (_, t, e), _ in numbered],
            ),
        ):
            await copy(connection, table, columns.split(), rows)


async def copy(connection: asyncpg.Connection, table: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Add rows to a table."""
    await connection.copy_records_to_table(table, records=rows, columns=columns)


def _tenants(group: Group) -> list[tuple[Any, ...]]:
    return [
        (group.owner, f"Owner {group.number}", ["owner"]),
        (group.delegate, f"Delegate {group.number}", ["delegate"]),
    ]


def _connection(group: Group, now: datetime) -> tuple[Any, ...]:
    account = payloads.owner_account(group.number)
    role = f"arn:aws:iam::{account}:role/SesDelegationBroker"
    return (group.connection, group.owner, "role", account, [REGION], "external", role, "verified", now)


def _identity(group: Group, now: datetime) -> tuple[Any, ...]:
    account, name = payloads.owner_account(group.number), payloads.identity_name(group.number)
    arn = payloads.identity_arn(group.number)
    return (
        group.identity, group.owner, group.connection, account, REGION, name, "domain", arn, True, "{}", "{}", now,
    )  # fmt: skip


def _grant(group: Group, now: datetime) -> tuple[Any, ...]:
    since, feedback = now - timedelta(days=7), msgspec.json.encode(FeedbackTerms()).decode()
    accounts, arn = [payloads.delegate_account(group.number)], payloads.identity_arn(group.number)
    return (
        group.grant, group.owner, group.delegate, group.identity, arn, "agreed", "applied", group.offer, group.offer,
        "{}", accounts, feedback, 1, since, since, since,
    )  # fmt: skip


def _offer(group: Group, now: datetime) -> tuple[Any, ...]:
    return (group.offer, group.grant, group.owner, group.delegate, 1, "delegate", "{}", "approved", now, now)


def _topic(group: Group) -> tuple[Any, ...]:
    arn, accounts = payloads.topic_arn(group.number), [payloads.owner_account(group.number)]
    return (group.topic, group.owner, arn, REGION, accounts, "broker_topic", "confirmed", f"{arn}:1")


def _route(group: Group, now: datetime) -> tuple[Any, ...]:
    return (
        new_id(), group.owner, group.delegate, group.grant, group.identity, "identity_topic", group.topic, "live", now,
    )  # fmt: skip
