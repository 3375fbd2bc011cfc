"""A migrated database whose clock stands still until it is told to move: days pass in no time, and each run is alike.

Every `now()` of the service and of its functions is looked up in a schema of the test's before Postgres's own.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.db import Database, Role, connect, sessions
from broker.migrate import migrate
from tests.servers import Postgres, execute

PATH = "public, clock, pg_catalog"
_CLOCK = (
    "CREATE SCHEMA clock",
    "GRANT USAGE ON SCHEMA clock TO PUBLIC",
    "CREATE TABLE clock.hand (at timestamptz NOT NULL)",
    "GRANT SELECT, UPDATE ON clock.hand TO PUBLIC",
    "INSERT INTO clock.hand SELECT date_trunc('second', pg_catalog.now())",
    "CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM clock.hand'",
)
# Functions that run as their owner look nowhere but where they say.
_FUNCTIONS = f"""
DO $$ DECLARE one record; BEGIN
  FOR one IN SELECT oid::regprocedure AS name FROM pg_proc
      WHERE pronamespace = 'public'::regnamespace AND proconfig IS NOT NULL LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = {PATH}, pg_temp', one.name);
  END LOOP;
END $$
"""


async def make(server: Postgres, url: str) -> str:
    """Migrates the empty database at `url`; the service's login on it."""
    name = make_url(url).database
    await execute(url, *_CLOCK, f'ALTER DATABASE "{name}" SET search_path = {PATH}')
    await migrate(url, login=make_url(server.app_url).username)
    await execute(url, _FUNCTIONS)
    return make_url(server.app_url).set(database=name).render_as_string(hide_password=False)


class StillDatabase:
    """The service's connections to such a database, and the hand of its clock."""

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = connect(url, pool_size=4)
        self.api = Database(sessions(self._engine), role=Role.API)
        self.now = datetime.now(UTC).replace(microsecond=0)

    async def move(self, by: timedelta) -> datetime:
        """The time is later by so much."""
        self.now += by
        async with self._engine.begin() as connection:
            await connection.execute(text("UPDATE clock.hand SET at = :at"), {"at": self.now})
        return self.now

    async def close(self) -> None:
        """Ends the connections."""
        await self._engine.dispose()
