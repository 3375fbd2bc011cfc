"""The plans of the hot statements: along the ordered index, and no further than what was asked for.

Rows of queues come and go so fast that the planner's figures are wrong most of the time. So the very statements, on
the very connections, are explained and run on tables that are empty, full, full and never analysed, and full of what
is gone; with the plan for these values and with the one for any.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import TextClause, event, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from broker.caller import Caller
from broker.db import Database, Line, Role, connect, sessions
from broker.direct import Direct
from broker.feedback import reckoning
from broker.feedback import store as saving
from broker.feedback.sort import Sorted
from broker.ids import new_id
from broker.migrate import migrate
from broker.webhooks import enabling, holding, pending
from broker.webhooks import feed as feeds
from broker.webhooks.deliveries import HELD
from broker.webhooks.holding import Held, Lines
from broker.webhooks.pending import BEGINNING, FIRST_ID, Position, Wish
from broker.webhooks.retries import Verdict
from tests.servers import Postgres

STATES = ["empty", "never analysed", "full", "bloated"]
MODES = ["force_custom_plan", "force_generic_plan"]
ORDERED = "deliveries_endpoint_id_priority_next_at_event_id_idx"
KEY = "deliveries_pkey"

ENDPOINTS = [UUID(int=number) for number in range(1, 11)]
OTHERS = 2_000
EVENTS = 20_000  # over four days, each for ten endpoints
LEFT = 20  # one of so many is left after the mass delete
ROOM = 50
IDENTITIES = 2_000  # each with a topic of its own, a grant that is active and one that never was
TENANT = UUID(int=10**6)
STRANGER = UUID(int=10**6 + 1)
NOON = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)

NEVER_ANALYSED = """
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace LOOP
    EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = false)', name);
  END LOOP;
END $$
"""
FILL = f"""
SELECT make_days(current_date - 4, 6);
INSERT INTO tenants (id, name, roles) VALUES ('{TENANT}', 'One', '{{owner}}'), ('{STRANGER}', 'Other', '{{owner}}');
INSERT INTO tenants (id, name, roles)
  SELECT lpad(to_hex(n + 2000000), 32, '0')::uuid, 'Another', '{{owner}}' FROM generate_series(1, {OTHERS}) n;
INSERT INTO reckonings (id, tenant_id, asleep, due_at) SELECT id, id, true, now() FROM tenants;
INSERT INTO endpoints (id, tenant_id, url, state)
  SELECT lpad(to_hex(n), 32, '0')::uuid, '{TENANT}', 'https://hooks.example.com', 'active'
  FROM generate_series(1, {len(ENDPOINTS)}) n;
INSERT INTO endpoints (id, tenant_id, url, state)
  SELECT lpad(to_hex(n + 100000), 32, '0')::uuid, '{STRANGER}', 'https://hooks.example.com', 'active'
  FROM generate_series(1, {OTHERS}) n;
INSERT INTO endpoint_secrets (id, tenant_id, endpoint_id, sealed)
  SELECT id, tenant_id, id, 'sealed' FROM endpoints;
INSERT INTO lanes (id, tenant_id, owner, claimed_until, fence)
  SELECT id, tenant_id, 5, now() + interval '1 hour', 1 FROM endpoints;
INSERT INTO events (id, at, type, owner_id, source, owner_view, data)
  SELECT lpad(to_hex(n), 32, '0')::uuid,
    '{NOON.isoformat()}'::timestamptz + (n % 4) * interval '1 day' + n * interval '1 ms', 'email.bounced',
    CASE WHEN n % 2 = 0 THEN '{TENANT}'::uuid ELSE '{STRANGER}'::uuid END, 'broker_topic', 'full', '{{}}'
  FROM generate_series(1, {EVENTS}) n;
INSERT INTO event_keys (day, key, event_id, vouched)
  SELECT (at AT TIME ZONE 'UTC')::date, uuid_send(id), id, false FROM events;
INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority, next_at)
  SELECT lpad(to_hex(p), 32, '0')::uuid, e.id, e.at, '{TENANT}', ('x' || right(e.id::text, 1))::bit(4)::int % 4,
    CASE WHEN ('x' || right(e.id::text, 2))::bit(8)::int % 3 = 0 THEN now() + interval '1 day' ELSE e.at END
  FROM events e CROSS JOIN generate_series(1, {len(ENDPOINTS)}) p;
INSERT INTO connections (id, tenant_id, kind, account_id, regions, external_id, state)
  VALUES ('{TENANT}', '{TENANT}', 'manual', '111111111111', '{{eu-west-1}}', 'external', 'verified');
INSERT INTO identities
    (id, tenant_id, connection_id, account_id, region, name, kind, arn, verified, attributes, policies)
  SELECT lpad(to_hex(n), 32, '0')::uuid, '{TENANT}', '{TENANT}', '111111111111', 'eu-west-1', n || '.example.com',
    'domain', 'arn:identity:' || n, true, '{{}}', '{{}}'
  FROM generate_series(1, {IDENTITIES}) n;
INSERT INTO topics (id, tenant_id, arn, region, accounts, source, state)
  SELECT id, tenant_id, 'arn:topic:' || substr(arn, 14), region, '{{111111111111}}', 'tenant_topic', 'confirmed'
  FROM identities;
BEGIN;
INSERT INTO grants (id, owner_id, delegate_id, identity_id, identity_arn, paper, effect, latest_offer_id,
    accounts, feedback, activated_at)
  SELECT lpad(to_hex(('x' || right(i.id::text, 8))::bit(32)::int * 2 + k), 32, '0')::uuid, '{TENANT}', '{STRANGER}',
    i.id, i.arn, CASE k WHEN 0 THEN 'agreed' ELSE 'open' END, CASE k WHEN 0 THEN 'applied' ELSE 'none' END,
    lpad(to_hex(('x' || right(i.id::text, 8))::bit(32)::int * 2 + k), 32, '0')::uuid, '{{222222222222}}', '{{}}',
    CASE k WHEN 0 THEN now() END
  FROM identities i CROSS JOIN generate_series(0, 1) k;
INSERT INTO routes (id, tenant_id, delegate_id, grant_id, identity_id, kind, topic_id, state)
  SELECT id, owner_id, delegate_id, id, identity_id, 'identity_topic', identity_id, 'configured' FROM grants;
INSERT INTO offers (id, grant_id, owner_id, delegate_id, number, made_by, terms, outcome, lapses_at)
  SELECT id, id, owner_id, delegate_id, 1, 'delegate', '{{}}', 'approved', now() FROM grants;
COMMIT
"""
MASS_DELETE = f"""
DELETE FROM deliveries WHERE ('x' || right(event_id::text, 4))::bit(16)::int % {LEFT} <> 0;
DELETE FROM events WHERE ('x' || right(id::text, 4))::bit(16)::int % {LEFT} <> 0;
DELETE FROM event_keys WHERE ('x' || right(event_id::text, 4))::bit(16)::int % {LEFT} <> 0;
UPDATE grants SET verified_at = now();
UPDATE topics SET subscription_arn = 'arn'
"""

Node = dict[str, Any]


class Case(msgspec.Struct, frozen=True):
    """One statement as it is run: the line that it goes over, its text, and what it is asked for.

    `before`: what is done in the same transaction, and taken back with it.
    """

    line: Line
    statement: str
    arguments: Sequence[Any]
    before: str = ""


class Recorder:
    """Remembers what a function of the engine would have sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, tuple[Any, ...]]] = []

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        self.sent.append((statement, arguments))
        return []


async def said(call: Callable[[Any], Awaitable[object]]) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements that a call makes of its arguments, and the arguments as the driver gets them."""
    recorder = Recorder()
    with contextlib.suppress(ValueError):  # there is no row to unpack
        await call(recorder)
    return recorder.sent


def as_sent(statement: TextClause, named: dict[str, Any]) -> tuple[str, list[Any]]:
    """A statement of SQLAlchemy's as the driver gets it."""
    compiled = statement.compile(dialect=create_async_engine("postgresql+asyncpg://").dialect)
    return str(compiled), [named[name] for name in compiled.positiontup or ()]


