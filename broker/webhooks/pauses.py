"""Pausing an endpoint: its deliveries are collected and nothing is sent, until it is resumed."""

from uuid import UUID

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.errors import Conflict
from broker.idempotency import remember
from broker.webhooks.endpoints import find, wake
from broker.webhooks.portrait import view
from broker.webhooks.views import EndpointView


async def pause(db: Database, caller: Caller, endpoint_id: UUID) -> EndpointView:
    """Sends nothing from now on, but for the few attempts under way; `Conflict` when the endpoint is disabled."""
    return await _move(db, caller, endpoint_id, to="paused")


async def resume(db: Database, caller: Caller, endpoint_id: UUID) -> EndpointView:
    """Sends what was collected; `Conflict` when the endpoint is disabled. What the receiver asked for still holds."""
    return await _move(db, caller, endpoint_id, to="active")


async def _move(db: Database, caller: Caller, endpoint_id: UUID, *, to: str) -> EndpointView:
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, endpoint_id, locked=True)
        if endpoint.state == "disabled":
            raise Conflict("The endpoint is disabled; enable it first.")
        if endpoint.state != to:
            endpoint.state = to
            if to == "active":
                await wake(session, caller, endpoint_id)
            action = "endpoint.resumed" if to == "active" else "endpoint.paused"
            await record(session, caller, action, subject=("endpoint", endpoint_id))
        return await remember(session, caller, await view(session, caller, endpoint))
