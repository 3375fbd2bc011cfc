"""A world with something of every kind in it, and keys for those who live there and for those who do not."""

from collections.abc import Mapping
from datetime import timedelta

import httpx
import msgspec
from litestar import Litestar
from sqlalchemy import text

from broker import clock
from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.ids import new_id
from broker.tenants.keys import mint
from tests.app.conftest import transport_to
from tests.conftest import new_tenant
from tests.feedback.conftest import World, make_world
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.walls.strangers import Route, Stranger, Walked, routes_of

SHARED = frozenset({"grant_id", "route_id", "name"})
"""What the other party of a grant may name; everything else of the owner's is the owner's alone."""

# Where the document's example would be refused before anything is looked up.
PAST = (clock.now() - timedelta(hours=1)).isoformat()
BODIES: Mapping[str, Mapping[str, object]] = {
    "createDestination": {"name": "own", "event_types": ["bounce"], "eventbridge": {}, "cloudwatch": None, "sns": None},
    "replayEndpoint": {"from": PAST, "until": None},
    "createEndpoint": {"grant_ids": None, "identity_arns": None},  # it would be shown its own words again
    "recoverEndpoint": {"since": PAST},
}

TERMS = {"principals": [DELEGATE_ACCOUNT], "actions": ["send"], "expires_at": "2099-01-01T00:00:00Z"}
BY_ARN = frozenset({"proposeGrant"})
"""Whoever knows the ARN of a connected identity may ask its owner for it; so it says whether there is one."""

# In the order of what they refer to; each with the ids of the house.
_FURNITURE = (
    (
        "INSERT INTO policy_documents (id, tenant_id, identity_id, name, document, digest, ours)"
        ' VALUES (:id, :owner, :identity_id, :policy_name, \'{{"Version":"2012-10-17","Statement":[]}}\', \'d\', false)'
    ),
    (
        "INSERT INTO events (id, at, type, owner_id, owner_view, delegate_id, delegate_view, grant_id, source, data)"
        " VALUES (:event_id, :now, 'email.bounced', :owner, 'full', NULL, NULL, NULL, 'ses',"
        ' \'{{"kind":"bounce","note":"{secret}"}}\')'
    ),
    (
        "INSERT INTO dead_deliveries (endpoint_id, event_id, event_at, tenant_id, attempts, reason)"
        " VALUES (:endpoint_id, :event_id, :now, :owner, 9, '{secret}')"
    ),
    (
        "INSERT INTO replays (id, tenant_id, endpoint_id, kind, state, rate, from_at, until_at, reason)"
        " VALUES (:replay_id, :owner, :endpoint_id, 'range', 'done', 1, :now, :now, '{secret}')"
    ),
    (
        "INSERT INTO endpoint_digests (endpoint_id, day, tenant_id, event_id, count, sha256, types, cut_at)"
        " VALUES (:endpoint_id, :day, :owner, :event_id, 1, '{secret}', '{{}}', :now)"
    ),
    (
        "INSERT INTO erasures (id, tenant_id, recipient_hash, state, erased)"
        " VALUES (:erasure_id, :owner, 'h', 'done', '{{}}')"
    ),
    (
        "INSERT INTO suppressions (id, owner_id, delegate_id, grant_id, identity_arn, recipient_hash, reason,"
        " owner_view, grant_hash, since, last_at, last_event_id, stamp) VALUES (:id, :owner, :owner, NULL,"
        " :identity_arn, 'h', 'complaint', 'hashed', '{secret}', :now, :now, :event_id, :id)"
    ),
    (
        "INSERT INTO quarantine (id, at, tenant_id, topic_arn, reason, payload)"
        " VALUES (:id, :now, :owner, 'arn', '{secret}', '{secret}')"
    ),
)
_ROLES = {"endpoint_digests": Role.WORKER, "suppressions": Role.WORKER, "quarantine": Role.INGEST}


