"""Which addresses a request to a tenant's URL may go to: public ones, checked after the name is resolved.

The table is the IANA special-purpose registries (RFC 6890 and updates): a list of our own, since the standard library's
answer differs between versions of Python.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from broker.errors import Refused, Unavailable

Address = IPv4Address | IPv6Address

_CLOSED_V4 = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Global unicast is 2000::/3 (RFC 4291); these parts of it are not for hosts. All outside it is closed, but for NAT64.
_OPEN_V6 = ip_network("2000::/3")
_CLOSED_V6 = tuple(ip_network(block) for block in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20"))
_NAT64 = ip_network("64:ff9b::/96")

_MOST_RESOLVING = 32


def is_public(address: Address) -> bool:
    """Whether a host of the public internet may have this address, and every IPv4 address that is wrapped in it."""
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _CLOSED_V4)
    wrapped = _wrapped(address)
    if wrapped:
        return all(is_public(inner) for inner in wrapped)
    return address in _OPEN_V6 and not any(address in block for block in _CLOSED_V6)


def _wrapped(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """IPv4 addresses in it: mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo's two ends (RFC 4380)."""
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour:
        return (address.sixtofour,)
    return address.teredo or ()


LookUp = Callable[[str, int], Iterable[str]]
"""Host and port to addresses as text; raises `OSError`, may block."""


def look_up(host: str, port: int) -> list[str]:
    """The system's resolver."""
    # A scope (fe80::1%eth0) is cut off: such addresses are never public.
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(row[4][0]).partition("%")[0] for row in rows]


class Resolver:
    """Looks names up in threads of its own, so that dead name servers of one tenant leave the others' alone."""

    def __init__(self, *, allow_loopback: bool, look_up: LookUp = look_up) -> None:
        self._allow_loopback = allow_loopback
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(_MOST_RESOLVING, thread_name_prefix="resolve")

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Every address of `host`, in the system's order; `Refused` if *any* is not public, `Unavailable` if none."""
        found = await self.any_addresses(host, port)
        for address in found:
            if not (is_public(address) or (self._allow_loopback and address.is_loopback)):
                raise Refused("The host has an address that is not public.", code="address_not_public")
        return found

    async def any_addresses(self, host: str, port: int) -> list[Address]:
        """Every address of a host that is trusted by name."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, self._look_up, host, port)
        except (OSError, UnicodeError) as error:
            raise Unavailable("The host name cannot be resolved.") from error
        return list(dict.fromkeys(ip_address(address) for address in found))

    def close(self) -> None:
        """Drops what is still waiting to be looked up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
