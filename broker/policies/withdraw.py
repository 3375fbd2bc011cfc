"""What has to go from an identity, and what stays, when some of its grants end: whole documents, and parts of them."""

import json
from collections.abc import Collection, Mapping
from uuid import UUID

import msgspec

from broker.policies.compile import grant_of
from broker.policies.document import DocumentError, read
from broker.policies.plan import parse_name


class Withdrawal(msgspec.Struct, frozen=True):
    """Names to delete, documents to put in the place of longer ones (name → text), and names that cannot be read."""

    delete: tuple[str, ...]
    reduce: Mapping[str, str]
    unreadable: tuple[str, ...]


def withdrawal(observed: Mapping[str, str], ended: Collection[UUID]) -> Withdrawal:
    """How the statements of these grants leave an identity that holds `observed` (name → document).

    Statements belong to a grant by their Sid. What others hold in the same document stays there, word for word; what
    has not our name, and our Deny documents, are left alone.
    """
    delete, unreadable = [], []
    reduce: dict[str, str] = {}
    for name, text in sorted(observed.items()):
        parsed = parse_name(name)
        if parsed is None or parsed.is_deny:
            continue
        try:
            read(text)
        except DocumentError:
            unreadable.append(name)
            continue
        raw, whole = _taken_apart(text)
        rest = [each for each in whole if grant_of(str(each.get("Sid"))) not in ended]
        if not rest:
            delete.append(name)
        elif len(rest) < len(whole):
            reduce[name] = json.dumps({**raw, "Statement": rest}, separators=(",", ":"))
    return Withdrawal(tuple(delete), reduce, tuple(unreadable))


def _taken_apart(text: str) -> tuple[dict[str, object], list[dict[str, object]]]:
    """A document that can be read, and its statements, as they stand."""
    raw: dict[str, object] = json.loads(text)
    listed: object = raw["Statement"]
    return raw, listed if isinstance(listed, list) else [msgspec.convert(listed, dict[str, object])]
