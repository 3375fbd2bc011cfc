"""Kills `broker migrate` at a point of its way over an empty database, and lets it begin again."""

import asyncio
import random
import signal
import subprocess
import time

from bench.crash_points import AIMS
from bench.crash_result import Crash
from bench.crash_stack import Place
from bench.database import connection
from broker.db import Role
from broker.local.postgres_data import APP, OWNER
from broker.local.stack import BROKER
from broker.migrate import head
from broker.points import VARIABLE

_SCHEMA = """
    SELECT format('%s.%s %s %s', table_name, column_name, data_type, is_nullable) AS line
    FROM information_schema.columns WHERE table_schema = 'public'
      AND table_name !~ '_[0-9]{8}$|_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
    UNION ALL SELECT format('%s %s', proname, md5(prosrc)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT format('%s %s', tablename, policyname) FROM pg_policies WHERE schemaname = 'public'
    ORDER BY 1
"""
_GRANTED = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = $1"


def crash(place: Place, point: str, seed: int) -> Crash:
    """One run, in a database of its own."""
    hit = random.Random(f"{point} {seed}").randint(1, AIMS[point].hits)  # noqa: S311 — chooses what to try
    name = f"migrated_{point.replace('.', '_')}_{seed}"
    place.postgres.create_database(name)
    url = place.postgres.url(OWNER, name)
    try:
        died = _migrate(place, url, {VARIABLE: f"{point}:{hit}"})
        began = time.monotonic()
        ended = _migrate(place, url, {})
        took = round((time.monotonic() - began) * 1000, 1)
        why = asyncio.run(_wrong(url, place.postgres.owner_url))
    finally:
        place.postgres.drop_database(name)
    if died != -signal.SIGKILL:
        return Crash(point=point, seed=seed, hit=hit, role="migrate", why="the point was not reached")
    why = why or ("" if ended == 0 else "a second migration failed")
    return Crash(point=point, seed=seed, hit=hit, role="migrate", recover_ms=took, stuck=int(bool(why)), why=why)


def _migrate(place: Place, url: str, more: dict[str, str]) -> int:
    environment = {**place.environment, "BROKER_MIGRATION_DATABASE_URL": url, **more}
    words = (*BROKER, "migrate")
    return subprocess.run(words, env=environment, capture_output=True, timeout=120, check=False).returncode  # noqa: S603 — our own words


async def _wrong(url: str, whole_url: str) -> str:
    """What is not as in the database of the run, which was migrated in one go."""
    async with connection(url) as opened, connection(whole_url) as whole:
        found = await opened.fetchval("SELECT max(version_num) FROM alembic_version")
        if found != head():
            return f"the schema is {found}, not {head()}"
        same = [each["line"] for each in await opened.fetch(_SCHEMA)] == [
            each["line"] for each in await whole.fetch(_SCHEMA)
        ]
        roles = await opened.fetchval(_GRANTED, APP)
    return (
        ""
        if same and roles >= len(Role)
        else f"the schema is {'' if same else 'not '}the same, {APP} has {roles} roles"
    )
