"""What no request may hold, since Postgres cannot keep it: the character NUL in a text."""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from broker.errors import BadRequest, Flaw, Invalid

# In JSON, NUL can only be written as an escape; behind an odd backslash it is one, behind an even one plain text.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SENTENCE = "Must not hold the character NUL."


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
