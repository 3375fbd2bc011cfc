"""The headers that a tenant adds to its webhooks: which are allowed, and how they are kept."""

import re
from collections.abc import Mapping

import msgspec

from broker.crypto import Keyring
from broker.errors import Flaw

LONGEST_NAME = 100
LONGEST_VALUE = 1024

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PRINTABLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")

# Fields of one connection (RFC 9110, 7.6.1), those that frame or route the request, and those that ask for an answer
# which is not read here.
_OURS = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
     "host", "expect", "accept-encoding"}
)  # fmt: skip
_OUR_FAMILIES = ("content-", "webhook-", "proxy-")


def flaws_of(headers: Mapping[str, str]) -> list[Flaw]:
    """What is wrong with them, each with the pointer to its name; names are tokens (RFC 9110, 5.6.2)."""
    flaws: list[Flaw] = []
    seen: set[str] = set()
    for name, value in headers.items():
        wrong = _flaw_of_name(name, seen) or _flaw_of_value(value)
        seen.add(name.lower())
        if wrong:
            flaws.append(Flaw(f"/headers/{name.replace('~', '~0').replace('/', '~1')}", wrong))
    return flaws


def names_of(headers: Mapping[str, str] | None) -> list[str]:
    """Their names in lower case, sorted: what is shown of them."""
    return sorted(name.lower() for name in headers or ())


def seal(headers: Mapping[str, str] | None, keyring: Keyring) -> bytes | None:
    """Encrypted JSON with names in lower case (names are case-insensitive, RFC 9110, 5.1); None when there are none."""
    if not headers:
        return None
    return keyring.seal(msgspec.json.encode({name.lower(): value for name, value in headers.items()}))


def unseal(sealed: bytes | None, keyring: Keyring) -> dict[str, str]:
    """What `seal` was given."""
    return msgspec.json.decode(keyring.open(sealed), type=dict[str, str]) if sealed else {}


def _flaw_of_name(name: str, seen: set[str]) -> str | None:
    if not _TOKEN.fullmatch(name) or len(name) > LONGEST_NAME:
        return f"The name of a header is a token (RFC 9110) of at most {LONGEST_NAME} characters."
    if name.lower() in _OURS or name.lower().startswith(_OUR_FAMILIES):
        return "This header is set by the connection, the body or the signature."
    return "This header is given twice." if name.lower() in seen else None


def _flaw_of_value(value: str) -> str | None:
    if len(value) <= LONGEST_VALUE and _PRINTABLE.fullmatch(value):
        return None
    return f"The value must be 1 to {LONGEST_VALUE} printable ASCII characters, with no space at either end."
