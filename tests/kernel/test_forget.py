"""Answers kept for idempotency keys are gone after a day."""

import msgspec
from sqlalchemy import text

from broker import idempotency
from broker.caller import NOBODY, IdempotencyRequest
from broker.db import Database, Role
from broker.ids import new_id
from tests.conftest import new_tenant


class Answer(msgspec.Struct, frozen=True):
    """Something to be kept."""

    secret: str


async def test_only_old_answers_are_forgotten(db: Database) -> None:
    """A secret in an answer lives no longer than the answer may be asked for again."""
    tenant = await new_tenant(db)
    keys = {"old": str(new_id()), "new": str(new_id())}
    for key in keys.values():
        asked = IdempotencyRequest(scope="test", key=key, fingerprint=b"", status=201)
        caller = msgspec.structs.replace(tenant, idempotency=asked)
        async with db.begin(caller) as session:
            await idempotency.remember(session, caller, Answer("whsec_"))
    async with db.begin(tenant) as session:
        backdate = text("UPDATE idempotency_keys SET created_at = now() - interval '25 h' WHERE key = :key")
        await session.execute(backdate, {"key": keys["old"]})

    async with db.as_role(Role.WORKER).begin(NOBODY) as session:
        await idempotency.forget(session)

    async with db.read(tenant) as session:
        left = await session.execute(text("SELECT key FROM idempotency_keys"))
        assert [keys["new"]] == list(left.scalars())
