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
    away in between, as long as SES has one place for a swap: without one, the smallest document that changes is given
    up for that.
    """
    ours = _by_slot(name for name in observed if is_ours(name))
    keep = {slot: name for slot in desired if (name := _holder(ours.get(slot, []), desired[slot], observed))}
    wants = {slot: _grants(text) for slot, text in desired.items()}
    old = {slot: tuple(ours.get(slot, ())) for slot in desired if slot not in keep}
    settled = {grant for slot in keep for grant in wants[slot]}
    moving = {grant for slot in old for grant in wants[slot]} - settled
    homes = [(slot, names) for slot, names in ours.items() if slot not in desired]
    left = {name for _, names in homes for name in names if _grants(observed[name]) & moving}
    late = {name for names in old.values() for name in names} | left
    first = {name for name in observed if is_ours(name)} - late - set(keep.values())
    leaving = {
        slot: {grant for name in names for grant in _grants(observed[name])} & moving - wants[slot]
        for slot, names in old.items()
    }
    free = MAX_POLICIES - len(observed) + len(first)
    order = _order(old, wants, leaving)
    if free < 1 and (given_up := _given_up(order, old, desired)) is not None:
        first |= set(old[given_up])
        free += len(old[given_up])
        old[given_up] = ()
        order = [*(slot for slot in order if slot != given_up), given_up]
    rounds = _rounds(order, old, free)
    if left:
        rounds[-1] = (rounds[-1][0], [*rounds[-1][1], *left])
    return Plan(
        keep,
        tuple(sorted(first)),
        tuple(Round(tuple((slot, desired[slot]) for slot in slots), tuple(sorted(names))) for slots, names in rounds),
        tuple(sorted(name for name in observed if not is_ours(name))),
    )


def _grants(document: str) -> frozenset[UUID]:
    return frozenset(grant for grant in parts(document) if grant is not None)


def _order(
    old: Mapping[int, Collection[str]],
    wants: Mapping[int, Collection[UUID]],
    leaving: Mapping[int, Collection[UUID]],
) -> list[int]:
    """Where grants move to comes before where they leave; then what takes no place for good; then the rest."""
    order: list[int] = []
    pending, arrived = set(old), set[UUID]()
    movers = {grant for grants in leaving.values() for grant in grants}
    while pending:
        harmless = [slot for slot in pending if set(leaving[slot]) <= arrived]
        gains = {slot for slot in pending if movers.intersection(wants[slot])}
        chosen = min(harmless or pending, key=lambda slot: (not old[slot] and slot not in gains, not old[slot], slot))
        order.append(chosen)
        pending.remove(chosen)
        arrived.update(wants[chosen])
    return order


def _given_up(order: Sequence[int], old: Mapping[int, Collection[str]], desired: Mapping[int, str]) -> int | None:
    """The slot whose old version makes place for the others: the one with the least in it."""
    return min((slot for slot in order if old[slot]), key=lambda slot: (len(desired[slot]), slot), default=None)


def _rounds(order: Sequence[int], old: Mapping[int, Collection[str]], free: int) -> list[tuple[list[int], list[str]]]:
    """As many at once as there are places. Where there are none at all SES is asked all the same, and says no."""
    rounds: list[tuple[list[int], list[str]]] = []
    rest = list(order)
    while rest:
        now, rest = (rest[:free], rest[free:]) if free > 0 else (rest, [])
        gone = [name for slot in now for name in old[slot]]
        free += len(gone) - len(now)
        rounds.append((now, gone))
    return rounds


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