class Sides(msgspec.Struct, frozen=True):
    """The connections that statements go over: those of a pump, ingest, and the owner's, under whom `fan_out` runs.

    `asking` stands for a transaction of the API, whose settings are the server's own.
    """

    lines: Lines
    ingest: Line
    definer: Line
    asking: Line


async def cases(sides: Sides, body: str) -> dict[str, Case]:
    """Every hot statement with arguments that fit the tables as they are."""
    return {**await _of_deliveries(sides, body), **await _of_ingest(sides.ingest), **_of_books(sides)}


def _of_books(sides: Sides) -> dict[str, Case]:
    """Not hot: done when somebody enables an endpoint. But over all that is pending for it, maybe a million rows, in
    steps that each must cost the same.

    Summing up the deltas (`counts.roll_up`) is left out: it is done every ten seconds and takes all that there is, as a
    rule, so that reading the table from end to end is no more than it does anyway.
    """
    disable = f"UPDATE endpoints SET state = 'disabled' WHERE id = '{ENDPOINTS[0]}'"
    named = {"endpoint": ENDPOINTS[0], "me": TENANT, "held": HELD, "most": ROOM, "priority": 1}
    statement, arguments = as_sent(enabling._PUT_OFF, named)  # noqa: SLF001 - the very statement
    return {"put_off": Case(sides.asking, statement, arguments, before=disable)}


async def _of_ingest(ingest: Line) -> dict[str, Case]:
    """What is read of a batch's topics and identities, and the batch stored as what was read says."""
    topics = [f"arn:topic:{number}" for number in range(1, ROOM)] + ["arn:topic:of nobody"]
    identities = [f"arn:identity:{number}" for number in range(1, ROOM)] + ["arn:identity:of nobody"]
    (sources,) = await said(lambda line: saving.sources(line, topics))
    stamps, candidates = await said(lambda line: saving.standings(line, identities))
    known_topics, known_identities = await saving.sources(ingest, topics), await saving.standings(ingest, identities)
    nothing = Sorted(events=[], asides=[], heard=set(), attributed=[])
    ((statement, _),) = await said(lambda line: saving.save(line, nothing, [], topics={}, identities={}))
    stamps_of = [[stamp for _, stamp in known_topics.values()], [stamp for _, stamp in known_identities.values()]]
    empty: list[None] = []
    about = [topics, stamps_of[0], identities, stamps_of[1]]
    # Each is heard by another topic of its owner's than the one that it is known by.
    heard = [UUID(int=2 * number) for number in range(1, ROOM + 1)], topics[1:] + topics[:1]
    return {
        "sources": Case(ingest, *sources),
        "stamps": Case(ingest, *stamps),
        "candidates": Case(ingest, *candidates),
        "save": Case(ingest, statement, [*about, *_new_events(), *([empty] * 5), *heard]),
        "save copies": Case(ingest, statement, [*about, *_copies(), *([empty] * 7)]),
    }


def _copies() -> list[list[Any]]:
    """What was heard before from a tenant's own topic, of those that the mass delete leaves."""
    left = [LEFT * number for number in range(1, ROOM + 1)]
    ats = [NOON + timedelta(days=number % 4, milliseconds=number) for number in left]
    new = _new_events()
    return [[at.date() for at in ats], [UUID(int=number).bytes for number in left], new[2], ats, *new[4:]]


def _new_events() -> list[list[Any]]:
    new = [new_id() for _ in range(ROOM)]
    ats = [NOON + timedelta(days=number % 4, seconds=number) for number in range(ROOM)]
    return [
        [at.date() for at in ats],
        [one.bytes for one in new],
        new,
        ats,
        ["email.bounced"] * ROOM,
        [TENANT] * ROOM,
        [None] * ROOM,
        [None] * ROOM,
        ["broker_topic"] * ROOM,
        ["full"] * ROOM,
        [None] * ROOM,
        [None] * ROOM,
        ["{}"] * ROOM,
        [None] * ROOM,
    ]


