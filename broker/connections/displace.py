"""Taking an account from the tenant that it is bound to: a role goes before a mere proof, the operator before both.

Whoever can sign anything in an account proves it, be it an intern or a thief of keys, and who comes first would keep
its administrator out for good. Who made a role in it that trusts us administers it (IAM, CreateRole).
"""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import NOBODY, Caller
from broker.connections.binding import announce, hold
from broker.connections.models import Account, Connection, Kind, State
from broker.connections.service import Release
from broker.db import Database
from broker.errors import Conflict, NotFound

DISPLACED = (
    "Another tenant has shown a role in this account that trusts the broker, which goes before a proof without rights. "
    "If the account is yours, remove that role and ask the operator of the broker to release the account."
)
RELEASED = "The operator of the broker has released this account: {}"


async def displace(db: Database, account_id: str, claimant: UUID, *, release: Release) -> None:
    """Unbinds the account from another tenant that holds it by a proof alone, with no grant that rests on it.

    Nothing happens where it is free, the claimant's, held by a role, or in use: binding decides afterwards.
    """
    holder = await _holder(db, account_id)
    if holder is None or holder == claimant:
        return
    caller = Caller.system(holder, job="displace")
    try:
        await _take(db, caller, account_id, DISPLACED, release, may_go=lambda row: row.kind != Kind.ROLE)
    except Conflict:  # a grant rests on it
        return


async def release_account(db: Database, account_id: str, *, why: str, release: Release) -> UUID:
    """The operator's: unbinds the account from whoever holds it, and returns the connection, which is lost.

    `NotFound` where nobody holds it, `Conflict` while a grant rests on it.
    """
    holder = await _holder(db, account_id)
    taken = None
    if holder is not None:
        caller = Caller.system(holder, job="operator")
        taken = await _take(db, caller, account_id, RELEASED.format(why), release, may_go=lambda _: True)
    if taken is None:
        raise NotFound(f"Account {account_id} is bound to nobody.")
    return taken


async def _holder(db: Database, account_id: str) -> UUID | None:
    async with db.read(NOBODY) as session:
        query = text("SELECT tenant_id FROM account_tenants(:accounts)")
        found: UUID | None = await session.scalar(query, {"accounts": [account_id]})
    return found


async def _take(
    db: Database,
    caller: Caller,
    account_id: str,
    reason: str,
    release: Release,
    *,
    may_go: Callable[[Connection], bool],
) -> UUID | None:
    """The connection that lost the account; None where it may not, or has none."""
    async with db.begin(caller) as session:
        row = await _bound(session, caller, account_id)
        if row is None or not may_go(row):
            return None
        await hold(session, account_id)
        await release(session, row.id)
        await session.execute(
            delete(Account).where(Account.account_id == account_id, Account.tenant_id == caller.tenant)
        )
        before = row.state
        row.state, row.reason, row.nonce, row.due_at = State.LOST, reason, None, None
        await record(
            session, caller, "account.released", subject=("connection", row.id), account_id=account_id, reason=reason
        )
        await announce(session, caller, row, before=before)
        return row.id


async def _bound(session: AsyncSession, caller: Caller, account_id: str) -> Connection | None:
    query = (
        select(Connection)
        .join(Account, Account.connection_id == Connection.id)
        .where(Account.account_id == account_id, Connection.tenant_id == caller.tenant)
        .with_for_update(key_share=True, of=Connection)
    )
    return await session.scalar(query)
