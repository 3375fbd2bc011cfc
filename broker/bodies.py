"""What is refused of a request before a route reads it: NUL, names given twice, values of another type than said."""

import json
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from broker.errors import BadRequest, Flaw, Invalid

# In JSON, NUL can only be written as an escape; behind an odd backslash it is one, behind an even one plain text.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SENTENCE = "Must not hold the character NUL."
_NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def refuse_nul(query: bytes, body: bytes) -> None:
    """`BadRequest` for NUL in a query, `Invalid` with the field for NUL in a JSON body; no other flaw is looked for."""
    if b"\0" in unquote_to_bytes(query):
        raise BadRequest("The query holds the character NUL.")
    if rb"\u0000" not in body or not _NUL.search(body):
        return
    try:
        where = _path(msgspec.json.decode(body))
    except msgspec.DecodeError:
        return  # not JSON: whoever reads it says so
    if where is not None:
        raise Invalid(f"The body is not valid: {_SENTENCE}", flaws=(Flaw(where, _SENTENCE),))


def refuse_loose(body: bytes, kind: Any) -> None:
    """`msgspec.ValidationError` for JSON that does not fit `kind` strictly.

    The framework takes 0 and "false" for false: a revocation that was to be a dry run must not depend on that. Nor on
    which of two `dry_run` it takes: `Invalid` for a name that stands twice in one object (RFC 8259, section 4).
    """
    _refuse_repeats(body)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        decoder.decode(body)
    except msgspec.ValidationError:
        if _is_json(body):
            raise
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return  # not JSON: whoever reads it says so


def _refuse_repeats(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        return  # not JSON: whoever reads it says so


def _once_each(pairs: list[tuple[str, object]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise Invalid(f"The body is not valid: {name[:80]!r} stands twice in one object.")
        seen.add(name)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


def refuse_numbers(query: bytes, times: Collection[str]) -> None:
    """`BadRequest` for a parameter that is a time and was given as a number: nobody means seconds since 1970."""
    if not query or not times:
        return
    for name, value in parse_qsl(query.decode("latin-1"), errors="replace"):
        if name in times and _NUMBER.fullmatch(value.strip()):
            raise BadRequest(f"{name} must be a time such as 2026-12-01T09:30:00Z, not a number.")


def _path(value: Any) -> str | None:
    """The JSON pointer to the first text with NUL in it, None without one."""
    if isinstance(value, str):
        return "" if "\0" in value else None
    if not isinstance(value, dict | list):
        return None
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        below = _path(inner)
        if below is not None or (isinstance(key, str) and "\0" in key):
            return f"/{key}{below or ''}".replace("\0", "")
    return None
