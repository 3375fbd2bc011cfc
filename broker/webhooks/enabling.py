"""Enabling an endpoint: new events go to it at once, and what it missed follows at a bounded rate."""

from uuid import UUID

import msgspec
from sqlalchemy import Uuid, text
from sqlalchemy.sql import bindparam

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.idempotency import remember
from broker.webhooks.deliveries import HELD
from broker.webhooks.endpoints import find, wake
from broker.webhooks.portrait import view
from broker.webhooks.replays.service import catch_up
from broker.webhooks.views import EndpointView

AT_ONCE = 10_000
PRIORITIES = range(4)

# Under a lock that keeps the endpoint disabled. What is being finished in this moment is not waited for, and keeps its
# own time. By its place in the table (ctid), under a lock: no statistics can make that slow.
_PUT_OFF = text(
    """
    WITH closed AS MATERIALIZED (
      SELECT id FROM endpoints WHERE id = :endpoint AND tenant_id = :me AND state = 'disabled' FOR SHARE
    ), picked AS MATERIALIZED (
      SELECT d.ctid FROM deliveries d
      WHERE d.endpoint_id = (SELECT id FROM closed) AND d.priority = :priority AND d.next_at < :held
      ORDER BY d.next_at, d.event_id LIMIT :most FOR UPDATE OF d SKIP LOCKED
    ), put_off AS (
      UPDATE deliveries d SET next_at = :held, attempts = 0
      WHERE d.ctid = ANY (ARRAY(SELECT picked.ctid FROM picked)) RETURNING d.event_id
    )
    SELECT count(*) FROM put_off
    """
).bindparams(bindparam("endpoint", type_=Uuid()), bindparam("me", type_=Uuid()))


async def enable(db: Database, caller: Caller, endpoint_id: UUID) -> EndpointView:
    """Lets a disabled endpoint get events again, and makes a `catch_up` replay. A paused one stays paused.

    What is pending is put off first, in transactions of their own while the endpoint is still disabled, since there may
    be a million of it: a crash leaves a disabled endpoint, and enabling it goes on where it was.
    """
    await _put_off(db, msgspec.structs.replace(caller, idempotency=None), endpoint_id)
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, endpoint_id, locked=True)
        if endpoint.state == "disabled":
            await catch_up(session, caller, endpoint)
            endpoint.state = "active"
            endpoint.reason = endpoint.failing_since = None
            endpoint.disabled_at = endpoint.disabled_xact = None
            await wake(session, caller, endpoint_id, at_once=True)
            await record(session, caller, "endpoint.enabled", subject=("endpoint", endpoint.id))
        return await remember(session, caller, await view(session, caller, endpoint))


async def _put_off(db: Database, caller: Caller, endpoint_id: UUID) -> None:
    named = {"endpoint": endpoint_id, "me": caller.tenant, "held": HELD, "most": AT_ONCE}
    for priority in PRIORITIES:
        count = AT_ONCE
        while count == AT_ONCE:
            async with db.begin(caller) as session:
                count = (await session.execute(_PUT_OFF, {**named, "priority": priority})).scalar_one()