async def _of_deliveries(sides: Sides, body: str) -> dict[str, Case]:
    lines = sides.lines
    held = [Held(endpoint, TENANT, 1) for endpoint in ENDPOINTS]
    after = Position(NOON + timedelta(days=1), FIRST_ID)
    wishes = [Wish(one, rank, after, ROOM) for one in ENDPOINTS for rank in range(4)]
    first = [Wish(one, rank, Position(BEGINNING, FIRST_ID), ROOM) for one in ENDPOINTS for rank in range(4)]
    results = [a_result(one, UUID(int=number)) for one in ENDPOINTS for number in range(20, 420, 20)]
    calls: dict[str, tuple[Line, Callable[[Any], Awaitable[object]]]] = {
        "find_due": (lines.reading, holding.find_due),
        "claim": (
            lines.leases,
            lambda line: holding.claim(line, ENDPOINTS, pump=7, lease=timedelta(seconds=10)),
        ),
        "renew": (lines.leases, lambda line: holding.renew(line, held, pump=5, lease=timedelta(seconds=10))),
        "release": (lines.leases, lambda line: holding.release(line, held, pump=5)),
        "targets": (lines.reading, lambda line: holding.targets(line, ENDPOINTS)),
        "fetch": (lines.reading, lambda line: pending.fetch(line, wishes)),
        "fetch from the beginning": (lines.reading, lambda line: pending.fetch(line, first)),
        "finish": (
            lines.writing,
            lambda line: pending.finish(line, held, results, pump=5, signers=ENDPOINTS),
        ),
    }
    made = {}
    for name, (line, call) in calls.items():
        ((statement, arguments),) = await said(call)
        made[name] = Case(line, statement, arguments)
    some = [UUID(int=number) for number in range(20, 20 * ROOM, 20)]
    there = [NOON + timedelta(days=one.int % 4, milliseconds=one.int) for one in some]
    made["fan_out"] = Case(sides.definer, body, [some, there])
    return made


def a_result(endpoint: UUID, event_id: UUID) -> pending.Result:
    """Every third one failed."""
    failed = event_id.int % 3 == 0
    return pending.Result(
        lane_id=endpoint,
        event_id=event_id,
        number=1,
        at=datetime.now(UTC),
        verdict=Verdict.RETRY if failed else Verdict.DELIVERED,
        again_in=timedelta(seconds=5) if failed else None,
        latency_ms=5,
        status=500 if failed else 200,
    )


def literal(value: object) -> str:
    """A value as SQL; its type is that of the parameter."""
    return "NULL" if value is None else f"'{_text(value)}'"


def _text(value: object) -> str:
    match value:
        case list() | tuple():
            return "{" + ",".join("NULL" if one is None else _quoted(_text(one)) for one in value) + "}"
        case bytes():
            return "\\x" + value.hex()
        case timedelta():
            return f"{value.total_seconds()} s"
        case datetime() | date():
            return value.isoformat()
        case _:
            return str(value).replace("'", "''")


def _quoted(element: str) -> str:
    return '"' + element.replace("\\", "\\\\") + '"'


async def plan_of(case: Case, mode: str) -> Node:
    """Runs the statement and takes it back; what it did."""
    fetch = case.line.fetch
    await fetch(f"SET plan_cache_mode = {mode}")
    await fetch(f"PREPARE hot AS {case.statement}")
    values = ", ".join(literal(value) for value in case.arguments)
    call = f"EXECUTE hot({values})" if case.arguments else "EXECUTE hot"
    await fetch("BEGIN")
    try:
        if case.before:
            await fetch(case.before)
        (row,) = await fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {call}")
    finally:
        await fetch("ROLLBACK")
        await fetch("DEALLOCATE hot")
        await fetch("RESET plan_cache_mode")
    plan: Node = msgspec.json.decode(row[0])[0]["Plan"]
    return plan


