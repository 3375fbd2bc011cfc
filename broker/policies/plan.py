"""Decides which policies to create and delete so that an identity holds what its live grants want."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from broker.policies.normal import parts, same_meaning

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


class Round(msgspec.Struct, frozen=True):
    """Create these (slot, document), read, and then delete these names: what they held is elsewhere by then."""

    create: tuple[tuple[int, str], ...]
    delete_after: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """What to do, in this order: delete `delete_first`, then one round after the other.

    `keep` are slots that hold what is wanted, with the name that holds it. The caller names what is created with a
    version never used before. There is more than one round only where SES has no place for all that is new beside all
    that is old. `foreign` names are listed and never touched.
    """

    keep: dict[int, str]
    delete_first: tuple[str, ...]
    rounds: tuple[Round, ...]
    foreign: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether the identity already holds exactly what is wanted."""
        return not (self.delete_first or self.rounds)

    @property
    def create(self) -> tuple[tuple[int, str], ...]:
        """Everything that is created, by slot."""
        return tuple(sorted(each for round_ in self.rounds for each in round_.create))

    @property
    def delete_after(self) -> tuple[str, ...]:
        """Everything that is deleted once its replacement was read."""
        return tuple(sorted(name for round_ in self.rounds for name in round_.delete_after))


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

    Documents are compared by meaning. What nobody wants goes first. No grant that is there before and after is ever
    away in between, as long as SES has a place for the new version beside the old: without one, the smallest document
    that changes is given up for that.
    """
    ours = _by_slot(name for name in observed if is_ours(name))
    keep = {slot: name for slot in desired if (name := _holder(ours.get(slot, []), desired[slot], observed))}
    grants = {name: _grants(observed[name]) for name in observed if is_ours(name)}
    changes = _changes(desired, ours, keep, grants)
    moving = {grant for change in changes for grant in change.wants}
    moving -= {grant for slot in keep for grant in _grants(desired[slot])}
    left = {
        name: grants[name] & moving
        for slot, names in ours.items()
        if slot in keep or slot not in desired
        for name in names
        if name != keep.get(slot) and grants[name] & moving
    }
    first = set(grants) - set(keep.values()) - set(left) - {name for change in changes for name in change.old}
    order = _order(changes)
    while (rounds := _rounds(order, left, MAX_POLICIES - len(observed) + len(first))) is None:
        if not any(each.old for each in order):
            first, left = first | set(left), {}
            continue
        given_up = min((each for each in order if each.old), key=lambda each: (len(each.document), each.slot))
        first |= set(given_up.old)
        order = [*(each for each in order if each is not given_up), given_up._replace(old=())]
    return Plan(keep, tuple(sorted(first)), rounds, tuple(sorted(name for name in observed if not is_ours(name))))


class _Change(NamedTuple):
    """A slot that does not hold what is wanted. `leaving`: grants of its old versions that another slot is to hold."""

    slot: int
    document: str
    old: tuple[str, ...]
    wants: frozenset[UUID]
    leaving: frozenset[UUID]


def _changes(
    desired: Mapping[int, str],
    ours: Mapping[int, Sequence[str]],
    keep: Mapping[int, str],
    grants: Mapping[str, frozenset[UUID]],
) -> list[_Change]:
    wants = {slot: _grants(text) for slot, text in desired.items() if slot not in keep}
    changes: list[_Change] = []
    for slot, mine in wants.items():
        old = tuple(ours.get(slot, ()))
        others = {grant for other, its in wants.items() if other != slot for grant in its}
        leaving = frozenset(grant for name in old for grant in grants[name] & others - mine)
        changes.append(_Change(slot, desired[slot], old, mine, leaving))
    return changes


def _order(changes: Collection[_Change]) -> list[_Change]:
    """Where grants move to comes before where they leave; what takes one more place for good comes last."""
    order: list[_Change] = []
    pending, arrived = list(changes), set[UUID]()
    moving = {grant for change in changes for grant in change.leaving}
    while pending:
        harmless = [change for change in pending if change.leaving <= arrived]
        chosen = min(
            harmless or pending, key=lambda each: (not each.old and not each.wants & moving, not each.old, each.slot)
        )
        order.append(chosen)
        pending.remove(chosen)
        arrived |= chosen.wants
    return order


def _rounds(order: Sequence[_Change], left: Mapping[str, Collection[UUID]], free: int) -> tuple[Round, ...] | None:
    """As many at once as there are places; None where there are none, and an old version could make one.

    `left` are names that nobody wants, each with the grants that must have arrived elsewhere before it goes. Where no
    old version is left to go SES is asked all the same, and says no.
    """
    rounds: list[Round] = []
    rest, waiting, arrived = list(order), dict(left), set[UUID]()
    while rest:
        if free < 1 and (waiting or any(change.old for change in rest)):
            return None
        now, rest = (rest[:free], rest[free:]) if free > 0 else (rest, [])
        arrived.update(*(change.wants for change in now))
        gone = [name for name, grants in waiting.items() if arrived.issuperset(grants)]
        waiting = {name: grants for name, grants in waiting.items() if name not in gone}
        gone += [name for change in now for name in change.old]
        free += len(gone) - len(now)
        rounds.append(Round(tuple((each.slot, each.document) for each in now), tuple(sorted(gone))))
    return tuple(rounds)


def _grants(document: str) -> frozenset[UUID]:
    return frozenset(grant for grant in parts(document) if grant is not None)


def room(observed: Iterable[str]) -> int:
    """How many more policies SES would take on an identity that holds these names, foreign ones included."""
    return max(0, MAX_POLICIES - len(set(observed)))


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
