"""Which addresses a request to a tenant's URL may go to: public ones, checked after the name is resolved.

The table is the IANA special-purpose registries (RFC 6890 and updates): a list of our own, since the standard library's
answer differs between versions of Python.
"""

from ipaddress import IPv4Address, IPv6Address, ip_network

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
