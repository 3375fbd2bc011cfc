"""Decides what a Deny of ours says, so that a request which SES executes late gives nobody back what was taken away.

A policy that was deleted can come back when SES executes an older request after the delete, and no read can foresee
that. A Deny under a name of its own holds all the same, as an explicit deny wins over any allow (IAM User Guide,
reference_policies_evaluation-logic). It is kept until every older request is dead.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

import msgspec

from broker.policies.arns import covers, is_account_id, parse_identity_arn, plain, principal_account, related
from broker.policies.compile import MAX_DOCUMENT_BYTES, document
from broker.policies.document import DocumentError, Statement, read
from broker.policies.plan import parse_name
from broker.policies.residual import still_allowed
from broker.policies.terms import ACTION_TO_IAM

SID = "TakenBack"
UNSEEN = "SES does not show the Deny yet."
SENDING = tuple(name for names in ACTION_TO_IAM.values() for name in names)
"""Every action that a grant can give. All are denied: who has no living grant loses nothing by it."""


class ProtectedBy(StrEnum):
    """What keeps access from coming back: a Deny on the identity, or reading it again and again."""

    deny = "deny"
    reads = "reads"


class TakenBack(msgspec.Struct, frozen=True):
    """A grant that has ended or is suspended, with every principal that a late request may still let in by it."""

    grant_id: UUID
    principals: tuple[str, ...]


class Protection(msgspec.Struct, frozen=True):
    """What protects one grant; `reason` is a sentence for both parties, there where no Deny covers all of it."""

    by: ProtectedBy
    reason: str | None = None


class Denial(msgspec.Struct, frozen=True):
    """The one Deny document of an identity (None: none is wanted), and what protects each grant once it is there."""

    document: str | None
    protections: Mapping[UUID, Protection]


def decide(
    taken: Sequence[TakenBack],
    *,
    living: Iterable[str],
    observed: Mapping[str, str],
    identity_arn: str,
    now: datetime,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Denial:
    """One document for all principals that may be denied; what does not fit any more is protected by reads.

    `living`, `observed`: as for `spared`. `refused` are principals that are left out as SES does not take them, each
    with the reason (`narrow.left_out`).
    """
    everybody = {principal: plain(principal) for grant in taken for principal in grant.principals}
    left_out = {
        **spared(everybody, living=living, observed=observed, identity_arn=identity_arn, now=now),
        **{principal: refused[known] for principal, known in everybody.items() if known in refused},
    }
    named: frozenset[str] = frozenset()
    room = _room(identity_arn)
    protections: dict[UUID, Protection] = {}
    for grant in taken:
        wanted = _fewest(named | {plain(each) for each in grant.principals if each not in left_out})
        full = room < sum(map(_length, wanted))
        if not full:
            named = wanted
        reason = "No room is left in the Deny document." if full else _reason(grant, left_out, refused)
        protections[grant.grant_id] = Protection(ProtectedBy.reads if reason else ProtectedBy.deny, reason)
    return Denial(_document(named, identity_arn) if named else None, protections)


def spared(
    principals: Iterable[str],
    *,
    living: Iterable[str],
    observed: Mapping[str, str],
    identity_arn: str,
    now: datetime,
) -> Mapping[str, str]:
    """Those of `principals` whom a Deny must not name, as it would shut out somebody by the way, each with the reason.

    `living` are principals that grants of ours let send on this identity, `observed` every policy on it. Nobody is
    denied who is covered by one of them, by a policy that is not ours, or by the owner's account, nor who covers one.
    """
    owner, alive = parse_identity_arn(identity_arn).account_id, tuple(living)
    return {
        each: reason
        for each in principals
        if (reason := _why_not(each, alive, owner) or _allowed_by(each, observed, identity_arn, now))
    }


def documents(principals: Iterable[str], *, identity_arn: str) -> tuple[str, ...]:
    """As few documents as hold a Deny of every way of sending for these principals, each as long as SES takes it."""
    return tuple(_document(share, identity_arn) for share in shares(principals, identity_arn=identity_arn))


def shares(principals: Iterable[str], *, identity_arn: str) -> Sequence[Sequence[str]]:
    """Whom each of these documents names."""
    found: list[list[str]] = []
    left = room = _room(identity_arn)
    for principal in sorted(_fewest(plain(each) for each in principals)):
        if not found or _length(principal) > left:
            found.append([])
            left = room
        found[-1].append(principal)
        left -= _length(principal)
    return found


def protects(observed: Mapping[str, str], principals: Iterable[str], identity_arn: str) -> bool:
    """Whether Denies of ours among these policies shut out all of these principals, whatever else is there."""
    named = shut_out(observed, identity_arn)
    return all(any(covers(who, principal) for who in named) for principal in principals)


def shut_out(observed: Mapping[str, str], identity_arn: str) -> frozenset[str]:
    """Whom Denies of ours among these policies name, as `plain` spells them, and keep from any way of sending."""
    denies = (each for each in _denies(observed) if _shuts(each, identity_arn))
    return frozenset(plain(who) for each in denies for who in _named(each))


def touched(observed: Mapping[str, str], principals: Iterable[str]) -> bool:
    """Whether a Deny of ours among these policies keeps out any sender that these principals cover."""
    named = [who for each in _denies(observed) for who in _named(each)]
    return any(related(who, principal) for who in named for principal in principals)


def still_named(current: str | None, written: str | None, wanted: str | None) -> bool:
    """Whether the Deny that is wanted goes on under its current name, under which `written` stands on paper.

    Anything else gets a name that was never used: a delete of the old one may be executed late.
    """
    return current is not None and wanted is not None and written == wanted


def _reason(grant: TakenBack, left_out: Mapping[str, str], refused: Mapping[str, str]) -> str | None:
    """What SES refuses is all said, as the next run goes by it; of anything else the first."""
    said = [refused[known] for principal in grant.principals if (known := plain(principal)) in refused]
    first = (left_out[principal] for principal in grant.principals if principal in left_out)
    return " ".join(dict.fromkeys(said)) or next(first, None)


def _fewest(principals: Iterable[str]) -> frozenset[str]:
    """Without the users and roles of accounts that are there as a whole."""
    given = frozenset(principals)
    accounts = {each for each in given if is_account_id(each)}
    return frozenset(each for each in given if each in accounts or principal_account(each) not in accounts)


def _room(identity_arn: str) -> int:
    """Bytes that all principals of one document may take, each with a comma: the last one's is not written."""
    return MAX_DOCUMENT_BYTES - len(_document(("", ""), identity_arn)) + len('"","",')


