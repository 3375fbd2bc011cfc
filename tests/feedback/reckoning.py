"""Feedback of right now in a committed world, and its reckoning."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.crypto import Keyring
from broker.db import Database, Role
from broker.direct import Direct
from broker.feedback import reckoning
from broker.feedback.ingest import Ingest
from broker.feedback.reckoned import Fold, Reckoned
from tests.feedback.conftest import World, arrived, database_time, make_world
from tests.feedback.examples import bounce, complaint, delivery, notified


class Counting:
    """A world, its ingest, and the reckoning of its owner."""

    def __init__(self, world: World, line: Direct, keyring: Keyring) -> None:
        self.world = world
        self.ingest = Ingest(line, keyring)
        self._mails = 0

    @classmethod
    async def make(cls, db: Database, line: Direct, keyring: Keyring) -> "Counting":
        """A world of its own, really committed."""
        return cls(await make_world(db), line, keyring)

    async def now(self) -> datetime:
        """By the database."""
        return await database_time(self.world.db, self.world.owner)

    async def delivered(self, number: int, **mail: Any) -> None:
        """So many recipients got a mail."""
        await self.take("Delivery", delivery(), "recipients", number, **mail)

    async def bounced(self, number: int, *, sub_type: str = "General", **mail: Any) -> None:
        """So many recipients bounced."""
        await self.take("Bounce", bounce(bounceSubType=sub_type), "bouncedRecipients", number, **mail)

    async def complained(self, number: int, **mail: Any) -> None:
        """SES guesses that one of so many recipients complained."""
        await self.take("Complaint", complaint(), "complainedRecipients", number, **mail)

    async def take(self, type_: str, details: dict[str, Any], where: str, number: int, **mail: Any) -> None:
        """One message about so many recipients of a mail of its own, just now."""
        self._mails += 1
        now = await self.now()
        addresses = [f"r{self._mails}-{each}@example.org" for each in range(number)]
        recipients = addresses if where == "recipients" else [{"emailAddress": each} for each in addresses]
        about = {"timestamp": stamp(now), "messageId": f"mail-{self._mails}", **mail}
        payload = notified(type_, details | {where: recipients, "timestamp": stamp(now)}, **about)
        envelope = self.world.envelope(payload, Timestamp=stamp(now))
        await self.ingest.take(arrived(envelope), now=now)

    async def reckon(self, *folds: Fold, most: int = reckoning.MOST) -> int:
        """One step of the owner's reckoning, if it is due."""
        return await reckoning.run(self.world.db.as_role(Role.WORKER), folds, only=[self.world.owner.tenant], most=most)

    async def reckon_all(self, *folds: Fold, most: int = reckoning.MOST) -> None:
        """Steps until nothing is due."""
        while await self.reckon(*folds, most=most):
            pass

    async def row(self) -> Any:
        """The owner's reckoning, with the seconds until it is due."""
        async with self.world.db.as_role(Role.WORKER).read(self.world.owner) as session:
            query = "SELECT *, extract(epoch FROM due_at - now()) AS due_in FROM reckonings"
            return (await session.execute(text(query))).one()

    async def set(self, values: str) -> None:
        """Changes the owner's reckoning, as time would."""
        async with self.world.db.as_role(Role.WORKER).begin(self.world.owner) as session:
            await session.execute(text(f"UPDATE reckonings SET {values}"))


class Remembering:
    """A fold that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[Reckoned] = []

    async def __call__(self, session: AsyncSession, events: Sequence[Reckoned], *, now: datetime) -> None:
        self.given += events


def stamp(at: datetime) -> str:
    """As SES writes times."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def terms_with(**limits: Any) -> dict[str, Any]:
    """Agreed terms with these limits."""
    return {
        "principals": ["222222222222"],
        "actions": ["send"],
        "expires_at": "2030-01-01T00:00:00Z",
        "limits": limits,
    }