class House(msgspec.Struct, frozen=True):
    """One owner's world, committed. `theirs`: an id of each kind; `secrets`: what only the owner may ever read."""

    app: Litestar
    keyring: Keyring
    world: World
    theirs: Mapping[str, str]
    secrets: tuple[str, ...]

    async def client(self, caller: Caller) -> httpx.AsyncClient:
        """With a new key of this tenant, of every scope."""
        minted = mint()
        async with self.world.db.begin(caller) as session:
            named = {"id": new_id(), "tenant": caller.tenant, "digest": self.keyring.digest(minted.secret)}
            await session.execute(
                text(
                    "INSERT INTO api_keys (id, tenant_id, name, prefix, digest, scopes)"
                    f" VALUES (:id, :tenant, 'walls', 'sdb_', :digest, '{{{','.join(Scope)}}}')"
                ),
                named,
            )
        headers = {"authorization": f"Bearer {minted.secret}"}
        return httpx.AsyncClient(transport=transport_to(self.app), base_url="http://broker", headers=headers)


async def furnish(app: Litestar, db: Database, keyring: Keyring) -> House:
    """Everything that an owner can have, with a text in it that nobody else may read."""
    world = await make_world(db, terms=TERMS)
    secret = f"walls{new_id().hex}"
    ids = {name: new_id() for name in ("id", "event_id", "replay_id", "erasure_id")}
    now = clock.now()
    named = {
        **ids,
        "now": now,
        "day": now.date() - timedelta(days=1),
        "owner": world.owner.tenant,
        "identity_id": world.identity_id,
        "identity_arn": world.identity_arn,
        "endpoint_id": world.endpoints[world.owner.tenant],
        "policy_name": f"p{secret}",
    }
    for statement in _FURNITURE:
        table = statement.split()[2]
        async with db.as_role(_ROLES.get(table, Role.API)).begin(world.owner) as session:
            await session.execute(text(statement.format(secret=secret)), named | {"id": new_id()})
    async with db.read(world.owner) as session:
        connection = await session.scalar(text("SELECT id FROM connections"))
        route = await session.scalar(text("SELECT id FROM routes WHERE grant_id = :id"), {"id": world.grant_id})
    theirs = {
        **{name: str(named[name]) for name in ("identity_id", "identity_arn", "endpoint_id", "policy_name", "day")},
        **{name: str(ids[name]) for name in ("event_id", "replay_id", "erasure_id")},
        "delivery_id": f"{named['endpoint_id']}.{ids['event_id']}",
        "key_id": str(world.owner.key_id),
        "connection_id": str(connection),
        "grant_id": str(world.grant_id),
        "route_id": str(route),
        "topic_id": str(world.topic_id),
        "name": "own",
        "delegate_id": str(world.delegate.tenant),
        "owner_id": str(world.owner.tenant),
        "tenant_id": str(world.owner.tenant),
    }
    return House(app, keyring, world, theirs, (secret, *set(theirs.values()) - {"own", theirs["day"]}))


async def walk_strangers(house: House, db: Database) -> Mapping[str, Walked]:
    """As who has nothing to do with it, as another delegate of the owner, and as the delegate of the grant itself."""
    routes = list(routes_of(house.app))
    world = house.world
    unrelated = await new_tenant(db)
    # What the owner's other delegate reads of its own grant names the owner and the identity, and so may its answers.
    known = {house.theirs["identity_arn"], house.theirs["owner_id"], house.theirs["identity_id"]}
    mine = known | {house.theirs[name] for name in ("grant_id", "route_id", "topic_id", "delegate_id")}
    private = [route for route in routes if not SHARED & set(route.kinds) and not names_what_is_shared(route)]
    return {
        "unrelated": await _walk(house, unrelated, routes, set()),
        "another delegate": await _walk(house, world.second, routes, known),
        "the delegate": await _walk(house, world.delegate, private, mine),
    }


def names_what_is_shared(route: Route) -> bool:
    """Whether its body or query says what both parties may name."""
    return bool(SHARED & {*(route.body or {}), *route.query})


async def _walk(house: House, caller: Caller, routes: list[Route], known: set[str]) -> Walked:
    async with await house.client(caller) as client:
        secrets = [secret for secret in house.secrets if secret not in known]
        return await Stranger(client, house.theirs, secrets, BODIES, BY_ARN).walk(routes)
