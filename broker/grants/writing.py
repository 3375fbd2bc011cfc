"""Writes the policies that grants share, and finds the one to blame where SES does not take them together."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

from broker.errors import Refused
from broker.grants.calls import Calls
from broker.grants.wanted import Wanted
from broker.policies.compile import document
from broker.policies.normal import Form, parts, same_meaning
from broker.policies.shares import holds, statements_in

INVALID = "BadRequestException"  # SES API v2, CreateEmailIdentityPolicy: the policy is not one that SES takes

# (slot, document, names that SES holds) → the name to write under
Reserve = Callable[[int, str, Mapping[str, str]], Awaitable[str]]


class Writing:
    """What one run writes for each grant. `refused`: SES's own words about those that it did not take."""

    def __init__(self, grants: Sequence[Wanted], observed: Mapping[str, str], calls: Calls, reserve: Reserve) -> None:
        self.refused: dict[UUID, str] = {}
        self._goals = {grant.id: grant.statements for grant in grants if grant.statements}
        self._said = dict(self._goals)  # what is written for now: where SES refuses a goal, what it held before
        self._observed = observed
        self._calls = calls
        self._reserve = reserve
        self._last = ""  # the name that was written last

    def do_without_guard(self, grant: Wanted) -> None:
        """SES is known to refuse the `Null` operator to this grant."""
        if grant.unguarded is not None:
            self._goals[grant.id] = self._said[grant.id] = grant.unguarded

    def stay(self, grant: Wanted) -> bool:
        """Leaves a grant as SES holds it now; whether SES holds anything of it."""
        before = statements_in(self._observed, grant.id)
        if before:
            self._said[grant.id] = before
        else:
            self._said.pop(grant.id, None)
        return bool(before)

    def go_on(self, grant: Wanted) -> None:
        """Writes what is wanted of a grant again."""
        self._said[grant.id] = self._goals[grant.id]

    def says(self, grant: Wanted) -> bool:
        """Whether anything is written for a grant for now."""
        return grant.id in self._said

    def goals(self) -> Mapping[UUID, frozenset[Form]]:
        """What each grant is to hold in the end."""
        return {grant: parts(document(statements))[grant] for grant, statements in self._goals.items()}

    def is_held(self, grant_id: UUID, observed: Mapping[str, str]) -> bool:
        """Whether these policies say of a grant what is written for it; also where nothing is."""
        said = self._said.get(grant_id)
        return said is None or holds(observed, grant_id, parts(document(said))[grant_id])

    def document(self, grants: Sequence[Wanted]) -> str:
        """One document of several grants, in their order."""
        return document([each for grant in grants for each in self._said.get(grant.id, ())])

    async def put(self, slot: int, grants: Sequence[Wanted]) -> None:
        """Writes a document; where SES finds it invalid, without what is to blame for that."""
        refusal = await self._try(slot, grants)
        if refusal is None:
            return
        blamed = await self._blamed(grants) if refusal.code == INVALID and len(grants) > 1 else []
        stayed = [grant for grant in blamed if self.stay(grant)]
        rest = [grant for grant in grants if grant not in blamed or grant in stayed]
        if blamed:
            refusal = await self._put_rest(slot, rest)
        if stayed and refusal is not None and refusal.code == INVALID:  # not even what they had is taken any more
            rest = [grant for grant in rest if grant not in stayed]
            refusal = await self._put_rest(slot, rest)
        if refusal is not None:
            self.refused |= {grant.id: refusal.detail for grant in rest if grant.id not in self.refused}

    async def is_taken(self, grant: Wanted) -> bool:
        """Whether SES takes a document of this grant alone, which is there for that one moment."""
        said = self._said.get(grant.id)
        self.go_on(grant)
        refusal = await self._try(grant.slot, [grant])
        if refusal is None:
            await self._calls.delete(self._last)
            return True
        self.refused[grant.id] = refusal.detail
        if said is not None:
            self._said[grant.id] = said
        return False

    async def _put_rest(self, slot: int, rest: Sequence[Wanted]) -> Refused | None:
        wanted = self.document(rest)
        if not rest or any(same_meaning(text, wanted) for text in self._observed.values()):
            return None
        return await self._try(slot, rest)

    async def _blamed(self, grants: Sequence[Wanted]) -> list[Wanted]:
        """Those that SES does not take alone either: of the new ones, or where they are all in order, of all."""
        new = [grant for grant in grants if not self.is_held(grant.id, self._observed)]
        for suspects in (new, [grant for grant in grants if grant not in new]):
            blamed = [grant for grant in suspects if not await self.is_taken(grant)]
            if blamed:
                return blamed
        return []

    async def _try(self, slot: int, grants: Sequence[Wanted]) -> Refused | None:
        """Creates a policy, without the guards where SES finds it invalid with them; SES's refusal, if it refuses."""
        wanted = self.document(grants)
        refusal = await self._create(slot, wanted)
        bare = {
            grant.id: grant.unguarded
            for grant in grants
            if grant.unguarded and self._said.get(grant.id) == grant.statements
        }
        if refusal is None or refusal.code != INVALID or not bare:
            return refusal
        said = self._said
        self._said = said | bare
        refusal = await self._create(slot, self.document(grants))
        if refusal is None:
            self._goals |= bare
        else:
            self._said = said
        return refusal

    async def _create(self, slot: int, text: str) -> Refused | None:
        self._last = await self._reserve(slot, text, self._observed)
        return await self._calls.create(self._last, text)
