"""What others do in the transactions in which grants become active and end."""

from typing import Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from broker.grants.models import Grant


class Hook(Protocol):
    """Called in the transaction that writes down what became of a grant."""

    async def __call__(self, session: AsyncSession, grant: Grant) -> None: ...


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What feedback does with its routes.

    `activated`: once for each grant that has become active. Its end itself makes the routes due, in the transaction
    that ends it (`broker.grants.moves.wake_routes`). `ended`: when its policy is first seen to be gone after that, or
    cannot be taken away; maybe again, when the policy shows up once more: what SES would not give back then is tried
    again at once.
    """

    activated: Hook
    ended: Hook
