"""Which scenario passes each point, and which program is to die there."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from bench import crash_papers as papers
from bench import crash_routes as routes
from bench import crash_scenarios as usual
from bench import crash_upkeep as upkeep

API, WORKER = ("api",), ("worker",)
EITHER = ("api", "worker")  # the fast path and a worker: whoever comes first


class Aim(msgspec.Struct, frozen=True):
    """How to hit a point: up to the `hits`-th time that it is reached by one of these programs."""

    scenario: str
    roles: Sequence[str]
    hits: int = 1


MIGRATION = "migration"
"""The scenario that needs no stack: `broker migrate` on an empty database."""

AIMS: Mapping[str, Aim] = MappingProxyType(
    {
        "due.claimed": Aim("contract", EITHER, 3),
        "due.settled": Aim("contract", EITHER, 3),
        "db.committing": Aim("contract", API, 4),
        "db.committed": Aim("contract", API, 4),
        "fastpath.begun": Aim("contract", API, 2),
        "grants.proposed": Aim("contract", API),
        "grants.approved": Aim("contract", API),
        "grants.ended": Aim("contract", API),
        "policies.loaded": Aim("contract", EITHER, 3),
        "policies.reserved": Aim("contract", EITHER),
        "policies.creating": Aim("contract", EITHER),
        "policies.created": Aim("contract", EITHER),
        "policies.read": Aim("contract", EITHER, 3),
        "policies.deleting": Aim("contract", EITHER),
        "policies.deleted": Aim("contract", EITHER),
        "policies.settling": Aim("contract", EITHER, 3),
        "policies.settled": Aim("contract", EITHER, 3),
        "policies.failing": Aim("contract_while_ses_fails", EITHER),
        "denies.named": Aim("contract", EITHER),
        "denies.claimed": Aim("protection", EITHER, 2),
        "denies.creating": Aim("contract", EITHER),
        "denies.created": Aim("contract", EITHER),
        "denies.sealed": Aim("contract", WORKER),
        "adoptions.proposed": Aim("adoption", API),
        "adoptions.decided": Aim("adoption", EITHER),
        "adoptions.deleting": Aim("adoption", EITHER),
        "adoptions.deleted": Aim("adoption", EITHER),
        "adoptions.settling": Aim("adoption", EITHER),
        "adoptions.settled": Aim("adoption", EITHER),
        "connections.claimed": Aim("connection", WORKER),
        "connections.assumed": Aim("connection", WORKER),
        "connections.examined": Aim("connection", WORKER),
        "connections.recorded": Aim("connection", WORKER),
        "connections.settled": Aim("connection", WORKER),
        "connections.proven": Aim("proof", API),
        "topics.made": Aim("route", WORKER),
        "topics.stored": Aim("route", WORKER),
        "topics.subscribed": Aim("route", WORKER),
        "topics.confirmed": Aim("route", API),
        "topics.noted": Aim("route", API),
        "routes.loaded": Aim("route", WORKER, 2),
        "routes.set": Aim("route", WORKER, 3),
        "routes.repairing": Aim("repair", WORKER),
        "routes.put_back": Aim("repair", WORKER, 3),
        "routes.looked": Aim("route", WORKER, 2),
        "routes.written": Aim("route", WORKER, 2),
        "routes.settled": Aim("route", WORKER, 2),
        "sets.made": Aim("configuration_set", WORKER),
        "sets.hardened": Aim("configuration_set", WORKER),
        "sets.topic_made": Aim("configuration_set", WORKER),
        "sets.topic_mended": Aim("configuration_set", WORKER, 2),
        "sets.told": Aim("configuration_set", WORKER, 2),
        "sets.subscribed": Aim("configuration_set", WORKER, 2),
        "sets.deleted": Aim("configuration_set", WORKER),
        "sets.silenced": Aim("shared_set", WORKER),
        "sets.topic_deleted": Aim("shared_set", WORKER),
        "foreign.noted": Aim("foreign_topic", WORKER),
        "foreign.remembered": Aim("foreign_topic", WORKER),
        "foreign.set": Aim("foreign_topic", WORKER, 3),
        "foreign.silenced": Aim("foreign_topic", WORKER),
        "foreign.forwarding": Aim("foreign_topic", WORKER),
        "foreign.put_back": Aim("foreign_topic", WORKER, 3),
        "foreign.quieted": Aim("quiet_owner", WORKER),
        "legacy.tried": Aim("legacy", WORKER),
        "legacy.edited": Aim("legacy", WORKER, 2),
        "legacy.begun": Aim("migrated", API),
        "legacy.tested": Aim("migrated", WORKER),
        "legacy.cleared": Aim("legacy", WORKER, 2),
        "legacy.gone": Aim("legacy", WORKER),
        "feedback.parsed": Aim("events", API, 2),
        "feedback.stored": Aim("events", API, 2),
        "feedback.rung": Aim("events", API, 2),
        "feedback.answering": Aim("events", API, 2),
        "queues.received": Aim("queued", WORKER),
        "queues.stored": Aim("queued", WORKER),
        "queues.deleted": Aim("queued", WORKER),
        "lanes.claimed": Aim("events", WORKER),
        "lanes.releasing": Aim("events", WORKER),
        "deliveries.fetched": Aim("events", WORKER, 2),
        "deliveries.sending": Aim("events", WORKER, 8),
        "deliveries.sent": Aim("events", WORKER, 8),
        "deliveries.finishing": Aim("events", WORKER),
        "deliveries.finished": Aim("events", WORKER),
        "replays.queued": Aim("replay", WORKER),
        "replays.stepped": Aim("replay", WORKER),
        "digests.closed": Aim("digest", WORKER),
        "digests.sent": Aim("digest", WORKER),
        "digests.cut": Aim("digest", WORKER),
        "erasures.blanked": Aim("erasure", WORKER, 3),
        "erasures.stepped": Aim("erasure", WORKER, 3),
        "retentions.walked": Aim("retention", WORKER),
        "reckonings.folded": Aim("events", WORKER),
        "reckonings.moved": Aim("events", WORKER, 2),
        "pushes.suppressed": Aim("push", WORKER, 2),
        "ledger.written": Aim("books", API),
        "ledger.rolled_up": Aim("books", API),
        "migrations.locked": Aim(MIGRATION, ()),
        "migrations.applying": Aim(MIGRATION, (), 30),
        "migrations.applied": Aim(MIGRATION, ()),
        "migrations.granted": Aim(MIGRATION, ()),
    }
)

Scenario = Callable[[usual.Run], None]
SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            usual.contract,
            usual.contract_while_ses_fails,
            usual.events,
            usual.queued,
            usual.connection,
            usual.proof,
            usual.route,
            usual.repair,
            usual.replay,
            usual.books,
            upkeep.digest,
            upkeep.erasure,
            upkeep.retention,
            upkeep.push,
            papers.protection,
            papers.adoption,
            routes.configuration_set,
            routes.shared_set,
            routes.foreign_topic,
            routes.quiet_owner,
            routes.legacy,
            routes.migrated,
        )
    }
)
