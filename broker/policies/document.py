"""Reads a policy document, whoever wrote it, into statements that can be evaluated, compared and explained."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NoReturn

import msgspec

from broker.policies.operators import NULL, OPERATORS

# Characters. SES takes 4 KB; four times that leaves room for indentation. What is longer is not read at all, so that no
# text can make reading slow, nor deciding: the longest takes less than 100 ms for a send to 50 recipients.
MAX_READ = 16_384
_CACHED = 8_192  # characters of the longest document that is kept after reading
VARIABLES_SINCE = "2012-10-17"  # policy variables exist from this Version on (IAM User Guide, policies_variables)
OLDEST_VERSION = "2008-10-17"  # what a document without Version is read as

_TOP = frozenset({"Version", "Id", "Statement"})
_ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
_SETS = {"forallvalues": "all", "foranyvalue": "any"}


class DocumentError(ValueError):
    """The text is no policy document; the message is a sentence that says why."""


class Condition(msgspec.Struct, frozen=True):
    """One key under one operator.

    `operator` is the lower-case name without its prefix and suffix, `over` is "all" or "any" for the set operators and
    "" without one. `key` keeps its spelling; keys compare without regard to case. `values` are texts: a JSON `true` is
    "true".
    """

    operator: str
    over: str
    if_exists: bool
    key: str
    values: tuple[str, ...]
    written: str  # the operator as it stands in the document


class Statement(msgspec.Struct, frozen=True):
    """One statement. `principals` are pairs of type (AWS, Service, …) and value; `*` alone is ("AWS", "*").

    The `not_…` flags say that the element was NotPrincipal, NotAction or NotResource.
    """

    sid: str | None
    index: int
    allow: bool
    principals: tuple[tuple[str, str], ...]
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]
    not_principal: bool = False
    not_action: bool = False
    not_resource: bool = False

    @property
    def label(self) -> str:
        """The Sid, or the place in the document counted from 0 where there is none."""
        return self.sid or str(self.index)


class Document(msgspec.Struct, frozen=True):
    """A policy document that could be read."""

    version: str
    statements: tuple[Statement, ...]

    @property
    def has_variables(self) -> bool:
        """Whether `${…}` in its conditions and resources are policy variables, and not ordinary text."""
        return self.version == VARIABLES_SINCE


def read(text: str) -> Document:
    """Read one document; DocumentError for what is none, has a key twice, or numbers that JSON does not know."""
    if len(text) > MAX_READ:
        raise DocumentError(
            f"The document has {len(text)} characters; at most {MAX_READ} are read, and SES takes 4096 bytes."
        )
    return _read(text) if len(text) <= _CACHED else _read.__wrapped__(text)


@lru_cache(maxsize=512)
def _read(text: str) -> Document:
    try:
        raw = json.loads(text, object_pairs_hook=no_repeats, parse_constant=_no_constant)
        # Half of a surrogate pair is no character (RFC 7493, 2.1): it can be neither stored nor shown.
        json.dumps(raw, ensure_ascii=False).encode()
    except RecursionError:
        raise DocumentError("The document is nested too deeply.") from None
    except DocumentError:
        raise
    except UnicodeEncodeError:
        raise DocumentError("The document holds half of a surrogate pair, which is no character.") from None
    except ValueError as error:
        raise DocumentError(f"The document is not JSON: {str(error)[:200]}.") from None
    return _document(raw)


def read_any(policy: str | Mapping[str, object] | Document) -> Document:
    """Read a document given as text, as decoded JSON, or read before."""
    if isinstance(policy, Document):
        return policy
    if isinstance(policy, str):
        return read(policy)
    return read(_text_of(policy))


def no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """One object of JSON as a dict; DocumentError when a name stands in it twice (RFC 8259, section 4)."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise DocumentError(f"The key {key[:80]!r} appears twice in one object.")
        found[key] = value
    return found


def _text_of(policy: Mapping[str, object]) -> str:
    parts: list[str] = []
    length = 0
    try:
        for part in json.JSONEncoder(allow_nan=False, ensure_ascii=False).iterencode(policy):
            parts.append(part)
            length += len(part)
            if length > MAX_READ:
                raise DocumentError(
                    f"The document has more than {MAX_READ} characters, which is not read; SES takes 4096 bytes."
                )
    except RecursionError:
        raise DocumentError("The document is nested too deeply.") from None
    except DocumentError:
        raise
    except (TypeError, ValueError) as error:
        raise DocumentError(f"The document is not JSON: {error}.") from None
    return "".join(parts)


def _no_constant(name: str) -> NoReturn:
    raise DocumentError(f"{name} is not a JSON number.")


