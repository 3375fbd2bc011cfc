"""What somebody did to our policies by hand, and that both parties were told once it was read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from broker.caller import Caller
from broker.db import Database
from broker.grants.lifecycle import Paper
from tests.grants.model.deals import Deal

DRIFTED, UNSHUT = "grant.drifted", "grant.protection_changed"


@dataclass
class Owed:
    """`what` is to be told to `parties` of a deal; `told`: how often each of them could see it when it happened.

    `gone`: nothing of the deal was left.
    """

    deal: Deal
    what: str
    parties: Sequence[Caller]
    gone: bool
    told: Sequence[int] = ()
    seen: bool = False
    """The broker has read it."""

    def is_so(self, held: Mapping[str, str]) -> bool:
        """Whether these policies show what was done."""
        if self.what == UNSHUT:
            return not self.deal.is_shut(held)
        return not (self.deal.is_there(held) if self.gone else self.deal.is_as_agreed(held))

    def is_over(self, over: Collection[UUID], now: datetime) -> bool:
        """Whether nobody needs that Deny any more, or that access now."""
        if self.what == UNSHUT:
            return self.deal.id in over
        begins = self.deal.agreed.not_before if self.deal.agreed else None
        return self.deal.at(now) is not Paper.AGREED or (begins is not None and begins > now)


class Hand:
    """What is owed, from the moment somebody did it until a run that has read it settles."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._owed: list[Owed] = []

    async def moved(self, owed: Owed, held: Mapping[str, str]) -> None:
        """The hand has moved, and this is what SES holds now."""
        known = any((each.deal, each.what) == (owed.deal, owed.what) for each in self._owed)
        if owed.is_so(held) and not known:
            owed.told = await self._told(owed)
            self._owed.append(owed)

    def heard(self, owner: int, found: Mapping[str, str]) -> None:
        """The broker has read this. What came back before that was never seen by anybody."""
        mine = [each for each in self._owed if each.deal.owner == owner]
        for each in mine:
            each.seen = each.seen or each.is_so(found)
        self._owed = [each for each in self._owed if each not in mine or each.seen]

    def decided(self, deals: Collection[Deal], *, amended: bool) -> None:
        """Somebody decided on these: they are to be something else now. What is gone is missed by other terms, too."""
        self._owed = [each for each in self._owed if each.deal not in deals or (amended and each.gone)]

    def over(self, over: Collection[UUID], now: datetime) -> None:
        """Nobody is told any more of what nobody needs."""
        self._owed = [each for each in self._owed if not each.is_over(over, now)]

    async def settle(self, owner: int) -> list[str]:
        """A run has settled: what it has seen and not told."""
        seen = [each for each in self._owed if each.seen and each.deal.owner == owner]
        self._owed = [each for each in self._owed if each not in seen]
        found = [(each, await self._told(each)) for each in seen]
        return [
            f"{each.deal.id}: {each.what} was read, and told {each.told} → {told}"
            for each, told in found
            if not all(before < now for before, now in zip(each.told, told, strict=True))
        ]

    async def _told(self, owed: Owed) -> Sequence[int]:
        """How often each party can see it in the audit and, of what is an event, among its events."""
        counts: list[int] = []
        queries = ["SELECT count(*) FROM audit WHERE subject_id = :id AND action = :what"]
        if owed.what == DRIFTED:
            queries.append("SELECT count(*) FROM events WHERE grant_id = :id AND type = :what")
        for caller in owed.parties:
            async with self._db.read(caller) as session:
                named = {"id": owed.deal.id, "what": owed.what}
                counts += [(await session.execute(text(query), named)).scalar_one() for query in queries]
        return counts
