"""`Idempotency-Key`: the same request twice does its work once and answers the same.

The row is written in the use case's own transaction, so work and answer are stored together or not at all.
"""

from typing import Any, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller, IdempotencyRequest
from broker.crypto import Keyring
from broker.errors import Conflict, Invalid

T = TypeVar("T", bound=msgspec.Struct)


class Replayed(Exception):
    """Raised instead of working again: the stored answer of the first time. `sealed`: it holds a secret."""

    def __init__(self, *, status: int, body: bytes, sealed: bool) -> None:
        super().__init__("replayed")
        self.status = status
        self.body = body
        self.sealed = sealed


async def start(session: AsyncSession, request: IdempotencyRequest, tenant_id: UUID | None) -> None:
    """Claims the key; `Replayed` when it has an answer, `Conflict` while in flight, `Invalid` for another request."""
    lock = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:scope || ' ' || :key, 42))")
    named: dict[str, Any] = {"scope": request.scope, "key": request.key}
    if not (await session.execute(lock, named)).scalar_one():
        raise Conflict("A request with this Idempotency-Key is still running; try again in a moment.")
    found = (
        await session.execute(
            text(
                "SELECT fingerprint, status, body, sealed FROM idempotency_keys"
                " WHERE scope = :scope AND key = :key AND created_at > now() - interval '24 hours'"
            ),
            named,
        )
    ).one_or_none()
    if found is None:
        return
    if bytes(found.fingerprint) != request.fingerprint:
        raise Invalid("This Idempotency-Key was used with another request; use a new key.")
    raise Replayed(status=found.status, body=bytes(found.body), sealed=found.sealed)


async def forget(session: AsyncSession) -> int:
    """Removes answers older than 24 hours, of all tenants, and with them the secrets they hold; how many there were."""
    gone: int = (await session.execute(text("SELECT forget_answers()"))).scalar_one()
    return gone


async def remember(session: AsyncSession, caller: Caller, answer: T, *, keyring: Keyring | None = None) -> T:
    """Stores the answer beside the work and returns it; give `keyring` when the answer holds a secret."""
    if caller.idempotency is None:
        return answer
    body = msgspec.json.encode(answer)
    await session.execute(
        text(
            "INSERT INTO idempotency_keys (scope, key, tenant_id, fingerprint, status, body, sealed)"
            " VALUES (:scope, :key, :tenant, :fingerprint, :status, :body, :sealed)"
            " ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status,"
            " body = excluded.body, sealed = excluded.sealed, created_at = now()"
        ),
        {
            "scope": caller.idempotency.scope,
            "key": caller.idempotency.key,
            "tenant": caller.tenant_id,
            "fingerprint": caller.idempotency.fingerprint,
            "status": caller.idempotency.status,
            "body": keyring.seal(body) if keyring else body,
            "sealed": keyring is not None,
        },
    )
    return answer
