"""What each Postgres role may do, beside what row-level security shows it: no more than its one job needs.

Row-level security is not FORCEd: that would hold for the owner of the tables alone, under whom no request is served,
and whose functions (SECURITY DEFINER, listed in `test_migrations`), migrations and commands have to cross tenants; so
it would either break them (no key could be looked up) or need a policy that lets the owner see everything.
"""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from broker.caller import Caller
from broker.db import Database, Role
from broker.ids import new_id
from tests.conftest import MakeTenant
from tests.feedback.conftest import World, make_world
from tests.feedback.sns import NOW


async def refused(db: Database, role: Role, caller: Caller, statement: str, **named: object) -> bool:
    """Whether Postgres refuses this to the role."""
    try:
        async with db.as_role(role).begin(caller) as session:
            await session.execute(text(statement), named)
    except ProgrammingError:
        return True
    return False


@pytest.fixture
async def world(db: Database) -> World:
    """Two parties with a live grant, its routes, and an endpoint each."""
    return await make_world(db)


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
@pytest.mark.parametrize("column", ["owner_id", "delegate_id", "identity_id", "identity_arn"])
async def test_a_grant_never_moves_to_another_party(db: Database, world: World, role: Role, column: str) -> None:
    """A party sees the row, so row-level security alone would let it name somebody else."""
    value = "'x'" if column == "identity_arn" else f"'{world.second.tenant}'"

    assert await refused(db, role, world.delegate, f"UPDATE grants SET {column} = {value}")


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
async def test_an_offer_is_never_changed_after_it_is_made(db: Database, world: World, role: Role) -> None:
    """Only its outcome is written: what was approved is what was shown."""
    assert await refused(db, role, world.delegate, "UPDATE offers SET terms = '{}'")
    assert await refused(db, role, world.delegate, "UPDATE offers SET made_by = 'owner'")


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
async def test_nobody_writes_the_audit_trail_of_another(
    db: Database, world: World, make_tenant: MakeTenant, role: Role
) -> None:
    """Being the other party of an entry lets one read it, not sign it."""
    forged = (
        "INSERT INTO audit (id, tenant_id, counterpart_id, actor, request_id, action, subject_kind, subject_id,"
        " details) VALUES (:id, :victim, :me, 'key', '', 'grant.approved', 'grant', :id, '{}')"
    )

    assert await refused(
        db, role, world.delegate, forged, id=new_id(), victim=world.owner.tenant, me=world.delegate.tenant
    )


async def test_the_pump_cannot_redirect_webhooks(db: Database, world: World) -> None:
    """It sees every tenant's endpoints, and writes only how they fare."""
    changes = ("url = 'https://evil.example'", "secret = 'x'", f"tenant_id = '{world.second.tenant}'")

    assert [True] * 3 == [
        await refused(db, Role.PUMP, world.owner, f"UPDATE endpoints SET {change}") for change in changes
    ]
    assert not await refused(db, Role.PUMP, world.owner, "UPDATE endpoints SET failing_since = now()")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT secret FROM endpoints",
        "SELECT digest FROM api_keys",
        "SELECT external_id FROM connections",
        "SELECT terms FROM grants",
        "SELECT previous FROM routes",
        "SELECT reason FROM routes",
        "SELECT subscription_arn FROM topics",
    ],
)
async def test_ingest_reads_what_routes_a_message_and_nothing_else(db: Database, world: World, statement: str) -> None:
    """It serves requests that nobody has signed in for."""
    assert await refused(db, Role.INGEST, world.owner, statement)


@pytest.mark.parametrize("statement", ["SELECT after_id FROM reckonings", "UPDATE reckonings SET after_xact = 0"])
async def test_ingest_wakes_reckonings_and_does_not_move_them(db: Database, world: World, statement: str) -> None:
    """What was added up is not added up again."""
    assert await refused(db, Role.INGEST, world.owner, statement)


@pytest.mark.parametrize("table", ["usage_days", "usage_windows", "breakers"])
async def test_parties_read_counts_and_do_not_write_them(db: Database, world: World, table: str) -> None:
    """Else the delegate could count its bounces away."""
    assert await refused(db, Role.API, world.delegate, f"DELETE FROM {table}")
    assert await refused(db, Role.API, world.delegate, f"UPDATE {table} SET owner_id = delegate_id")


async def test_ingest_signs_nothing_but_that_mail_was_sent_after_the_end(db: Database, world: World) -> None:
    """It may write into the audit trail of any owner, so only that one entry, under its own name."""
    entry = (
        "INSERT INTO audit (id, tenant_id, actor, request_id, action, subject_kind, subject_id, details)"
        " VALUES (:id, :owner, :actor, '', :action, 'grant', :id, '{}')"
    )
    named = {"id": new_id(), "owner": world.owner.tenant, "actor": "system:ingest", "action": "grant.sent_after_end"}

    assert await refused(db, Role.INGEST, world.owner, entry, **named | {"action": "grant.approved"})
    assert await refused(db, Role.INGEST, world.owner, entry, **named | {"actor": "key"})
    assert not await refused(db, Role.INGEST, world.owner, entry, **named)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (Role.API, "UPDATE events SET data = '{}'"),
        (Role.API, "UPDATE suppressions SET address = NULL"),
        (Role.API, "UPDATE erasures SET state = 'done'"),
        (Role.API, "SELECT cancel_deliveries('{}', '{}')"),
        (Role.INGEST, "SELECT address FROM suppressions"),
        (Role.PUMP, "SELECT address FROM suppressions"),
        (Role.WORKER, "UPDATE events SET owner_view = 'full'"),
        (Role.WORKER, "UPDATE events SET owner_id = delegate_id"),
        (Role.WORKER, "DELETE FROM events"),
        (Role.WORKER, "UPDATE quarantine SET reason = 'x'"),
        (Role.WORKER, "SELECT digest FROM api_keys"),
        (Role.WORKER, "DELETE FROM idempotency_keys"),
    ],
)
async def test_forgetting_can_blank_and_nothing_else(db: Database, world: World, role: Role, statement: str) -> None:
    """What blanks events can neither open them to a party nor take them out of the books."""
    assert await refused(db, role, world.owner, statement)


async def test_nobody_cancels_deliveries_of_strangers(db: Database, world: World) -> None:
    """The one function of forgetting that crosses tenants looks whether the event is the caller's."""
    async with db.begin(world.second) as session:
        event = (
            "INSERT INTO events (id, at, type, owner_id, owner_view, source, data)"
            " VALUES (:id, :at, 'x', :me, 'full', 'broker', '{}')"
        )
        named = {"id": new_id(), "at": NOW, "me": world.second.tenant}
        await session.execute(text(event), named)
        delivery = (
            "INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority)"
            " VALUES (:endpoint, :id, :at, :me, 1)"
        )
        await session.execute(text(delivery), {**named, "endpoint": world.endpoints[world.second.tenant]})

    async with db.as_role(Role.WORKER).begin(world.owner) as session:
        asked = {"ids": [named["id"]], "ats": [NOW]}
        row = (await session.execute(text("SELECT * FROM cancel_deliveries(:ids, :ats)"), asked)).one()

    assert (0, 0, 0) == tuple(row)
    assert [world.second.tenant] == await world.deliveries()
