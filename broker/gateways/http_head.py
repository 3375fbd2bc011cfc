"""URLs and heads of requests. What does not change from one request to the next is worked out once and kept."""

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit

import msgspec

from broker.addresses import ascii_host
from broker.errors import Refused

DEFAULT_PORTS = {"https": 443, "http": 80}
AGENT = "ses-delegation-broker"
_UNRESERVED = "/:?#[]@!$&'()*+,;=%-._~"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# What frames the request and belongs to the connection (RFC 9110, 7.6.1; RFC 9112, 6) is ours to say.
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer",
     "upgrade", "http2-settings", "expect", "accept-encoding"}
)  # fmt: skip


class Origin(msgspec.Struct, frozen=True):
    """Where a connection leads: scheme, host (ASCII, lower-case, no brackets, no last dot) and port."""

    scheme: str
    host: str
    port: int


@lru_cache(8_192)
def parse(url: str) -> tuple[Origin, str]:
    """Origin and request target of an absolute URL; `Refused` when it is not one we could call."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = ascii_host(parts.hostname or "")
        if "[" in parts.netloc:
            IPv6Address(host)  # not a name, nor "IPvFuture" (RFC 3986, section 3.2.2)
    except ValueError as error:
        raise Refused("The URL is not valid.", code="url_not_valid") from error
    if parts.scheme not in DEFAULT_PORTS or parts.username is not None or not _is_host(host) or port == 0:
        raise Refused("The URL must be absolute, http or https, without a user name.", code="url_not_valid")
    target = quote(parts.path or "/", safe=_UNRESERVED)
    if parts.query:
        target += f"?{quote(parts.query, safe=_UNRESERVED)}"
    return Origin(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme]), target


def head(method: str, url: str, headers: Mapping[str, str], *, length: int | None = None) -> bytes:
    """A whole head; `Refused` for a header that is ours or would break out of its line (RFC 9110, 5.5)."""
    values = "".join(headers.values())
    if not values.isascii() or not values.isprintable():
        raise _not_allowed()
    given = headers.values() if length is None else (*headers.values(), length)
    return (_template(method, url, tuple(headers), has_length=length is not None) % tuple(given)).encode("ascii")


@lru_cache(8_192)
def _template(method: str, url: str, names: tuple[str, ...], *, has_length: bool) -> str:
    """The head with `%s` for each value."""
    origin, target = parse(url)
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != DEFAULT_PORTS[origin.scheme]:
        host = f"{host}:{origin.port}"
    fixed = [f"{method} {target} HTTP/1.1", f"host: {host}", "accept-encoding: identity"]
    lower = [name.lower() for name in names]
    if len({*lower}) < len(lower) or not _OURS.isdisjoint(lower) or not all(map(_TOKEN.fullmatch, lower)):
        raise _not_allowed()
    if "user-agent" not in lower:
        fixed.append(f"user-agent: {AGENT}")
    if has_length:
        lower.append("content-length")
    lines = [line.replace("%", "%%") for line in fixed] + [f"{name.replace('%', '%%')}: %s" for name in lower]
    return "\r\n".join(lines) + "\r\n\r\n"


def _not_allowed() -> Refused:
    return Refused("A header is not allowed, or holds a character that is not.", code="header_not_valid")


def _is_host(host: str) -> bool:
    return bool(host) and host.isprintable() and not any(sign in host for sign in " %\\<>\"'")
