"""The condition operators of IAM: how one value of a policy is compared with one value of a request."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache, partial
from types import MappingProxyType

import msgspec

from broker.policies.wildcards import Lookup, arn_matches, literal, matches

# Everything here is from the IAM User Guide, reference_policies_elements_condition_operators, unless it says otherwise.

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# (value in the policy, value in the request, how to fill policy variables: None where the document has none)
Compare = Callable[[str, str, Lookup | None], bool]

_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(
    r"(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2})"
    r"([Tt](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})(\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(?P<zone>[Zz]|(?P<sign>[+-])(?P<zone_hour>[0-9]{2}):?(?P<zone_minute>[0-9]{2}))?)?)?)?"
)
_LONGEST = 90  # characters of the longest date or block; what is longer is none and is not kept in a cache
_EPOCH = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?")
_MASK = re.compile(r"[0-9]{1,3}")
_MAPPED = 0xFFFF  # the first 96 bits of the IPv4 addresses within IPv6, ::ffff:0:0/96 (RFC 4291, 2.5.5.2)


class Operator(msgspec.Struct, frozen=True):
    """One operator: its canonical spelling, its comparison, and whether it holds when nothing matches."""

    name: str
    compare: Compare
    negated: bool = False


def as_date(text: str) -> datetime | None:
    """A date of a policy or a request: W3C's profile of ISO 8601 (any precision, UTC where no offset is given) or
    epoch seconds.

    Four digits alone are a year, as W3C has it. None for what is no date.
    """
    return _kept_date(text) if len(text) <= _LONGEST else None


def _read_date(text: str) -> datetime | None:
    found = _DATE.fullmatch(text)
    try:
        if found is not None:
            return _calendar_date(found)
        if _EPOCH.fullmatch(text):
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        return None
    return None


_kept_date = lru_cache(maxsize=4096)(_read_date)


def _calendar_date(found: re.Match[str]) -> datetime:
    zone = UTC
    if found["sign"]:
        offset = timedelta(hours=int(found["zone_hour"]), minutes=int(found["zone_minute"]))
        zone = timezone(-offset if found["sign"] == "-" else offset)
    return datetime(
        int(found["year"]),
        int(found["month"] or 1),
        int(found["day"] or 1),
        int(found["hour"] or 0),
        int(found["minute"] or 0),
        int(found["second"] or 0),
        int((found["fraction"] or "0")[:6].ljust(6, "0")),
        tzinfo=zone,
    )


def as_network(text: str) -> Network | None:
    """A CIDR block of either family; without a mask it is a single host. None for what is neither.

    What lies within the IPv6 block for IPv4 addresses (`::ffff:203.0.113.7`) is given as IPv4: it is the same host.
    """
    return _kept_network(text) if len(text) <= _LONGEST else None


def _read_network(text: str) -> Network | None:
    address, slash, mask = text.partition("/")
    # Masks like /255.255.255.0 and scopes like %eth0, which Python would read, are not of CIDR.
    if "%" in address or (slash and not _MASK.fullmatch(mask)):
        return None
    try:
        if ":" not in address:
            return ipaddress.IPv4Network(text, strict=False)
        found = ipaddress.IPv6Network(text, strict=False)
    except ValueError:
        return None
    bits = int(found.network_address)
    if bits >> 32 == _MAPPED and found.prefixlen >= 96:
        return ipaddress.IPv4Network((bits & 0xFFFFFFFF, found.prefixlen - 96))
    return found


_kept_network = lru_cache(maxsize=4096)(_read_network)


def as_number(text: str) -> Decimal | None:
    """An integer or decimal number, with an exponent or without; None for anything else."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _string_equals(wanted: str, given: str, lookup: Lookup | None) -> bool:
    return literal(wanted, lookup) == given


def _string_equals_ignoring_case(wanted: str, given: str, lookup: Lookup | None) -> bool:
    text = literal(wanted, lookup)
    return text is not None and text.lower() == given.lower()


def _bool(wanted: str, given: str, _: Lookup | None) -> bool:
    return wanted.lower() == given.lower() and wanted.lower() in ("true", "false")


def _binary(wanted: str, given: str, _: Lookup | None) -> bool:
    try:
        return base64.b64decode(wanted, validate=True) == base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False


def _ip(wanted: str, given: str, _: Lookup | None) -> bool:
    block, caller = as_network(wanted), as_network(given)
    if block is None or caller is None or block.version != caller.version or caller.num_addresses != 1:
        return False
    return int(block.network_address) <= int(caller.network_address) <= int(block.broadcast_address)


# The signs of (request - policy) that make an operator of order true.
_LESS, _EQUAL, _GREATER = -1, 0, 1


def _ordered(
    read: Callable[[str], datetime | Decimal | None],
    signs: tuple[int, ...],
    wanted: str,
    given: str,
    _: Lookup | None,
) -> bool:
    policy, request = read(wanted), read(given)
    if isinstance(policy, datetime) and isinstance(request, datetime):
        return (request > policy) - (request < policy) in signs
    if isinstance(policy, Decimal) and isinstance(request, Decimal):
        return (request > policy) - (request < policy) in signs
    return False


NULL = "null"

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        operator.name.lower(): operator
        for operator in (
            Operator("StringEquals", _string_equals),
            Operator("StringNotEquals", _string_equals, negated=True),
            Operator("StringEqualsIgnoreCase", _string_equals_ignoring_case),
            Operator("StringNotEqualsIgnoreCase", _string_equals_ignoring_case, negated=True),
            Operator("StringLike", matches),
            Operator("StringNotLike", matches, negated=True),
            Operator("NumericEquals", partial(_ordered, as_number, (_EQUAL,))),
            Operator("NumericNotEquals", partial(_ordered, as_number, (_EQUAL,)), negated=True),
            Operator("NumericLessThan", partial(_ordered, as_number, (_LESS,))),
            Operator("NumericLessThanEquals", partial(_ordered, as_number, (_LESS, _EQUAL))),
            Operator("NumericGreaterThan", partial(_ordered, as_number, (_GREATER,))),
            Operator("NumericGreaterThanEquals", partial(_ordered, as_number, (_GREATER, _EQUAL))),
            Operator("DateEquals", partial(_ordered, as_date, (_EQUAL,))),
            Operator("DateNotEquals", partial(_ordered, as_date, (_EQUAL,)), negated=True),
            Operator("DateLessThan", partial(_ordered, as_date, (_LESS,))),
            Operator("DateLessThanEquals", partial(_ordered, as_date, (_LESS, _EQUAL))),
            Operator("DateGreaterThan", partial(_ordered, as_date, (_GREATER,))),
            Operator("DateGreaterThanEquals", partial(_ordered, as_date, (_GREATER, _EQUAL))),
            Operator("Bool", _bool),
            Operator("BinaryEquals", _binary),
            Operator("IpAddress", _ip),
            Operator("NotIpAddress", _ip, negated=True),
            # ArnEquals and ArnLike are the same, wildcards included.
            Operator("ArnEquals", arn_matches),
            Operator("ArnNotEquals", arn_matches, negated=True),
            Operator("ArnLike", arn_matches),
            Operator("ArnNotLike", arn_matches, negated=True),
        )
    }
)
