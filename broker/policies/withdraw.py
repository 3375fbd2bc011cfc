"""What has to go from an identity, and what stays, when some of its grants end: documents, and whom a Deny may name."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from broker.policies.arns import ANYBODY, covers, principal_account
from broker.policies.compile import MAX_DOCUMENT_BYTES, document, grant_of
from broker.policies.document import DocumentError, Statement, read
from broker.policies.plan import is_ours, parse_name
from broker.policies.terms import ACTION_TO_IAM

DENIED = tuple(dict.fromkeys(name for names in ACTION_TO_IAM.values() for name in names))
"""All that a grant can let anybody do."""


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
        rest = [each for each in whole if grant_of(str(each.get("Sid", ""))) not in ended]
        if not rest:
            delete.append(name)
        elif len(rest) < len(whole):
            reduce[name] = json.dumps({**raw, "Statement": rest}, separators=(",", ":"))
    return Withdrawal(tuple(delete), reduce, tuple(unreadable))


def deniable(
    principals: Iterable[str], *, living: Iterable[str], observed: Mapping[str, str], owner_account: str
) -> tuple[str, ...]:
    """Those of `principals` whom a Deny may name without shutting out anybody else, in their order.

    Left out is who covers, or is covered by, a principal of a living grant or of an Allow that is not ours, and who is
    of the owner's own account. A foreign policy that cannot be read, or lets anybody in, leaves nobody.
    """
    kept = [*living, *_foreign_senders(observed)]
    return tuple(
        each
        for each in dict.fromkeys(principals)
        if principal_account(each) != owner_account
        and not any(other == ANYBODY or covers(other, each) or covers(each, other) for other in kept)
    )


def deny_documents(principals: Sequence[str], *, identity_arn: str) -> tuple[str, ...]:
    """As few documents as hold a Deny of every way of sending for these principals, each as long as SES takes it."""
    documents: list[str] = []
    held: list[str] = []
    for principal in principals:
        if held and len(_deny([*held, principal], identity_arn)) > MAX_DOCUMENT_BYTES:
            documents.append(_deny(held, identity_arn))
            held = []
        held.append(principal)
    return (*documents, _deny(held, identity_arn)) if held else ()


def _deny(principals: Sequence[str], identity_arn: str) -> str:
    return document(
        [
            {
                "Sid": "Revoked",
                "Effect": "Deny",
                "Principal": {"AWS": list(principals)},
                "Action": list(DENIED),
                "Resource": identity_arn,
            }
        ]
    )


def _taken_apart(text: str) -> tuple[dict[str, object], list[dict[str, object]]]:
    """A document that can be read, and its statements, as they stand."""
    raw: dict[str, object] = json.loads(text)
    listed: object = raw["Statement"]
    return raw, listed if isinstance(listed, list) else [msgspec.convert(listed, dict[str, object])]


def _foreign_senders(observed: Mapping[str, str]) -> Iterable[str]:
    for name, text in observed.items():
        if is_ours(name):
            continue
        try:
            allows = [each for each in read(text).statements if each.allow]
        except DocumentError:
            yield ANYBODY
            continue
        for allow in allows:
            yield from _senders(allow)


def _senders(allow: Statement) -> Iterable[str]:
    if allow.not_principal:
        return [ANYBODY]
    return [named for kind, named in allow.principals if kind == "AWS" or named == ANYBODY]
