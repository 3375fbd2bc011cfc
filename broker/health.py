"""Whether this process is alive, and whether it can serve."""

from typing import Literal

import msgspec
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from sqlalchemy import text

from broker.caller import NOBODY
from broker.db import Database
from broker.errors import BrokerError

PUBLIC = {"public": True}


class Health(msgspec.Struct, frozen=True):
    """`ok`, or what is missing."""

    status: Literal["ok", "unavailable"]
    database: Literal["ok", "unavailable"]


class HealthController(Controller):
    """For load balancers and process managers."""

    path = "/health"
    tags = ("Health",)
    opt = PUBLIC
    security = ({},)

    @get("/live", summary="Is the process alive", operation_id="live")
    async def live(self) -> dict[str, str]:
        """Answers as long as the event loop runs."""
        return {"status": "ok"}

    @get("/ready", summary="Can it serve", operation_id="ready")
    async def ready(self, db: NamedDependency[Database]) -> Response[Health]:
        """503 while the database cannot be reached. Redis is not asked: nothing depends on it."""
        try:
            async with db.read(NOBODY) as session:
                await session.execute(text("SELECT 1"))
        except BrokerError:
            return Response(Health("unavailable", "unavailable"), status_code=503, headers={"Retry-After": "2"})
        return Response(Health("ok", "ok"))
