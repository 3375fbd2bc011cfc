"""The part of a sync that talks to SES: read, plan, delete, create, read back. No transaction is open here."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from broker.aws_access import RoleAccess
from broker.grants.ahead import Sent
from broker.grants.calls import Calls, IdentityPolicies
from broker.grants.lifecycle import Effect
from broker.grants.shutting import Shutting
from broker.grants.wanted import Wanted, Work, tenancies
from broker.grants.writing import Reserve, Writing
from broker.policies.compile import document
from broker.policies.normal import Form, parts
from broker.policies.plan import DENY, parse_name, plan
from broker.policies.shares import is_alone, shows


class Reading(msgspec.Struct, frozen=True):
    """What SES held at the last read, and what it refused on the way: grant → SES's own words.

    `goals`: what each grant was to hold in the end, without the `Null` guard where SES does not take that. `lingering`:
    grants that have ended and may still be in a policy that could not go yet, whether or not a read shows it.
    `deny_refused`: SES's own words about the Deny. `unclean`: something of a grant that was taken back was there, or
    may have been, when the run began. `returned`: grants that want nothing and were there at the first read.
    """

    observed: Mapping[str, str]
    refused: Mapping[UUID, str]
    drifted: frozenset[UUID]
    goals: Mapping[UUID, frozenset[Form]]
    deny_refused: str | None = None
    unclean: bool = False
    lingering: frozenset[UUID] = frozenset()
    returned: frozenset[UUID] = frozenset()


class Drift(msgspec.Struct, frozen=True):
    """What the first read shows that was not so by the paper, and that we did not do.

    `removed`: grants of which nothing is left. `altered`: grants that were as agreed, and are not any more. `unshut`:
    grants that the Deny on paper is to protect, which the last read showed and this one does not.
    """

    observed: Mapping[str, str]
    removed: frozenset[UUID]
    altered: frozenset[UUID]
    unshut: frozenset[UUID]


Notice = Callable[[Drift], Awaitable[None]]


class Acting:
    """One run over one identity. Stops by itself before its lease ends."""

    def __init__(
        self,
        work: Work,
        ses: IdentityPolicies,
        *,
        access: RoleAccess,
        lease: timedelta,
        sending: Awaitable[Sent | None],
    ) -> None:
        self._work = work
        self._calls = Calls(ses, access, work.name, lease=lease)
        self._housed = tenancies(work.grants)
        self._tainted = dict(work.tainted)
        self._refused: dict[UUID, str] = {}
        self._shutting = Shutting(work, self._calls, sending)

    async def run(self, reserve: Reserve, notice: Notice) -> Reading:
        """Makes the identity hold what is wanted, as far as SES lets us, and reads it back.

        `reserve` names the next version of a slot, on paper before it is written to SES. `notice` writes down what
        somebody else did, before any of it is put back. What is known to have to go goes before anything is read:
        whoever takes access back waits for one call, not for two. A Deny is sent beside it and holds nothing up.
        """
        observed = await self._begin()
        self._shutting.look(observed)
        drifted, returned = self._drifted(observed), self._returned(observed)
        wanted = [grant for grant in self._work.grants if grant.statements and grant.id not in drifted]
        writing = Writing(wanted, observed, self._calls, reserve)
        for grant in wanted:
            if self._did_without_guard(grant, observed):
                writing.do_without_guard(grant)
        await self._notice(wanted, drifted, observed, writing, notice)
        doubted = [grant for grant in wanted if _is_doubted(grant, wanted)]
        for grant in doubted:
            writing.stay(grant)
        observed = await self._reach(wanted, observed, writing, reserve=reserve)
        # Who was refused before is tried alone, and last: its neighbours do not depend on it, nor wait for it.
        if [grant for grant in doubted if await writing.is_taken(grant)]:
            observed = await self._reach(wanted, observed, writing, reserve=reserve)
        lingering = frozenset(grant for grants in self._tainted.values() for grant in grants)
        return Reading(
            observed=observed,
            refused=writing.refused | self._refused,
            drifted=drifted,
            goals=writing.goals(),
            lingering=lingering,
            returned=returned,
            deny_refused=self._shutting.refused,
            unclean=self._shutting.unclean,
        )

    async def _begin(self) -> Mapping[str, str]:
        """What can go goes; then the first read, which is the first step of a removal where nothing can go as it is."""
        if self._work.tainted and not self._work.doomed:
            return await self._shutting.at_once(self._calls.read())
        await self._shutting.at_once(self._delete(self._work.doomed))
        return await self._calls.read()

    def _drifted(self, observed: Mapping[str, str]) -> frozenset[UUID]:
        """Grants that somebody else took away."""
        return frozenset(
            grant.id
            for grant in self._work.grants
            if grant.statements
            and (grant.effect is Effect.APPLIED or (grant.id in self._work.held and grant.effect is not Effect.NONE))
            and not shows(observed, grant.id, grant.slot, alone=is_alone(self._housed, grant.id, grant.slot))
        )

    async def _notice(
        self,
        wanted: Sequence[Wanted],
        removed: frozenset[UUID],
        observed: Mapping[str, str],
        writing: Writing,
        notice: Notice,
    ) -> None:
        altered = [
            each.id for each in wanted if each.effect is Effect.APPLIED and not writing.is_held(each.id, observed)
        ]
        drift = Drift(observed, removed, frozenset(altered), self._shutting.missed(observed))
        if drift.removed or drift.altered or drift.unshut:
            await notice(drift)

    def _returned(self, observed: Mapping[str, str]) -> frozenset[UUID]:
        return frozenset(
            grant.id
            for grant in self._work.grants
            if not grant.statements
            and shows(observed, grant.id, grant.slot, alone=is_alone(self._housed, grant.id, grant.slot))
        )

    def _did_without_guard(self, grant: Wanted, observed: Mapping[str, str]) -> bool:
        """Whether SES holds what we wrote without the guard, having refused it with one."""
        if grant.unguarded is None:
            return False
        unguarded = parts(document(grant.unguarded))[grant.id]
        return any(
            parts(text).get(grant.id) == unguarded == parts(self._work.written.get(name, "")).get(grant.id)
            for name, text in observed.items()
        )

    async def _reach(
        self, wanted: Sequence[Wanted], observed: Mapping[str, str], writing: Writing, *, reserve: Reserve
    ) -> Mapping[str, str]:
        """Removals first; old versions go once the new ones were read. Returns the last read."""
        shares: dict[int, list[Wanted]] = {}
        for grant in wanted:
            if writing.says(grant):
                shares.setdefault(grant.slot, []).append(grant)
        documents = {slot: writing.document(grants) for slot, grants in shares.items()}
        todo = plan(documents | self._shutting.documents(), observed)
        deleted = await self._delete(name for name in todo.delete_first if not self._shutting.keeps(name, observed))
        for each in todo.rounds:
            for slot, _ in each.create:
                if slot == DENY:
                    await self._shutting.put(observed, reserve)
                else:
                    await writing.put(slot, shares[slot])
            observed = await self._calls.read()
            deleted = await self._delete(name for name in each.delete_after if self._may_go(name, observed, writing))
        hidden = [name for name in self._tainted if name not in observed and self._may_go(name, observed, writing)]
        deleted += await self._delete(hidden)
        return await self._calls.read() if deleted else observed

    async def _delete(self, names: Iterable[str]) -> int:
        """How many there were. A refusal is noted for every grant of the slot."""
        listed = list(names)
        for name in listed:
            refusal = await self._calls.delete(name)
            if refusal is None:
                self._tainted.pop(name, None)
            elif (parsed := parse_name(name)) is not None:
                self._refused |= {each.id: refusal.detail for each in self._housed if each.slot == parsed.slot}
        return len(listed)

    def _may_go(self, name: str, observed: Mapping[str, str], writing: Writing) -> bool:
        """Whether all that is wanted of a policy is there to be seen in another; until then the old one stays.

        What SES refuses does not keep a policy in which there is an ended grant.
        """
        others = {other: text for other, text in observed.items() if other != name}
        if (parsed := parse_name(name)) is not None and parsed.is_deny:
            return self._shutting.may_go(name, observed)
        inside = parts(observed[name]) if name in observed else {}
        return all(
            writing.is_held(each.id, others) or (each.id in writing.refused and name in self._tainted)
            for each in self._housed
            if each.id in inside or (parsed is not None and each.slot == parsed.slot)
        )


def _is_doubted(grant: Wanted, wanted: Sequence[Wanted]) -> bool:
    """Whether SES refused it the last time, so that it could spoil the document of others."""
    return grant.effect is Effect.FAILED and any(
        each.slot == grant.slot and each.effect is not Effect.FAILED for each in wanted
    )
