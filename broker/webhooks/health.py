"""What a lane's results mean for its endpoint: failing, healthy again, left alone for a while, or disabled."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.clock import now
from broker.db import Database
from broker.ids import new_id
from broker.webhooks.events import Event, View
from broker.webhooks.fanout import publish
from broker.webhooks.holding import Held
from broker.webhooks.models import EndpointRow, LaneRow
from broker.webhooks.retries import Next, Verdict, why_disabled

# What is stored by an older transaction was fanned out before.
_OLDEST_UNDER_WAY = text("CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")


class Health(msgspec.Struct, frozen=True):
    """The sum of some results. `disabled_because` is a sentence, or None."""

    succeeded: bool
    failed: bool
    quiet_for: timedelta | None
    disabled_because: str | None

    def changes(self, *, failing: bool) -> bool:
        """Whether there is something to write down about an endpoint that was `failing` before, or was not."""
        return self.succeeded == failing or self.failed > failing or bool(self.quiet_for or self.disabled_because)


def judge(steps: Sequence[Next], *, failing_for: timedelta | None) -> Health:
    """Pure: what one or more results say; `failing_for`: how long there was nothing but failures before them."""
    succeeded = any(step.verdict is Verdict.DELIVERED for step in steps)
    failed = not succeeded and not all(step.ours for step in steps)
    gone = any(step.gone for step in steps)
    return Health(
        succeeded=succeeded,
        failed=failed,
        quiet_for=max((step.quiet_for for step in steps if step.quiet_for), default=None),
        disabled_because=why_disabled(failing_for if failed else None, gone=gone),
    )


async def note(db: Database, caller: Caller, lane: Held, health: Health) -> None:
    """Writes what has changed."""
    endpoint = update(EndpointRow).where(EndpointRow.id == lane.id, EndpointRow.tenant_id == lane.tenant_id)
    async with db.begin(caller) as session:
        if health.quiet_for:  # the lane before the endpoint, as everywhere
            await session.execute(
                update(LaneRow).where(LaneRow.id == lane.id).values(quiet_until=func.now() + health.quiet_for)
            )
        if health.succeeded:
            await session.execute(endpoint.values(failing_since=None))
        if health.failed:
            await session.execute(endpoint.values(failing_since=func.coalesce(EndpointRow.failing_since, func.now())))
        if health.disabled_because:
            await _disable(session, caller, lane, health.disabled_because)


async def _disable(session: AsyncSession, caller: Caller, lane: Held, reason: str) -> None:
    disabled = await session.scalar(
        update(EndpointRow)
        .where(EndpointRow.id == lane.id, EndpointRow.tenant_id == lane.tenant_id, EndpointRow.state == "active")
        .values(state="disabled", reason=reason, disabled_at=func.now(), disabled_xact=_OLDEST_UNDER_WAY)
        .returning(EndpointRow.url)
    )
    if disabled is None:
        return
    await record(session, caller, "endpoint.disabled", subject=("endpoint", lane.id), reason=reason)
    event_id = new_id()
    data = {"event_id": str(event_id), "endpoint_id": str(lane.id), "url": disabled, "reason": reason}
    await publish(
        session,
        [
            Event(
                id=event_id,
                at=now(),
                type="endpoint.disabled",
                source="broker",
                data=data,
                owner_id=lane.tenant_id,
                owner_view=View.FULL,
            )
        ],
    )
