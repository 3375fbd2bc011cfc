"""A change of what may be done: in words, and which way it goes."""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from broker.policies.arns import ANYBODY, covers
from broker.policies.operators import Network, as_network
from broker.policies.patterns import within
from broker.policies.wording import counted, listed


class Effect(StrEnum):
    """Whether a change permits more sends, fewer, some more and some fewer (or nobody can tell), or just the same."""

    widens = "widens"
    narrows = "narrows"
    alters = "alters"
    neither = "neither"

    @property
    def opposite(self) -> "Effect":
        """What the same change does to a Deny, or to what is excluded."""
        return {Effect.widens: Effect.narrows, Effect.narrows: Effect.widens}.get(self, self)


class Change(msgspec.Struct, frozen=True):
    """One difference: a short phrase without a subject ("adds 2 senders: …"), and what it does to the permission."""

    text: str
    effect: Effect


# Whether all that the first stands for is among what the others stand for.
Inside = Callable[[str, Sequence[str]], bool]


def verdict(changes: Iterable[Change]) -> Effect:
    """What several changes do together."""
    effects = {change.effect for change in changes} - {Effect.neither}
    if not effects:
        return Effect.neither
    return effects.pop() if len(effects) == 1 else Effect.alters


def in_patterns(inner: str, outer: Sequence[str]) -> bool:
    """For patterns of StringLike."""
    return any(within(inner, each) for each in outer)


def in_texts(inner: str, outer: Sequence[str]) -> bool:
    """For texts that stand for themselves."""
    return inner in outer


def in_principals(inner: str, outer: Sequence[str]) -> bool:
    """For principals: an account covers its users and roles."""
    return any(each == ANYBODY or covers(each, inner) for each in outer)


def in_blocks(inner: str, outer: Sequence[str]) -> bool:
    """For CIDR blocks: several small ones may cover a big one."""
    block = as_network(inner)
    if block is None:
        return inner in outer
    first, last = int(block.network_address), int(block.broadcast_address)
    networks = [network for each in outer if (network := as_network(each)) and network.version == block.version]
    return any(
        int(each.network_address) <= first and last <= int(each.broadcast_address) for each in _collapsed(networks)
    )


def _collapsed(networks: Sequence[Network]) -> list[Network]:
    v4 = [each for each in networks if isinstance(each, ipaddress.IPv4Network)]
    v6 = [each for each in networks if isinstance(each, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]


def changed_list(noun: str, old: Sequence[str], new: Sequence[str], inside: Inside) -> Iterator[Change]:
    """Entries that come in and go out, by what they stand for: an entry that another one covers is no difference."""
    added = [item for item in dict.fromkeys(new) if not inside(item, old)]
    dropped = [item for item in dict.fromkeys(old) if not inside(item, new)]
    for item in list(added):
        if outgrown := [one for one in old if one not in new and inside(one, [item])]:
            added.remove(item)
            yield Change(f"widens {counted(len(outgrown), noun)}: {listed(outgrown)} to {item}", Effect.widens)
    for item in list(dropped):
        if left := [one for one in new if one not in old and inside(one, [item])]:
            dropped.remove(item)
            yield Change(f"narrows {counted(1, noun)}: {item} to {listed(left)}", Effect.narrows)
    if added:
        yield Change(f"adds {counted(len(added), noun)}: {listed(added)}", Effect.widens)
    if dropped:
        yield Change(f"drops {counted(len(dropped), noun)}: {listed(dropped)}", Effect.narrows)


def changed_limit(noun: str, old: Sequence[str], new: Sequence[str], inside: Inside, *, limit: str) -> Iterator[Change]:
    """A list that limits nothing while it is empty: filling it narrows, emptying it widens."""
    if old and not new:
        yield Change(f"drops the {limit} limit", Effect.widens)
    elif new and not old:
        yield Change(f"limits the {limit} to {listed(new, last='or')}", Effect.narrows)
    else:
        yield from changed_list(noun, old, new, inside)
