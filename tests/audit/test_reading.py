"""Reading the trail: filters, and the operator's check of the database by command."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner

from broker.audit import service
from broker.audit.export import head
from broker.audit.service import Filters
from broker.cli import main
from broker.ids import new_id
from tests.audit.conftest import SIGNER, Trail


async def actions(trail: Trail, **filters: Any) -> list[str]:
    """What is listed."""
    return [each.action for each in await service.entries(trail.db, trail.tenant, Filters(**filters))]


async def test_entries_are_found_by_action_subject_and_time(trail: Trail) -> None:
    """Each by itself and together; a star stands for the rest of an action and is nothing but that."""
    [first, second] = await trail.write(2)
    async with trail.db.begin(trail.tenant) as session:
        await service.record(session, trail.tenant, "endpoint.made", subject=("endpoint", second))
    everything = await service.entries(trail.db, trail.tenant, Filters())
    at = everything[2].at

    assert ["grant.approved"] * 2 == await actions(trail, action="grant.*")
    assert ["grant.approved"] * 2 == await actions(trail, action="grant.approved")
    assert [] == await actions(trail, action="grant.") + await actions(trail, action="%*")
    assert ["grant.approved", "endpoint.made"] == await actions(trail, subject_id=second)
    assert ["endpoint.made"] == await actions(trail, subject_id=second, subject_kind="endpoint")
    assert ["grant.approved", "endpoint.made"] == await actions(trail, since=at)
    assert ["tenant.registered", "grant.approved"] == await actions(trail, until=at)
    assert [] == await actions(trail, since=at + timedelta(hours=1))
    assert ["grant.approved"] == await actions(trail, subject_id=first, action="grant.*")
    assert [] == await actions(trail, subject_id=new_id())


async def verify(trail: Trail, *words: str) -> tuple[int, Any]:
    """`broker audit verify` over the database: exit code, and what it says of this tenant."""
    keys = [word for key in SIGNER.public.published().keys for word in ("--key", key.x)]
    url = trail.owner.url.render_as_string(hide_password=False)
    environment: Mapping[str, str] = {
        "BROKER_DATABASE_URL": url,
        "BROKER_SECRET_KEYS": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "BROKER_API_KEY_PEPPER": "p" * 32,
        "BROKER_REGISTRATION": "open",
    }
    arguments = ["audit", "verify", "--json", *keys, *words]
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=environment)
    told = json.loads(done.output)
    return done.exit_code, next(each for each in told["chains"] if each["tenant_id"] == str(trail.tenant.tenant))


async def test_the_operator_checks_the_database_by_command(trail: Trail, tmp_path: Path) -> None:
    """Chain by chain, with what waits; and against a head that a tenant has kept."""
    await trail.write(2)
    await trail.seal_all()
    kept = tmp_path / "head.json"
    kept.write_bytes(msgspec.json.encode(await head(trail.db, trail.tenant, SIGNER)))
    await trail.write()
    _, good = await verify(trail, "--head", str(kept))
    await trail.tamper("UPDATE audit SET details = '{}' WHERE tenant_id = :me AND action = 'grant.approved'")
    code, bad = await verify(trail)

    assert (3, 1, []) == (good["sealed"], good["waiting"], good["findings"])
    assert 1 == code
    assert [("changed", 2), ("changed", 3)] == [(each["wrong"], each["position"]) for each in bad["findings"]]
