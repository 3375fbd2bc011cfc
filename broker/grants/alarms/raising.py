"""Raising an alarm: two mails are due, in the transaction in which a grant is found to be stuck."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from broker.due import wake
from broker.grants.alarms.models import Alarm
from broker.grants.lifecycle import Party
from broker.grants.models import Grant
from broker.ids import new_id


async def raise_alarm(session: AsyncSession, grant: Grant, *, error: str, commands: Sequence[str]) -> None:
    """Both parties are to be told by mail. Nobody waits for that: what removes the access least of all."""
    for party in Party:
        alarm = Alarm(
            id=new_id(),
            tenant_id=grant.owner_id,
            grant_id=grant.id,
            party=party,
            error=error,
            commands=list(commands) if party is Party.OWNER else [],
        )
        session.add(alarm)
        wake(session, alarm)
    await session.flush()