def nodes(plan: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def table_of(node: Node) -> str:
    """The table that a node reads, a partition under the name of the whole."""
    name: str = node.get("Relation Name", "")
    return next((one for one in ("events", "event_keys", "attempts") if name.startswith(f"{one}_")), name)


def rows_read(plan: Node, table: str) -> int:
    """How many rows of a table were looked at, those that did not fit included."""
    found = [node for node in nodes(plan) if table_of(node) == table and node["Node Type"] != "ModifyTable"]
    kinds = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    total: float = sum(node["Actual Loops"] * node.get(kind, 0) for node in found for kind in kinds)
    return round(total)


def read_whole(plan: Node) -> set[str]:
    """The tables that were to be read from end to end."""
    return {table_of(node) for node in nodes(plan) if node["Node Type"] == "Seq Scan"} & HOT


def ways(plan: Node, table: str) -> set[str]:
    """How a table is reached: by which indexes, or by which other kind of node."""
    found = [node for node in nodes(plan) if table_of(node) == table and node["Node Type"] != "ModifyTable"]
    return {str(node.get("Index Name", node["Node Type"])) for node in found}


def sorts(plan: Node, table: str) -> bool:
    """Whether rows of a table are sorted or hashed on their way."""
    busy = {"Sort", "Incremental Sort", "Hash", "Bitmap Heap Scan"}
    above = [node for node in nodes(plan) if node["Node Type"] in busy]
    return any(table_of(below) == table for node in above for below in nodes(node))


HOT = {"deliveries", "events", "event_keys", "lanes", "endpoints", "endpoint_secrets", "topics", "grants", "reckonings"}

Plans = dict[tuple[str, str, str], Node]


@pytest_asyncio.fixture(scope="module")
async def plans(postgres: Postgres, database_url: str) -> AsyncIterator[Plans]:
    """What every statement does in every state and mode, in a database of its own."""
    name = f"plans_{new_id().hex}"
    owner = await asyncio.to_thread(postgres.create_database, name)
    await migrate(owner, login=make_url(database_url).username)
    login = make_url(database_url).set(database=name).render_as_string(hide_password=False)
    found = await _collect(owner, login)
    yield found
    await asyncio.to_thread(postgres.drop_database, name)


async def _collect(owner: str, login: str) -> Plans:
    found: Plans = {}
    lines, ingest = Lines(login), Direct(login, role=Role.INGEST, settings=saving.AS_WRITTEN)
    asking = Direct(login, role=Role.API, settings={"app.tenant_id": str(TENANT)})
    definer = await asyncpg.connect(_plain(owner))
    sides = Sides(lines, ingest, definer, asking)
    try:
        (fan_out,) = await definer.fetch("SELECT prosrc, proconfig FROM pg_proc WHERE proname = 'fan_out'")
        for setting in fan_out["proconfig"]:
            await definer.execute(f"SET {setting}")
        statement = re.sub(r"\bats\b", "$2::timestamptz[]", re.sub(r"\bids\b", "$1::uuid[]", fan_out["prosrc"]))
        await definer.execute(NEVER_ANALYSED)
        await definer.execute("VACUUM ANALYZE")
        for state in STATES:
            for change in CHANGES[state]:
                await definer.execute(change)
            every = await cases(sides, statement)
            for name, case in every.items():
                for mode in MODES:
                    found[state, name, mode] = await plan_of(case, mode)
            found[state, "feed", MODES[0]] = await _feed(login)
            found[state, "reckoning", MODES[0]] = await _reckoning(login)
    finally:
        await definer.close()
        for line in (ingest, asking):
            await line.close()
        await lines.close()
    return found


CHANGES = {"empty": [], "never analysed": [FILL], "full": ["ANALYZE"], "bloated": [MASS_DELETE]}


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def _feed(login: str) -> Node:
    """The statement of the cursor feed, as the API sends it, and then explained."""
    engine = connect(login, pool_size=1)
    sent: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    api = Database(sessions(engine), role=Role.API)
    caller = Caller(tenant_id=TENANT)
    await feeds.feed(api, caller, after=None, limit=ROOM)
    plan = await _explained(api, caller, sent, "UNION ALL")
    await engine.dispose()
    return plan


async def _reckoning(login: str) -> Node:
    """The statement that reads what is to be added up, as a worker sends it, and then explained."""
    engine = connect(login, pool_size=1)
    sent: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    worker = Database(sessions(engine), role=Role.WORKER)
    caller = Caller.system(TENANT, job="reckoning")
    async with worker.read(caller) as session:
        await reckoning.next_events(session, TENANT, (0, FIRST_ID), most=ROOM)
    plan = await _explained(worker, caller, sent, "events.xact <")
    await engine.dispose()
    return plan


async def _explained(db: Database, caller: Caller, sent: Sequence[tuple[str, Any]], what: str) -> Node:
    """The plan of the statement that has `what` in it, under the settings that came before it."""
    place, (statement, parameters) = next(found for found in enumerate(sent) if what in found[1][0])
    async with db.read(caller) as session:
        connection = await session.connection()
        for before, values in sent[:place]:
            if "set_config" in before:
                await connection.exec_driver_sql(before, tuple(values))
        answer = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", tuple(parameters))
        told = answer.scalar_one()
    plan: Node = (told if isinstance(told, list) else msgspec.json.decode(told))[0]["Plan"]
    return plan


STATEMENTS = [
    "find_due", "claim", "renew", "release", "targets", "fetch", "fetch from the beginning", "finish", "save",
    "fan_out", "sources", "stamps", "candidates",
]  # fmt: skip
every_state = pytest.mark.parametrize("state", STATES)
every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
@every_state
@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_table_is_read_from_end_to_end(plans: Plans, state: str, name: str, mode: str) -> None:
    assert set() == read_whole(plans[state, name, mode])


@every_mode
@every_state
@pytest.mark.parametrize("name", ["fetch", "fetch from the beginning"])
async def test_what_is_due_is_read_along_the_ordered_index(plans: Plans, state: str, name: str, mode: str) -> None:
    """Nothing is sorted, and what is due later is not looked at."""
    plan = plans[state, name, mode]

    assert {ORDERED} == ways(plan, "deliveries")
    assert not sorts(plan, "deliveries")
    assert rows_read(plan, "deliveries") <= len(ENDPOINTS) * 4 * ROOM
    assert rows_read(plan, "events") <= len(ENDPOINTS) * 4 * ROOM


@every_mode
@every_state
async def test_finding_what_is_due_costs_a_few_look_ups_for_each_endpoint(plans: Plans, state: str, mode: str) -> None:
    plan = plans[state, "find_due", mode]

    assert {ORDERED, KEY} >= ways(plan, "deliveries")
    assert rows_read(plan, "deliveries") <= len(ENDPOINTS) * 5 + 1
    assert rows_read(plan, "lanes") <= len(ENDPOINTS)


@every_mode
@every_state
@pytest.mark.parametrize("name", ["claim", "renew", "release"])
async def test_lanes_are_claimed_by_their_keys(plans: Plans, state: str, name: str, mode: str) -> None:
    plan = plans[state, name, mode]

    assert {"lanes_pkey"} == ways(plan, "lanes")
    assert rows_read(plan, "lanes") <= 2 * len(ENDPOINTS)
    assert rows_read(plan, "endpoints") <= len(ENDPOINTS)


@every_mode
@every_state
async def test_targets_are_read_by_their_keys(plans: Plans, state: str, mode: str) -> None:
    plan = plans[state, "targets", mode]

    assert rows_read(plan, "endpoints") <= len(ENDPOINTS)
    assert rows_read(plan, "endpoint_secrets") <= len(ENDPOINTS)


@every_mode
@every_state
async def test_results_find_their_deliveries_by_key(plans: Plans, state: str, mode: str) -> None:
    plan = plans[state, "finish", mode]
    results = len(ENDPOINTS) * 20

    assert {KEY} == ways(plan, "deliveries")
    assert rows_read(plan, "deliveries") <= 2 * results
    assert rows_read(plan, "lanes") <= len(ENDPOINTS) + results
    assert rows_read(plan, "endpoint_secrets") <= len(ENDPOINTS)


@every_mode
@every_state
@pytest.mark.parametrize("name", ["save", "save copies"])
async def test_storing_reads_no_more_than_it_stores(plans: Plans, state: str, name: str, mode: str) -> None:
    plan = plans[state, name, mode]

    stored = sum(node["Actual Rows"] for node in nodes(plan) if node.get("Subplan Name") == "CTE wanted")
    assert ROOM == stored  # the stamps were right
    assert rows_read(plan, "events") + rows_read(plan, "event_keys") + rows_read(plan, "deliveries") <= 2 * ROOM
    assert {"reckonings_pkey"} == ways(plan, "reckonings")
    assert rows_read(plan, "reckonings") <= 1


@every_mode
@every_state
@pytest.mark.parametrize("name", ["sources", "stamps", "candidates", "save", "save copies"])
async def test_of_topics_and_grants_only_those_of_the_batch_are_read(
    plans: Plans, state: str, name: str, mode: str
) -> None:
    """Each identity has two grants, of which one was ever active."""
    plan = plans[state, name, mode]

    assert rows_read(plan, "topics") <= 3 * ROOM  # their own, and those that routes were heard by
    assert rows_read(plan, "grants") <= 2 * ROOM
    assert rows_read(plan, "routes") <= ROOM
    assert ways(plan, "routes") <= {"routes_grant_id_idx"}


@every_mode
@every_state
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sources", {"topics_arn_key"}),
        ("stamps", {"grants_identity_arn_idx"}),
        ("candidates", {"grants_identity_arn_idx"}),
    ],
)
async def test_topics_and_grants_are_found_by_their_arns(
    plans: Plans, state: str, name: str, expected: set[str], mode: str
) -> None:
    plan = plans[state, name, mode]

    assert expected == ways(plan, "topics") | ways(plan, "grants")


