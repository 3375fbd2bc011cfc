"""Reads single fields of SES's JSON, whatever form they come in; what has another form than expected is absent."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

Json = dict[str, Any]

_BLANK_BEFORE_OFFSET = re.compile(r"\s+(?=[+-]\d{2}:?\d{2}$)")
_IN_BRACKETS = re.compile(r"<([^<>]*)>\s*$")
# "smtp; 550 …", "X-Postfix; …", "dns; host", "dsn; host" (RFC 3464, 2.1.2: a type, then a semicolon).
_TYPE = re.compile(r"^(?:smtp|dns|dsn|x-[a-z0-9-]+)\s*;\s*", re.IGNORECASE)

_WANTED_HEADERS = frozenset({"from", "subject"})
_LONGEST_TIME = 40
MOST = 1000
"""Entries of a list of headers, tags or topics that are looked at; SES itself has far fewer."""


def clean(value: Any) -> str | None:
    """Text without blanks around it and without NUL, which Postgres cannot hold; None where nothing is left."""
    return (value.replace("\0", "").strip() or None) if isinstance(value, str) else None


def text(of: Json, name: str) -> str | None:
    value = of.get(name)
    return None if value is None else clean(value)


def whole(of: Json, name: str) -> int | None:
    """A count; numbers beyond 64 bits and booleans are absent."""
    value = of.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def truth(of: Json, name: str) -> bool | None:
    """True or false, also where it is written as text."""
    value = of.get(name)
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def record(of: Json, name: str) -> Json:
    value = of.get(name)
    return value if isinstance(value, dict) else {}


def items(of: Json, name: str) -> list[Any]:
    """A list, also where a single value stands for a list of one."""
    value = of.get(name)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def time(of: Json, name: str) -> datetime | None:
    """ISO 8601 with `Z`, `-05:00` or, as in SES's examples, ` +0000` behind a blank; without an offset it is UTC."""
    value = text(of, name)
    if value is None or len(value) > _LONGEST_TIME:
        return None
    try:
        found = datetime.fromisoformat(value if value[-1] == "Z" else _BLANK_BEFORE_OFFSET.sub("", value))
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def address(value: Any) -> str | None:
    """The bare address of `a@example.org`, ` a@example.org` or `Name <a@example.org>`, in its own spelling."""
    written = clean(value)
    if written is None:
        return None
    bracketed = _IN_BRACKETS.search(written)
    return clean(bracketed[1]) if bracketed else written


def addresses(of: Json, name: str, *, most: int) -> tuple[str, ...]:
    """Each address once, in order, of the first `most` entries."""
    return tuple(dict.fromkeys(found for entry in items(of, name)[:most] if (found := address(entry))))


def without_type(value: str | None) -> str | None:
    """`smtp; 550 5.1.1 unknown` without the name of its type."""
    return clean(_TYPE.sub("", value)) if value else None


def headers(mail: Json) -> dict[str, str]:
    """From and subject by lower-case name: from `commonHeaders`, where given, else from `headers`.

    SES documents `commonHeaders` as a list and sends an object; both are read. So are values that are lists of one.
    """
    found: dict[str, str] = {}
    listed = (*_objects(items(mail, "headers")[:MOST]), *_objects(items(mail, "commonHeaders")[:MOST]))
    for entry in listed:
        pair = entry.get("name")
        for name, value in ((pair, entry.get("value")),) if isinstance(pair, str) and pair else entry.items():
            if (known := name.strip().lower()) in _WANTED_HEADERS:
                first = clean(next(iter(value), None) if isinstance(value, list) else value)
                if first:
                    found[known] = first
    return found


def tags(of: Json, name: str = "tags") -> dict[str, list[str]]:
    """Tags of a message, SES's own (`ses:…`) among them, or of a link: name → values."""
    return {
        key: [kept for value in (values if isinstance(values, list) else [values])[:MOST] if (kept := clean(value))]
        for name, values in islice(record(of, name).items(), MOST)
        if (key := clean(name))
    }


def _objects(entries: Iterable[Any]) -> Iterable[Json]:
    return (entry for entry in entries if isinstance(entry, dict))
