"""Decides which policies to create and delete so that an identity holds what its live grants want."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from broker.policies.normal import same_meaning

PREFIX = "delegation-broker-"
MAX_POLICIES = 20  # SES Developer Guide, policy-anatomy: 20 policies for one identity
DENY = -1  # the slot that a Deny document takes: it has a version like any other, but no number

_NAME = re.compile(rf"{PREFIX}(?P<slot>[0-9]{{1,6}}|deny)-(?P<version>[0-9]{{1,18}})")


class Name(NamedTuple):
    """A name of ours, taken apart: `slot` is `DENY` for a Deny document."""

    slot: int
    version: int

    @property
    def is_deny(self) -> bool:
        """Whether this names a Deny document, which takes no slot of a grant."""
        return self.slot == DENY


class Plan(msgspec.Struct, frozen=True):
    """What to do, in this order: delete `delete_first`, create, read back, delete `delete_after`.

    `keep` are slots that hold what is wanted, with the name that holds it. `create` gives slot and document; the caller
    names it with a version never used before. `delete_after` are old versions of changed slots, deleted once the new
    one was read back, so that the delegate is never locked out by a change. `foreign` names are listed and never
    touched.
    """

    keep: dict[int, str]
    create: tuple[tuple[int, str], ...]
    delete_first: tuple[str, ...]
    delete_after: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether the identity already holds exactly what is wanted."""
        return not (self.create or self.delete_first or self.delete_after)


def policy_name(slot: int, version: int) -> str:
    """The name of one version of one slot. A name is written once and never with other content."""
    return f"{PREFIX}{'deny' if slot == DENY else slot}-{version}"


def parse_name(name: str) -> Name | None:
    """Slot and version of a name of ours; None for any other, also where only our prefix is there."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    parsed = Name(DENY if found["slot"] == "deny" else int(found["slot"]), int(found["version"]))
    # "…-01-1" would be a second name for the same version: whoever wrote it, it was not us.
    return parsed if policy_name(*parsed) == name else None


def is_ours(name: str) -> bool:
    """Whether the name has our prefix, so that the policy may be deleted by us."""
    return name.startswith(PREFIX)


def plan(desired: Mapping[int, str], observed: Mapping[str, str]) -> Plan:
    """The fewest changes from `observed` (name → document, as SES gave them) to `desired` (slot → document).

    Documents are compared by meaning. A slot that nobody wants and a stray name with our prefix go first.
    """
    ours = _by_slot(name for name in observed if is_ours(name))
    keep = {slot: name for slot in desired if (name := _holder(ours.get(slot, []), desired[slot], observed))}
    create = tuple((slot, desired[slot]) for slot in sorted(desired) if slot not in keep)
    changed = {slot: ours[slot] for slot, _ in create if slot in ours}
    late = {name for names in changed.values() for name in names}
    first = {name for name in observed if is_ours(name)} - late - set(keep.values())
    # One place too few for new beside old: these slots are emptied before they are filled again.
    for names in changed.values():
        if len(observed) - len(first) + len(create) <= MAX_POLICIES:
            break
        first |= set(names)
        late -= set(names)
    foreign = tuple(sorted(name for name in observed if not is_ours(name)))
    return Plan(keep, create, tuple(sorted(first)), tuple(sorted(late)), foreign)


def room(observed: Iterable[str]) -> int:
    """How many more policies SES would take on an identity that holds these names, foreign ones included."""
    return max(0, MAX_POLICIES - len(set(observed)))


def holds_slot(observed: Iterable[str], slot: int) -> bool:
    """Whether any version of this slot is among these names."""
    return slot in _by_slot(observed)


def _by_slot(names: Iterable[str]) -> dict[int, list[str]]:
    slots: dict[int, list[str]] = {}
    for name in names:
        if (parsed := parse_name(name)) is not None:
            slots.setdefault(parsed.slot, []).append(name)
    return slots


def _holder(names: Iterable[str], wanted: str, observed: Mapping[str, str]) -> str | None:
    """The newest of these names whose document means what is wanted."""
    holders = [name for name in names if same_meaning(observed[name], wanted)]
    return max(holders, key=lambda name: parse_name(name) or (DENY, 0), default=None)
