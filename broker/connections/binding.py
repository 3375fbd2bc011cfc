"""An account belongs to the one tenant that has proven it; and what is told when a connection changes its state."""

from collections.abc import Iterable

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.audit.service import record
from broker.caller import Caller
from broker.connections.models import Account, Connection, State
from broker.ids import new_id
from broker.webhooks.events import Event, View
from broker.webhooks.fanout import publish

TAKEN = (
    "This account is already bound to another tenant. If it is yours, make a role in it for the broker (a connection "
    "of kind role), or ask the operator of the broker to release it."
)

_EVENTS = {
    State.VERIFIED: "connection.verified",
    State.DEGRADED: "connection.degraded",
    State.LOST: "connection.lost",
}


async def bind(session: AsyncSession, row: Connection) -> bool:
    """Binds the account to the connection's tenant; False when it is another's. The primary key decides, no claim."""
    await session.execute(
        insert(Account)
        .values(account_id=row.account_id, tenant_id=row.tenant_id, connection_id=row.id)
        .on_conflict_do_nothing()
    )
    holder = await session.scalar(select(Account.tenant_id).where(Account.account_id == row.account_id))
    return holder == row.tenant_id


async def hold(session: AsyncSession, account_id: str) -> None:
    """Whoever unbinds the account waits for grants that are being agreed on for it, and they for the unbinding."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": _key(account_id)})


async def lean_on(session: AsyncSession, account_ids: Iterable[str]) -> None:
    """Until the transaction ends, nobody unbinds one of these accounts, whose binding is looked at afterwards."""
    for account_id in sorted(account_ids):
        query = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:key, 0))")
        await session.execute(query, {"key": _key(account_id)})


def _key(account_id: str) -> str:
    return f"account {account_id}"


async def announce(session: AsyncSession, caller: Caller, row: Connection, *, before: str) -> None:
    """Audit row and event of a change of state; nothing when the state is what it was."""
    if row.state == before or State(row.state) not in _EVENTS:
        return
    name = _EVENTS[State(row.state)]
    await record(session, caller, name, subject=("connection", row.id), reason=row.reason, account_id=row.account_id)
    event_id = new_id()
    told = {
        "event_id": str(event_id),
        "connection_id": str(row.id),
        "account_id": row.account_id,
        "state": row.state,
        "reason": row.reason,
    }
    event = Event(
        id=event_id,
        at=clock.now(),
        type=name,
        source="broker",
        data=told,
        owner_id=row.tenant_id,
        owner_view=View.FULL,
    )
    await publish(session, [event])
