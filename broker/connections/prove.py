"""Proving an account without giving any right to it."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.caller import Caller
from broker.connections import challenge
from broker.connections.binding import TAKEN, announce, bind
from broker.connections.models import Connection, Kind, State
from broker.connections.service import find
from broker.connections.views import ConnectionView, Installation, PresignedProof, shown
from broker.db import Database
from broker.errors import Conflict, Refused
from broker.idempotency import remember
from broker.points import reach


class Signer(Protocol):
    """Who signed a presigned request, as STS says it."""

    @property
    def account_id(self) -> str: ...


class AccountProver(Protocol):
    """Sends a presigned request to the one STS endpoint that counts."""

    @property
    def endpoint(self) -> str:
        """Scheme and host of that endpoint, without a trailing slash."""

    async def prove(self, url: str, nonce: str) -> Signer:
        """Raises Refused (bad signature, another host) or Unavailable."""


async def prove(
    db: Database,
    caller: Caller,
    connection_id: UUID,
    asked: PresignedProof,
    *,
    prover: AccountProver,
    here: Installation,
) -> ConnectionView:
    """Verifies the connection and binds the account, when STS says that this account signed our challenge.

    Invalid for another request than the one asked for; Conflict without an open challenge, for a signature that STS
    refuses, for another account, and for one that another tenant has proven.
    """
    nonce = await _open_nonce(db, caller, connection_id)
    challenge.check(
        asked.url,
        asked.headers,
        nonce,
        endpoint=here.proof_endpoint,
        region=here.settings.aws_region,
        now=clock.now(),
    )
    try:
        signer = await prover.prove(asked.url, nonce)
    except Refused as error:
        raise Conflict(f"STS refused the presigned request: {error.detail}") from error
    async with db.begin(caller) as session:
        row = await find(session, caller, connection_id, lock=True)
        if row.nonce != nonce:
            raise Conflict("This challenge was used or replaced meanwhile; ask for a new one with verify.")
        if signer.account_id != row.account_id:
            raise Conflict(f"The request was signed by account {signer.account_id}, not by {row.account_id}.")
        if not await bind(session, row):
            raise Conflict(TAKEN)
        await _verified(session, caller, row)
        reach("connections.proven")
        return await remember(session, caller, shown(row, here))


async def _open_nonce(db: Database, caller: Caller, connection_id: UUID) -> str:
    async with db.begin(caller) as session:
        row = await find(session, caller, connection_id)
        now: datetime = (await session.execute(select(func.now()))).scalar_one()
    if row.kind == Kind.ROLE:
        raise Conflict("This connection is verified by its role; ask for it with verify.")
    if row.nonce is None or row.nonce_expires_at is None or row.nonce_expires_at <= now:
        raise Conflict("No challenge is open; ask for a new one with verify.")
    return row.nonce


async def _verified(session: AsyncSession, caller: Caller, row: Connection) -> None:
    """The nonce goes in the same transaction: a proof works once."""
    before = row.state
    row.state, row.reason, row.nonce, row.nonce_expires_at = State.VERIFIED, None, None, None
    row.verified_at = func.now()
    await session.flush()
    await session.refresh(row)
    await announce(session, caller, row, before=before)
