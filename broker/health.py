"""Whether this process is alive, and whether it can serve."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum

import msgspec
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from sqlalchemy import text

from broker import clock, log
from broker.caller import NOBODY
from broker.db import Database
from broker.errors import BrokerError
from broker.web import KEYLESS

WITHIN = 2.0  # seconds; what does not answer within them does not answer

logger = log.get(__name__)


class Condition(StrEnum):
    """`degraded`: everything is served and nothing is lost, but some of it takes longer."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class Dependency(msgspec.Struct, frozen=True):
    """Something that this process needs; `since`: when this process first found it so, by its own clock."""

    status: Condition
    since: datetime


class Health(msgspec.Struct, frozen=True):
    """`unavailable` without the database; `degraded` without Redis, where work is found by looking for it."""

    status: Condition
    database: Dependency
    redis: Dependency


class Watched:
    """A dependency and since when it is as it is. `ask` raises `BrokerError` when it is not there."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._ask = ask
        self._last: Dependency | None = None

    async def look(self) -> Dependency:
        """How it is now, within two seconds."""
        try:
            async with asyncio.timeout(WITHIN):
                await self._ask()
        except (BrokerError, TimeoutError):
            return self._note(Condition.UNAVAILABLE)
        return self._note(Condition.OK)

    def _note(self, status: Condition) -> Dependency:
        if self._last is None or self._last.status is not status:
            if self._last is not None or status is not Condition.OK:
                logger.warning("dependency changed", dependency=self._name, status=status.value)
            self._last = Dependency(status, clock.now())
        return self._last


class Readiness:
    """Asks everything that this process needs, side by side."""

    def __init__(self, db: Database, ping: Callable[[], Awaitable[None]]) -> None:
        """`ping` asks Redis."""
        self._db = db
        self._database = Watched("database", self._select)
        self._redis = Watched("redis", ping)

    async def look(self) -> Health:
        """How everything is now."""
        database, redis = await asyncio.gather(self._database.look(), self._redis.look())
        if database.status is not Condition.OK:
            return Health(Condition.UNAVAILABLE, database, redis)
        return Health(Condition.OK if redis.status is Condition.OK else Condition.DEGRADED, database, redis)

    async def _select(self) -> None:
        async with self._db.read(NOBODY) as session:
            await session.execute(text("SELECT 1"))


class HealthController(Controller):
    """For load balancers and process managers."""

    path = "/health"
    tags = ("Health",)
    opt = KEYLESS  # who sends a key all the same must not be told that we are dead because it cannot be looked up
    security = ({},)

    @get("/live", summary="Is the process alive", operation_id="live")
    async def live(self) -> dict[str, str]:
        """Answers as long as the event loop runs."""
        return {"status": "ok"}

    @get("/ready", summary="Can it serve", operation_id="ready")
    async def ready(self, readiness: NamedDependency[Readiness]) -> Response[Health]:
        """503 while the database cannot be reached. Without Redis it serves: 200, and `degraded`."""
        health = await readiness.look()
        if health.status is Condition.UNAVAILABLE:
            return Response(health, status_code=503, headers={"Retry-After": "2"})
        return Response(health)
