"""What others do in the transactions in which grants become active and end, and what they know of a grant's use."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

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


class LastUsed(Protocol):
    """About when mail was last sent under each of these grants; those that nobody heard of are left out."""

    async def __call__(self, session: AsyncSession, grant_ids: Sequence[UUID], /) -> Mapping[UUID, datetime]: ...


class OwnSet(Protocol):
    """The configuration set that was made for a grant in the delegate's account; None without one."""

    async def __call__(self, session: AsyncSession, grant_id: UUID, /) -> str | None: ...