def _length(principal: str) -> int:
    return len(f'"{principal}",')


def _document(principals: Iterable[str], identity_arn: str) -> str:
    listed = sorted(principals)
    statement = {
        "Sid": SID,
        "Effect": "Deny",
        "Principal": {"AWS": listed[0] if len(listed) == 1 else listed},
        "Action": list(SENDING),
        "Resource": identity_arn,
    }
    return document([statement])


def _why_not(principal: str, living: Iterable[str], owner: str) -> str | None:
    if related(principal, owner):
        return f"{principal} is of the owner's own account."
    alive = next((each for each in living if related(principal, each)), None)
    return f"Another grant lets {alive} send." if alive is not None else None


def _allowed_by(principal: str, observed: Mapping[str, str], identity_arn: str, now: datetime) -> str | None:
    found = still_allowed(observed, principals=[principal], actions=SENDING, identity_arn=identity_arn, now=now)
    return f"The policy {found[0]}, which is not ours, may let {principal} send." if found else None


def _denies(observed: Mapping[str, str]) -> list[Statement]:
    found: list[Statement] = []
    for name, text in observed.items():
        if (parsed := parse_name(name)) is not None and parsed.is_deny:
            try:
                found += [statement for statement in read(text).statements if not statement.allow]
            except DocumentError:
                continue
    return found


def _shuts(deny: Statement, identity_arn: str) -> bool:
    """Whether a Deny is as we write it: each of the actions, on this identity, without condition."""
    spelled = {action.lower() for action in deny.actions}
    limited = deny.conditions or deny.not_principal or deny.not_action or deny.not_resource
    return not limited and identity_arn in deny.resources and spelled >= {action.lower() for action in SENDING}


def _named(deny: Statement) -> list[str]:
    return [named for kind, named in deny.principals if kind == "AWS"]