@every_mode
@pytest.mark.parametrize("state", ["full", "bloated"])
async def test_what_is_put_off_is_read_along_the_ordered_index(plans: Plans, state: str, mode: str) -> None:
    """And changed by its place. A million rows are analysed long before anybody enables their endpoint."""
    plan = plans[state, "put_off", mode]

    assert {ORDERED, "Tid Scan"} >= ways(plan, "deliveries")
    assert rows_read(plan, "deliveries") <= 2 * ROOM


@every_mode
@every_state
async def test_fanning_out_reads_its_events_and_the_endpoints_of_their_parties(
    plans: Plans, state: str, mode: str
) -> None:
    plan = plans[state, "fan_out", mode]

    assert rows_read(plan, "events") <= ROOM
    assert rows_read(plan, "endpoints") <= ROOM * len(ENDPOINTS)
    assert rows_read(plan, "deliveries") <= ROOM * len(ENDPOINTS)


@every_mode
@every_state
@pytest.mark.parametrize("name", ["fetch", "fan_out"])
async def test_events_are_found_by_their_key_on_every_day(plans: Plans, state: str, name: str, mode: str) -> None:
    """Also on a day that is still empty: the plan is kept, and tomorrow that day is full."""
    assert [] == [way for way in ways(plans[state, name, mode], "events") if not way.endswith("_pkey")]


@every_state
async def test_a_page_of_the_feed_is_a_walk_along_an_index(plans: Plans, state: str) -> None:
    plan = plans[state, "feed", MODES[0]]

    assert rows_read(plan, "events") <= 4 * (ROOM + 1)


@every_state
async def test_what_is_to_be_added_up_is_a_walk_along_an_index(plans: Plans, state: str) -> None:
    """Nothing is sorted, and of an owner with a million events no more is read than one transaction takes."""
    plan = plans[state, "reckoning", MODES[0]]

    assert {True} == {way.endswith("owner_id_xact_id_idx") for way in ways(plan, "events")}
    assert not sorts(plan, "events")
    assert rows_read(plan, "events") <= 2 * ROOM
