"""Says what keeps a text from being read as a policy, each fault by name."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

from broker.policies.compile import MAX_DOCUMENT_BYTES
from broker.policies.findings import Code, Finding, Place, found
from broker.policies.operators import NULL, OPERATORS

_ELEMENTS = (
    "Sid",
    "Effect",
    "Principal",
    "Action",
    "Resource",
    "Condition",
    "NotPrincipal",
    "NotAction",
    "NotResource",
)
_TOP = ("Version", "Id", "Statement")
_PREFIXES = ("ForAllValues:", "ForAnyValue:")
_OPERATORS = ("Null", *(operator.name for operator in OPERATORS.values()))


def is_storable(text: str) -> bool:
    """Whether a document that can be read fits into SES without its white space; what does not is not looked at."""
    shortest = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    return len(shortest.encode(errors="replace")) <= MAX_DOCUMENT_BYTES


def unreadable(place: Place, text: str, sentence: str) -> Iterator[Finding]:
    """Everything that is wrong with the structure, by name where it has one."""
    try:
        raw = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        yield found(Code.not_json, place, sentence, "Correct the JSON at that place.")
        return
    findings = list(_structure(place, raw)) if isinstance(raw, dict) else []
    yield from findings or [found(Code.malformed, place, sentence, "Bring the document into the form of a policy.")]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _structure(place: Place, raw: Mapping[str, object]) -> Iterator[Finding]:
    yield from _strange(place, raw, _TOP)
    listed = raw.get("Statement")
    statements = listed if isinstance(listed, list) else [listed] if listed is not None else []
    if not statements:
        yield found(Code.no_statement, place, "The policy has no statement.", "Add a statement.")
    for index, statement in enumerate(statements):
        if isinstance(statement, dict):
            sid = statement.get("Sid")
            at = Place(place.policy, sid if isinstance(sid, str) and sid else str(index))
            yield from _statement_structure(at, statement)


def _statement_structure(place: Place, raw: Mapping[str, object]) -> Iterator[Finding]:
    yield from _strange(place, raw, _ELEMENTS)
    if raw.get("Effect") not in ("Allow", "Deny"):
        yield found(
            Code.effect,
            place,
            f"The Effect is {json.dumps(raw.get('Effect'))[:80]}; it is Allow or Deny, spelled like that.",
            'Write "Effect": "Allow" or "Effect": "Deny".',
        )
    for name in ("Principal", "Action", "Resource"):
        both = name in raw and f"Not{name}" in raw
        if both or not (name in raw or f"Not{name}" in raw):
            yield found(
                Code.missing_element,
                place,
                f"The statement has both {name} and Not{name}." if both else f"The statement has no {name}.",
                f"Give it one {name}.",
            )
    condition = raw.get("Condition")
    for operator in condition if isinstance(condition, dict) else ():
        yield from _operator(place, operator)


def _strange(place: Place, raw: Mapping[str, object], known: Iterable[str]) -> Iterator[Finding]:
    for name in raw:
        if name not in known:
            yield found(
                Code.unknown_element, place, f"Policies have no element {name[:80]!r}.", _did_you_mean(name, known)
            )


def _operator(place: Place, written: str) -> Iterator[Finding]:
    prefix, colon, name = written.rpartition(":")
    base = name.lower().removesuffix("ifexists")
    if (colon and f"{prefix.lower()}:" not in map(str.lower, _PREFIXES)) or (
        base not in OPERATORS and name.lower() != NULL
    ):
        known = [f"{before}{each}" for before in ("", *_PREFIXES) for each in _OPERATORS] if colon else _OPERATORS
        yield found(
            Code.unknown_operator,
            Place(place.policy, place.statement, written[:80]),
            f"{written[:80]!r} is not a condition operator.",
            _did_you_mean(written, known),
        )


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    close = close_to(text, known)
    return f"Did you mean {close}?" if close else "Take it out."


def close_to(text: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one was probably meant to be."""
    by_lower = {name.lower(): name for name in sorted(known)}
    close = difflib.get_close_matches(text[:80].lower(), by_lower, n=1, cutoff=0.8)
    return by_lower[close[0]] if close else None
