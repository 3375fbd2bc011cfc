"""What the model of the revocation protocol is made of: SES, the paper, a worker's run, and what may be lacking."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import NamedTuple
from uuid import UUID

from broker.policies.compile import document, statements
from broker.policies.deny import ProtectedBy
from broker.policies.document import read
from broker.policies.plan import parse_name
from broker.policies.terms import Action, Terms

ARN = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIFE = 2  # ticks until a request that was not executed is dead
GRANTS = (UUID(int=1), UUID(int=2))
# The first grant is amended from one account to another; the second gives a user of the first account access again.
TERMS = (("222222222222", "333333333333"), ("arn:aws:iam::222222222222:user/ann",))
CLOSED = "333333333333"  # an account that may be closed
REFUSAL = "Invalid principal in policy."  # SES's words need not name it
SENDERS = ("arn:aws:iam::222222222222:user/ann", "arn:aws:iam::333333333333:root")

Policies = tuple[tuple[str, str], ...]


class Protocol(NamedTuple):
    """How access is taken back. The flags beyond `keep` take one precaution away each."""

    deny: bool = True  # a Deny under its own name, at once
    reads: bool = True  # gone is what was read, twice
    same_name: bool = False  # names are not versioned, and the Deny overwrites the Allow
    keep: int = LIFE  # ticks for which the Deny stays
    earlier: bool = True  # principals of earlier versions are denied as well
    downgrade: bool = True  # the paper says `reads` before the Deny goes
    fresh_names: bool = True  # a Deny that was dropped comes back under a new name
    name_on_paper: bool = True  # only the Deny under that name is claimed
    strays: bool = True  # the Deny stays where a read has just shown a stray
    ahead: bool = True  # the Deny is named by the revoke itself, and sent before the paper is loaded
    committed: bool = True  # under the name that the revoke's own commit put on paper, not one made up to send it
    narrows: bool = True  # after a refusal the next Deny leaves out whom SES may not know
    refusals: bool = True  # a Deny that SES has refused is not there


class Paper(StrEnum):
    none = "none"
    agreed = "agreed"
    revoked = "revoked"


class Effect(StrEnum):
    none = "none"
    applied = "applied"
    removing = "removing"
    removed = "removed"


class Deal(NamedTuple):
    """One grant on paper; `effect` removed is "told revoked", and `by` what the receipt says."""

    paper: Paper = Paper.none
    terms: int = 0
    effect: Effect = Effect.none
    by: ProtectedBy = ProtectedBy.reads
    why: str | None = None  # no Deny: what SES has refused, as `narrow` says it
    removed_for: int | None = None  # ticks since the first clean read
    sealed: bool = False


class Op(NamedTuple):
    """One request to SES; `document` is empty for a delete."""

    name: str
    document: str = ""


class Run(NamedTuple):
    """Where a worker stands. `deny` is the lane beside `queue`, until the first read.

    `ahead`: the name of the Deny that came with the claim, until the paper is loaded.
    """

    stage: str
    document: str | None
    queue: tuple[Op, ...] = ()
    deny: tuple[Op, ...] = ()
    after: tuple[Op, ...] = ()
    observed: Policies = ()
    failed: bool = False
    deny_failed: bool = False
    deny_refused: bool = False
    ahead: str = ""
    unclean: bool = False
    over: tuple[bool, ...] = ()
    changed: tuple[bool, ...] = (False, False)  # whose paper has changed since it was loaded


class World(NamedTuple):
    """Everything. `late` is the request that SES holds back, with the ticks since it was sent.

    `faults`: how many more there may be; the end of an account is one. `closed`: SES does not know `CLOSED` any more,
    and takes no policy that names it.
    """

    held: Policies = ()
    late: tuple[Op, int] | None = None
    deals: tuple[Deal, ...] = (Deal(Paper.agreed), Deal())
    shown: Policies = ()
    written: Policies = ()
    deny_name: str | None = None
    run: Run | None = None
    may_be_late: bool = True
    faults: int = 1
    closed: bool = False


Step = tuple[str, World]


def is_over(deal: Deal, protocol: Protocol) -> bool:
    return deal.removed_for is not None and deal.removed_for >= protocol.keep


def alive_in(world: World) -> Iterator[str]:
    for index, deal in enumerate(world.deals):
        if deal.paper is Paper.agreed:
            yield TERMS[index][deal.terms]


@cache
def allow(index: int, version: int) -> str:
    terms = Terms(principals=(TERMS[index][version],), actions=(Action.send,), expires_at=NOW + timedelta(days=30))
    return document(statements(terms, grant_id=GRANTS[index], identity_arn=ARN))


def strays(observed: Policies, index: int) -> bool:
    """Whether anything is there in the slot of this grant."""
    return any(slot_of(name) == index for name, _ in observed)


@cache
def slot_of(name: str) -> int | None:
    parsed = parse_name(name)
    return None if parsed is None else parsed.slot


@cache
def denies(text: str) -> bool:
    return any(not each.allow for each in read(text).statements)


def executed(world: World, op: Op, protocol: Protocol) -> Policies:
    policies = dict(world.held)
    if is_refused(world, op):
        return world.held
    if not op.document:
        policies.pop(op.name, None)
    elif op.name not in policies or protocol.same_name:
        policies[op.name] = op.document
    return tuple(sorted(policies.items()))


def is_refused(world: World, op: Op) -> bool:
    """Whether SES takes no such policy (IAM User Guide, reference_policies_elements_principal)."""
    return world.closed and CLOSED in op.document


def told_of(op: Op) -> str:
    return f"{'create' if op.document else 'delete'} {op.name}"
