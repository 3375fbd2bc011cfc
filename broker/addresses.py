"""Which addresses a request may go to, and what a resolver takes for one: public ones, for a tenant's URL.

The table is the IANA special-purpose registries (RFC 6890 and updates): a list of our own, since the standard library's
answer differs between versions of Python.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

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
# Cloud metadata outside of the link-local blocks (EC2 User Guide, instance metadata retrieval).
_METADATA = ip_network("fd00:ec2::/32")


def is_public(address: Address) -> bool:
    """Whether a host of the public internet may have this address, and every IPv4 address that is wrapped in it."""
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _CLOSED_V4)
    wrapped = _wrapped(address)
    if wrapped:
        return all(is_public(inner) for inner in wrapped)
    return address in _OPEN_V6 and not any(address in block for block in _CLOSED_V6)


def may_serve_aws(address: Address) -> bool:
    """Whether AWS's own hosts may have it: private ones too (interface endpoints of a VPC), but none of this machine,
    its link, its metadata, and no group.
    """
    inner = _wrapped(address) if isinstance(address, IPv6Address) else ()
    if inner:
        return all(map(may_serve_aws, inner))
    flaws = (address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified)
    reserved = address.version == 4 and (address.is_reserved or int(address) < 1 << 24)
    return not any(flaws) and not reserved and address not in _METADATA


def literal(host: str) -> Address | None:
    """The address that a resolver takes this for without asking anybody; None for a name. `host` is ASCII.

    That is more than four decimal numbers: 127.1, 2130706433, 0x7f.0.0.1 and 0177.1 are all 127.0.0.1 (inet_aton(3),
    which getaddrinfo(3) goes by).
    """
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def ascii_host(host: str) -> str:
    """The host as it is looked up: IDNA, lower case, no last dot. ValueError where there is no such name.

    IDNA folds other scripts' forms first: full-width digits, circled letters, ideographic full stops (RFC 3490, 3491).
    """
    return (host if host.isascii() else host.encode("idna").decode("ascii")).lower().rstrip(".")


def _wrapped(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """IPv4 addresses in it: mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo's two ends (RFC 4380), and
    ISATAP, under whatever prefix (RFC 5214, section 6.1).
    """
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour:
        return (address.sixtofour,)
    if (int(address) >> 32) & 0xFDFFFFFF == 0x5EFE:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return address.teredo or ()
