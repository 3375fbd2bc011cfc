"""What the URL of an endpoint must look like. Pure; where its host leads is checked whenever it is dialled."""

import re
from urllib.parse import urlsplit

from broker.addresses import ascii_host, is_public, literal

PORTS = frozenset({443, 8443})
_INSIDE = (".localhost", ".local", ".internal", ".localdomain", ".lan", ".home.arpa")
_LABELS = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
# A host that ends in a number is an IPv4 address or nothing (WHATWG URL Standard, "ends in a number").
_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")


def flaw_of(url: str, *, allow_loopback: bool) -> str | None:
    """What is wrong with it, as a sentence, or None. `allow_loopback`: http and any port are fine, for local runs."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = ascii_host(parts.hostname or "")
    except ValueError:
        return "This is not a URL."
    if parts.scheme not in ("https", "http") or not host or not url.isprintable() or {" ", "\\"} & set(url):
        return "Must be an absolute https URL."
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "Must not hold a user name, a password or a fragment."
    if allow_loopback:
        return None
    if parts.scheme != "https":
        return "Must begin with https."
    if port not in (None, *PORTS):
        return "The port must be 443 or 8443."
    return _flaw_of_host(host)


def _flaw_of_host(host: str) -> str | None:
    if "%" in host:  # the scope of an address means something on one machine only (RFC 4007, section 6)
        return "The host must be a name or an address."
    if (address := literal(host)) is not None:
        return None if is_public(address) else "The host must have a public address."
    if not _LABELS.fullmatch(host) or _NUMBER.fullmatch(host):
        return "The host must be a name or an address."
    local = host == "localhost" or host.endswith(_INSIDE) or "." not in host
    return "The host must be a public one." if local else None
