"""Slows whoever guesses API keys: by source address, and by the prefix that is guessed at, over all routes.

A key that has worked here is not held up by what others try, from wherever they try it; nor is one that comes from an
address from which nothing wrong has come. Any other right key from such an address waits a moment (`together.py`).
"""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

BURST = 20.0  # wrong keys at once
PER_SECOND = 0.5  # and so many from then on
MOST = 10_000  # addresses, prefixes and keys that are remembered, of each; the oldest go

PREFIX_LENGTH = 12
NO_ADDRESS = "none"

Source = tuple[str, str]  # "address" or "prefix", and which

K = TypeVar("K")
V = TypeVar("V")


class Guesses:
    """What was wrong lately, as buckets that fill with each wrong key and drain with time.

    `noted`: since somebody last took it, for the other processes; `learn` is what they say.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, OrderedDict[str, tuple[float, float]]] = {
            "address": OrderedDict(),
            "prefix": OrderedDict(),
        }
        self._worked: OrderedDict[bytes, None] = OrderedDict()
        self.noted: dict[Source, int] = {}

    def wait(self, client: str, token: str, digest: bytes, *, at: float) -> timedelta | None:
        """How long until this is looked up for itself, or None; `at` in seconds, of a clock that never goes back."""
        if digest in self._worked:
            return None
        here = self._level(("address", network(client)), at)
        there = self._level(("prefix", token[:PREFIX_LENGTH]), at) if here else 0.0
        over = max(here, there) - BURST
        return timedelta(seconds=(over + 1) / PER_SECOND) if over > -1 else None

    def note(self, client: str, token: str, digest: bytes, *, right: bool, at: float) -> None:
        """What the look-up found."""
        if right:
            self._worked[digest] = None
            _trim(self._worked, digest)
            return
        self._worked.pop(digest, None)  # revoked, or over
        for source in (("address", network(client)), ("prefix", token[:PREFIX_LENGTH])):
            self._set(source, self._level(source, at) + 1, at)
            if source in self.noted or len(self.noted) < MOST:
                self.noted[source] = self.noted.get(source, 0) + 1

    def learn(self, levels: Mapping[Source, float], at: float) -> None:
        """How full these buckets are with what all processes have seen; what came here in between comes on top."""
        for source, level in levels.items():
            self._set(source, max(self._level(source, at), level + self.noted.get(source, 0)), at)

    def _level(self, source: Source, at: float) -> float:
        level, since = self._buckets[source[0]].get(source[1], (0.0, at))
        return max(0.0, level - (at - since) * PER_SECOND)

    def _set(self, source: Source, level: float, at: float) -> None:
        kind, name = source
        self._buckets[kind][name] = (level, at)
        _trim(self._buckets[kind], name)


def network(client: str) -> str:
    """One host: of IPv6 the first 64 bits, since the rest is its own to choose (RFC 4291, section 2.5.1).

    What is no address, such as of a UNIX socket, is one host: it could be of any length and number.
    """
    try:
        address = ip_address(client)
    except ValueError:
        return NO_ADDRESS
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _trim(kept: OrderedDict[K, V], latest: K) -> None:
    kept.move_to_end(latest)
    if len(kept) > MOST:
        kept.popitem(last=False)