def _document(raw: object) -> Document:
    top = _object(raw, "The document", _TOP)
    version = top.get("Version", OLDEST_VERSION)
    if not isinstance(version, str):
        raise DocumentError("Version is not a text.")
    listed = top.get("Statement")
    statements = listed if isinstance(listed, list) else [listed]
    if listed is None or not statements:
        raise DocumentError("The document has no statement.")
    return Document(version, tuple(_statement(raw, index) for index, raw in enumerate(statements)))


def _object(raw: object, what: str, known: frozenset[str] | None = None) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise DocumentError(f"{what} is not an object.")
    if known is not None and (strange := sorted(set(raw) - known)):
        raise DocumentError(f"{what} has an element {strange[0][:80]!r}, which policies have not.")
    return raw


def _statement(raw: object, index: int) -> Statement:
    what = f"Statement {index}"
    parts = _object(raw, what, _ELEMENTS)
    sid, effect = parts.get("Sid"), parts.get("Effect")
    if sid is not None and not isinstance(sid, str):
        raise DocumentError(f"The Sid of statement {index} is not a text.")
    if effect not in ("Allow", "Deny"):
        raise DocumentError(f"The Effect of statement {index} is neither Allow nor Deny.")
    principal, not_principal = _either(parts, "Principal", what)
    action, not_action = _either(parts, "Action", what)
    resource, not_resource = _either(parts, "Resource", what)
    return Statement(
        sid=sid,
        index=index,
        allow=effect == "Allow",
        principals=_principals(principal, what),
        actions=_texts(action, f"The Action of statement {index}"),
        resources=_texts(resource, f"The Resource of statement {index}"),
        conditions=_conditions(parts.get("Condition", {}), what),
        not_principal=not_principal,
        not_action=not_action,
        not_resource=not_resource,
    )


def _either(parts: Mapping[str, object], name: str, what: str) -> tuple[object, bool]:
    """The element or its `Not…` form, and which of the two it was: a statement has exactly one of them."""
    given, negated = name in parts, f"Not{name}" in parts
    if given and negated:
        raise DocumentError(f"{what} has both {name} and Not{name}.")
    if not given and not negated:
        raise DocumentError(f"{what} has no {name}.")
    return (parts[f"Not{name}"], True) if negated else (parts[name], False)


def _texts(raw: object, what: str) -> tuple[str, ...]:
    listed: Sequence[object] = raw if isinstance(raw, list) else [raw]
    texts = tuple(item for item in listed if isinstance(item, str))
    if len(texts) != len(listed):
        raise DocumentError(f"{what} is neither a text nor a list of texts.")
    return texts


def _principals(raw: object, what: str) -> tuple[tuple[str, str], ...]:
    if raw == "*":
        return (("AWS", "*"),)
    kinds = _object(
        raw, f"The Principal of {what.lower()}", frozenset({"AWS", "Service", "Federated", "CanonicalUser"})
    )
    return tuple(
        (kind, text)
        for kind, values in kinds.items()
        for text in _texts(values, f"The {kind} principal of {what.lower()}")
    )


def _conditions(raw: object, what: str) -> tuple[Condition, ...]:
    """A known operator without keys is in the grammar and limits nothing; an unknown one is refused without, too."""
    operators = _object(raw, f"The Condition of {what.lower()}")
    return tuple(
        Condition(*operator, key, _values(values, key), written)
        for written, keys in operators.items()
        for operator in [_operator(written)]
        for key, values in _object(keys, f"{written[:80]!r} in {what.lower()}").items()
    )


def _operator(written: str) -> tuple[str, str, bool]:
    """Base name, set operator and IfExists; DocumentError for what is no operator."""
    prefix, colon, rest = written.rpartition(":")
    over = _SETS.get(prefix.lower(), "")
    name = rest.lower()
    if_exists = name.endswith("ifexists")
    base = name.removesuffix("ifexists")
    if (colon and not over) or (base not in OPERATORS and (base != NULL or if_exists)):
        raise DocumentError(f"{written[:80]!r} is not a condition operator.")
    return base, over, if_exists


def _values(raw: object, key: str) -> tuple[str, ...]:
    return tuple(_value(item, key) for item in (raw if isinstance(raw, list) else [raw]))


def _value(raw: object, key: str) -> str:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, float) and not math.isfinite(raw):  # 1e999 is a JSON number, and infinite once it is read
        raise DocumentError(f"A value of {key[:80]!r} is too large a number.")
    if isinstance(raw, str | int | float):
        return str(raw)
    raise DocumentError(f"A value of {key[:80]!r} is neither a text, a number nor true or false.")
