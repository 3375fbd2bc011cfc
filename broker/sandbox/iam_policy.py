"""Decides IAM's own policies: of roles and users, sessions, trust, topics and queues.

Policies of SES identities are not decided here but by `broker.policies`. Source: IAM User Guide, "Policy evaluation logic"
and "IAM JSON policy elements: Condition operators".
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

Decision = Literal["allow", "explicit_deny", "implicit_deny"]
Context = Mapping[str, str]
"""Condition keys in lower case with their values in this request."""


def decide(
    documents: Iterable[str | Mapping[str, Any]], action: str, resource: str, *, context: Context, caller: Callable[[Any], bool]
) -> Decision:
    """Explicit Deny wins, then any Allow, else implicit deny. `caller` says whether a Principal element covers the caller."""
    decision: Decision = "implicit_deny"
    for document in documents:
        body = json.loads(document) if isinstance(document, str) else document
        for statement in _list(body.get("Statement", [])):
            if not _applies(statement, action, resource, context) or not caller(statement.get("Principal")):
                continue
            if statement.get("Effect") == "Deny":
                return "explicit_deny"
            decision = "allow"
    return decision


def anybody(_principal: Any) -> bool:
    """For policies of users, roles and sessions, which have no Principal element."""
    return True


def names(*identifiers: str) -> Callable[[Any], bool]:
    """Does a Principal element's AWS list hold one of these ARNs or account ids, or everybody?"""
    return lambda principal: principal == "*" or bool({"*", *identifiers} & set(_named(principal, "AWS")))


def serves(service: str) -> Callable[[Any], bool]:
    """Does a Principal element cover this AWS service, such as `ses.amazonaws.com`?"""
    return lambda principal: principal == "*" or bool({"*", service} & {*_named(principal, "Service"), *_named(principal, "AWS")})


def _named(principal: Any, kind: str) -> list[str]:
    return _list(principal.get(kind, [])) if isinstance(principal, dict) else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    wanted = action.lower()
    if "Action" in statement and not any(like(wanted, each.lower()) for each in _list(statement["Action"])):
        return False
    if "NotAction" in statement and any(like(wanted, each.lower()) for each in _list(statement["NotAction"])):
        return False
    if "Resource" in statement and not any(like(resource, each) for each in _list(statement["Resource"])):
        return False
    if "NotResource" in statement and any(like(resource, each) for each in _list(statement["NotResource"])):
        return False
    conditions = statement.get("Condition", {})
    return all(
        _holds(operator, key, _list(values), context) for operator, keys in conditions.items() for key, values in keys.items()
    )


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.compile("".join(parts), re.DOTALL)


def like(value: str, pattern: str) -> bool:
    """IAM's wildcards: `*` is any run of characters, `?` exactly one."""
    return bool(_pattern(pattern).fullmatch(value))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


_POSITIVE: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "IpAddress": lambda value, wanted: ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False),
    "DateLessThan": lambda value, wanted: _moment(value) < _moment(wanted),
    "DateLessThanEquals": lambda value, wanted: _moment(value) <= _moment(wanted),
    "DateGreaterThan": lambda value, wanted: _moment(value) > _moment(wanted),
    "DateGreaterThanEquals": lambda value, wanted: _moment(value) >= _moment(wanted),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnLike",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
}


def _holds(operator: str, key: str, wanted: list[Any], context: Context) -> bool:
    name = operator.rsplit(":", 1)[-1]
    value = context.get(key.lower())
    if name == "Null":
        return (value is None) is (str(wanted[0]).lower() == "true")
    if value is None:
        return name.endswith("IfExists") or name in _NEGATED or operator.startswith("ForAllValues:")
    name = name.removesuffix("IfExists")
    matched = any(_POSITIVE[_NEGATED.get(name, name)](value, str(each)) for each in wanted)
    return matched is (name not in _NEGATED)
