"""What the URL of an endpoint must look like. Pure; where its host leads is checked whenever it is dialled."""

from ipaddress import ip_address
from urllib.parse import urlsplit

PORTS = frozenset({443, 8443})


def flaw_of(url: str, *, allow_loopback: bool) -> str | None:
    """What is wrong with it, as a sentence, or None. `allow_loopback`: http and any port are fine, for local runs."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "This is not a URL."
    if parts.scheme not in ("https", "http") or not parts.hostname or not url.isprintable() or " " in url:
        return "Must be an absolute https URL."
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "Must not hold a user name, a password or a fragment."
    if allow_loopback:
        return None
    if parts.scheme != "https":
        return "Must begin with https."
    if port not in (None, *PORTS):
        return "The port must be 443 or 8443."
    return _flaw_of_host(parts.hostname)


def _flaw_of_host(host: str) -> str | None:
    try:
        address = ip_address(host)
    except ValueError:
        local = host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host
        return "The host must be a public one." if local else None
    return None if address.is_global else "The host must have a public address."
