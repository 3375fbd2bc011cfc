"""The part of a sync that puts up a Deny and takes it down. It never holds up what takes access away."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar
from uuid import UUID

from broker.errors import Refused, Unavailable
from broker.grants.ahead import Sent, give
from broker.grants.calls import Calls
from broker.grants.wanted import Work, tenancies
from broker.grants.writing import Reserve
from broker.policies.deny import ProtectedBy, protects, shut_out, touched
from broker.policies.normal import same_meaning
from broker.policies.plan import DENY, MAX_POLICIES, parse_name
from broker.policies.shares import is_alone, shows

T = TypeVar("T")

FULL = "LimitExceededException"  # SES API v2, CreateEmailIdentityPolicy: the identity has as many policies as it may


class Shutting:
    """The Deny of one run. `refused`: SES's own words; `unclean`: what was taken back was there, or may have been."""

    def __init__(self, work: Work, calls: Calls, sending: Awaitable[Sent | None]) -> None:
        """`sending`: the Deny that the paper named already, on its way (`broker.grants.ahead`)."""
        self._work = work
        self._calls = calls
        self._sending = sending
        self._living = [who for grant in work.grants if grant.statements for who in grant.terms.principals]
        self._tried = False
        self.refused: str | None = None
        self.unclean = bool(work.doomed or work.tainted)

    async def at_once(self, removal: Awaitable[T]) -> T:
        """Creates a Deny that the last read did not show while the removal is carried out; returns what that returns.

        Where the removal needs the places that are left, the Deny is for the plan to make after it.
        """
        creating, removing = asyncio.ensure_future(self._begin()), asyncio.ensure_future(removal)
        try:
            return await removing
        except asyncio.CancelledError:
            creating.cancel()  # whoever ends the worker must not wait for SES
            raise
        finally:
            await creating

    async def _begin(self) -> None:
        sent, deny = await self._sending, self._work.deny
        if sent is not None and sent.name == deny.name:
            self._note(sent.refusal)
            return
        places = 2 if self._work.tainted else 1  # what other grants keep is written anew before the old can go
        if deny.at_once and deny.shown + places <= MAX_POLICIES:
            await self._create(deny.name or "")

    def look(self, observed: Mapping[str, str]) -> None:
        """Takes in the first read."""
        housed = tenancies(self._work.grants)
        self.unclean = self.unclean or any(
            shows(observed, grant.id, grant.slot, alone=is_alone(housed, grant.id, grant.slot))
            for grant in self._work.grants
            if grant.id in self._work.deny.taken
        )

    def missed(self, observed: Mapping[str, str]) -> frozenset[UUID]:
        """Grants that no Deny protects any more, though the last read showed the one on paper, which protects them."""
        deny = self._work.deny
        if deny.name is None or deny.at_once:
            return frozenset()
        return frozenset(
            grant
            for grant, principals in deny.taken.items()
            if grant not in deny.over
            and deny.protections[grant].by is ProtectedBy.deny
            and not protects(observed, principals, self._work.arn)
        )

    def documents(self) -> dict[int, str]:
        """What is wanted of a Deny, as the plan needs it."""
        document = self._work.deny.document
        return {} if document is None else {DENY: document}

    async def put(self, observed: Mapping[str, str], reserve: Reserve) -> None:
        """Creates the Deny, unless SES has just not taken it; under a new name where somebody took the one on paper."""
        deny = self._work.deny
        if self._tried or deny.name is None or deny.document is None:
            return
        name = deny.name if deny.name not in observed else await reserve(DENY, deny.document, observed)
        await self._create(name)

    def keeps(self, name: str, observed: Mapping[str, str]) -> bool:
        """Whether a Deny that is not wanted any more stays for this run: what it is against has just been seen.

        Not where it shuts out somebody who may send.
        """
        parsed = parse_name(name)
        if parsed is None or not parsed.is_deny or self._work.deny.document is not None:
            return False
        return self.unclean and not touched(observed, self._living)

    def may_go(self, name: str, observed: Mapping[str, str]) -> bool:
        """Whether the Deny that follows is there to be seen, or is not to be had and this one shuts out a sender."""
        document = self._work.deny.document or ""
        denies = {each: text for each, text in observed.items() if (p := parse_name(each)) and p.is_deny}
        if any(each != name and same_meaning(text, document) for each, text in denies.items()):
            return not self._stays({name: denies.get(name, "")}, {name: document})
        return self.refused is not None and touched({name: denies.get(name, "")}, self._living)

    def _stays(self, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
        """Whether a Deny that says more than the next one stays for this run, as `keeps` where none follows."""
        arn = self._work.arn
        shrinks = not protects(new, shut_out(old, arn), arn)
        return self.unclean and shrinks and not touched(old, self._living)

    async def _create(self, name: str) -> None:
        self._tried = True
        try:
            self._note(await give(self._calls, name, self._work.deny.document or ""))
        except Unavailable:
            return  # the next run tries again; until then nobody is told that there is a Deny

    def _note(self, refusal: Refused | None) -> None:
        self._tried = refusal is None or refusal.code != FULL  # the removal may have made room
        self.refused = None if refusal is None else refusal.detail
