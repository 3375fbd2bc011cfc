"""The part of a sync that talks to SES: read, plan, delete, create, read back. No transaction is open here."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable
from broker.grants.lifecycle import Effect
from broker.grants.wanted import Wanted, Work
from broker.policies.normal import same_meaning
from broker.policies.plan import Plan, holds_slot, parse_name, plan

INVALID = "BadRequestException"  # SES API v2, CreateEmailIdentityPolicy: the policy is not one that SES takes
CALL_MARGIN = timedelta(seconds=6)  # a call that begins this long before the lease ends is over before it


class IdentityPolicies(Protocol):
    """What a sync needs of SES (`broker/gateways/ses.py`). Raises `Unavailable` or `Refused`."""

    async def read_policies(self, access: RoleAccess, identity: str) -> dict[str, str]: ...

    async def create_policy(self, access: RoleAccess, identity: str, name: str, document: str) -> None: ...

    async def delete_policy(self, access: RoleAccess, identity: str, name: str) -> None: ...


# (slot, document, names that SES holds) → the name to write under
Reserve = Callable[[int, str, Mapping[str, str]], Awaitable[str]]


class Reading(msgspec.Struct, frozen=True):
    """What SES held at the last read, and what it refused on the way: slot → SES's own words.

    `desired`: slot → what it was to hold in the end, without the `Null` guard where SES does not take that.
    """

    observed: Mapping[str, str]
    refused: Mapping[int, str]
    drifted: frozenset[int]
    desired: Mapping[int, str]


class Acting:
    """One run over one identity. Stops by itself before its lease ends."""

    def __init__(self, work: Work, ses: IdentityPolicies, *, access: RoleAccess, lease: timedelta) -> None:
        self._work = work
        self._ses = ses
        self._access = access
        self._until = asyncio.get_running_loop().time() + (lease - CALL_MARGIN).total_seconds()
        self._refused: dict[int, str] = {}
        self._desired: dict[int, str] = {}

    async def run(self, reserve: Reserve) -> Reading:
        """Makes the identity hold what is wanted, as far as SES lets us, and reads it back.

        `reserve` names the next version of a slot, on paper before it is written to SES. What is known to have to go
        goes before anything is read: whoever takes access back waits for one call, not for two.
        """
        await self._delete(self._work.doomed)
        observed = await self._read()
        drifted = frozenset(
            grant.slot
            for grant in self._work.grants
            if (grant.effect is Effect.APPLIED or (grant.slot in self._work.held and grant.effect is not Effect.NONE))
            and grant.document
            and not holds_slot(observed, grant.slot)
        )
        self._desired = {
            grant.slot: self._document(grant, document, observed)
            for grant in self._work.grants
            if (document := grant.document) and grant.slot not in drifted
        }
        todo = plan(self._desired, observed)
        if not todo.empty:
            observed = await self._carry_out(todo, observed, reserve)
        return Reading(observed, self._refused, drifted, self._desired)

    def _document(self, grant: Wanted, document: str, observed: Mapping[str, str]) -> str:
        """What a grant wants: without the guard where SES holds what we wrote without it, having refused the other."""
        unguarded = grant.unguarded
        if unguarded is None:
            return document
        without = any(
            same_meaning(text, unguarded) and same_meaning(self._work.written.get(name, ""), unguarded)
            for name, text in observed.items()
            if _is_in(name, grant.slot)
        )
        return unguarded if without else document

    async def _carry_out(self, todo: Plan, observed: Mapping[str, str], reserve: Reserve) -> Mapping[str, str]:
        """Removals first; old versions go once the new ones were read. Returns the last read."""
        await self._delete(todo.delete_first)
        for slot, document in todo.create:
            await self._put(slot, document, observed, reserve)
        observed = await self._read()
        old = [name for name in todo.delete_after if self._is_replaced(name, observed)]
        if old:
            await self._delete(old)
            observed = await self._read()
        return observed

    async def _put(self, slot: int, document: str, observed: Mapping[str, str], reserve: Reserve) -> None:
        """Creates a policy, without the guard where SES finds it invalid with one."""
        code = await self._create(slot, document, await reserve(slot, document, observed))
        unguarded = next((grant.unguarded for grant in self._work.grants if grant.slot == slot), None)
        if code != INVALID or unguarded is None or document == unguarded:
            return
        del self._refused[slot]
        self._desired[slot] = unguarded
        await self._create(slot, unguarded, await reserve(slot, unguarded, observed))

    async def _read(self) -> Mapping[str, str]:
        self._check_lease()
        try:
            return await self._ses.read_policies(self._access, self._work.name)
        except Refused as error:
            if error.code == "NotFoundException":
                return {}  # an identity that is gone from SES took its policies with it
            raise

    async def _create(self, slot: int, document: str, name: str) -> str | None:
        """The code of SES's refusal, None without one."""
        self._check_lease()
        try:
            await self._ses.create_policy(self._access, self._work.name, name, document)
        except Refused as error:
            # The name exists when an earlier try was executed after all: the read-back compares its content.
            if error.code != "AlreadyExistsException":
                self._refused[slot] = error.detail
                return error.code
        return None

    async def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._check_lease()
            try:
                await self._ses.delete_policy(self._access, self._work.name, name)
            except Refused as error:
                parsed = parse_name(name)
                if parsed is not None:
                    self._refused[parsed.slot] = error.detail

    def _is_replaced(self, name: str, observed: Mapping[str, str]) -> bool:
        """Whether the new version is there to be seen; until then the old one stays."""
        slot = parse_name(name)
        return slot is not None and any(
            same_meaning(text, self._desired[slot.slot])
            for other, text in observed.items()
            if other != name and (parsed := parse_name(other)) and parsed.slot == slot.slot
        )

    def _check_lease(self) -> None:
        if asyncio.get_running_loop().time() >= self._until:
            raise Unavailable("SES answers too slowly; the rest follows in the next run.")


def _is_in(name: str, slot: int) -> bool:
    parsed = parse_name(name)
    return parsed is not None and parsed.slot == slot
