"""Who is told what a sync has found: the audit of both parties, and their webhooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.grants.events import announce
from broker.grants.models import Grant
from broker.grants.wanted import Work


async def tell(
    session: AsyncSession, work: Work, grant: Grant, what: str, *, commands: Sequence[str] | None = None, **details: Any
) -> None:
    """One event of a grant, told to both parties; `commands`, what the owner can do by hand, to the owner alone.

    They are not in the audit, which both read as it is; from the delegate's webhooks `webhooks.render` leaves them out.
    """
    told = {key: _plain(value) for key, value in details.items()}
    await record(session, work.caller, what, subject=("grant", grant.id), counterpart_id=grant.delegate_id, **told)
    await announce(session, what, grant, **told, **({} if commands is None else {"commands": commands}))


def why_suspended(grant: Grant) -> dict[str, Any]:
    """By whom, and why: the owner's note, or the figures that tripped the breaker."""
    return {"suspended_by": grant.suspended_by, **(grant.suspension or {})}


def _plain(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
