"""Slows whoever guesses API keys: by source address, and by the prefix that is guessed at; in this process's memory.

A key that has worked here is not held up by what others try, from wherever they try it; nor is one that comes from an
address from which nothing wrong has come.
"""

from collections import OrderedDict
from datetime import timedelta
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

BURST = 20.0  # wrong keys at once
PER_SECOND = 0.5  # and so many from then on
MOST = 10_000  # addresses, prefixes and keys that are remembered, of each; the oldest go

PREFIX_LENGTH = 12

K = TypeVar("K")
V = TypeVar("V")


class Guesses:
    """What was wrong lately, as buckets that fill with each wrong key and drain with time."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._prefixes: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._worked: OrderedDict[bytes, None] = OrderedDict()

    def wait(self, client: str, token: str, digest: bytes, *, at: float) -> timedelta | None:
        """How long to wait before this is even looked up, or None; `at` in seconds, of a clock that never goes back."""
        if digest in self._worked:
            return None
        here = _level(self._addresses, network(client), at)
        there = _level(self._prefixes, token[:PREFIX_LENGTH], at) if here else 0.0
        over = max(here, there) - BURST
        return timedelta(seconds=(over + 1) / PER_SECOND) if over > -1 else None

    def note(self, client: str, token: str, digest: bytes, *, right: bool, at: float) -> None:
        """What the look-up found."""
        if right:
            self._worked[digest] = None
            _trim(self._worked, digest)
            return
        self._worked.pop(digest, None)  # revoked, or over
        for buckets, name in ((self._addresses, network(client)), (self._prefixes, token[:PREFIX_LENGTH])):
            buckets[name] = (_level(buckets, name, at) + 1, at)
            _trim(buckets, name)


def network(client: str) -> str:
    """One host: of IPv6 the first 64 bits, since the rest is its own to choose (RFC 4291, section 2.5.1)."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _level(buckets: OrderedDict[str, tuple[float, float]], name: str, at: float) -> float:
    level, since = buckets.get(name, (0.0, at))
    return max(0.0, level - (at - since) * PER_SECOND)


def _trim(kept: OrderedDict[K, V], latest: K) -> None:
    kept.move_to_end(latest)
    if len(kept) > MOST:
        kept.popitem(last=False)
