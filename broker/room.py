"""Whether a tenant has room for one more: counted under a lock, so that two at once cannot both take the last place."""

from typing import Any

from sqlalchemy import Select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.errors import Conflict
from broker.quotas import MOST, Quota, Quotas

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 44))")
_OWN = text("SELECT most FROM quotas WHERE tenant_id = :tenant AND name = :name")


async def leave_room(session: AsyncSession, caller: Caller, quota: Quota, counted: Select[Any]) -> None:
    """`Conflict` when `counted`, which gives one number, has reached the limit; two round trips, three at the end.

    Called first of all in a transaction, so that everybody takes the lock before any other.
    """
    allowed: Quotas = session.info.get("quotas") or Quotas()
    await session.execute(_LOCK, {"name": f"{quota} {caller.tenant}"})
    own = await session.scalar(_OWN, {"tenant": caller.tenant, "name": quota.value})
    most = allowed.most(quota) if own is None else own
    if not most or int(await session.scalar(counted) or 0) < most:
        return
    about = MOST[quota]
    raise Conflict(f"A tenant can have {most} {about.things}; {about.way_out}.")
