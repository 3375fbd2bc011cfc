"""What a grant says about the foreign policy whose place it takes. Rules only."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from broker.grants.lifecycle import NEGOTIABLE, Paper
from broker.grants.models import Grant
from broker.policies.normal import same_meaning


class Swap(StrEnum):
    """What became of the foreign policy.

    `waiting` for the grant to be active; `removing` since its deletion was asked for; `removed` by us; `refused`: SES
    does not let us delete it, and the grant is active beside it. Left alone: `changed` since the grant was proposed,
    `gone` by somebody else's hand, `kept` because the grant ended first.
    """

    WAITING = "waiting"
    REMOVING = "removing"
    REMOVED = "removed"
    REFUSED = "refused"
    CHANGED = "changed"
    GONE = "gone"
    KEPT = "kept"


OPEN = frozenset({Swap.WAITING, Swap.REMOVING, Swap.REFUSED})


class Replaces(msgspec.Struct, frozen=True):
    """The foreign policy that a grant replaces: its name, the SHA-256 of its text as it was proposed, and what became
    of it, with the reason and the time.

    `narrows` says where the grant as first proposed permits less than the policy.
    """

    policy: str
    digest: str
    narrows: tuple[str, ...] = ()
    state: Swap = Swap.WAITING
    detail: str | None = None
    at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is left to do."""
        return self.state in OPEN


def digest_of(document: str) -> str:
    """The SHA-256 of a policy's text in hexadecimal."""
    return hashlib.sha256(document.encode()).hexdigest()


def replaced_by(grant: Grant) -> Replaces | None:
    """What the grant replaces; None for a grant that replaces nothing."""
    return msgspec.convert(grant.replaces, Replaces) if grant.replaces is not None else None


def shown(grant: Grant) -> Replaces | None:
    """The same as people see it: what waits for a grant that ended is kept for good."""
    found = replaced_by(grant)
    over = grant.paper not in NEGOTIABLE
    if found is None or not over or found.state not in (Swap.WAITING, Swap.REFUSED):
        return found
    return msgspec.structs.replace(found, state=Swap.KEPT)


def sentences(grant: Grant) -> list[str]:
    """What an offer says of it, beside what its terms mean."""
    found = replaced_by(grant)
    if found is None:
        return []
    return [
        f"The grant takes the place of the policy {found.policy}, which is deleted once the grant's own was read back.",
        *found.narrows,
    ]


def look_again(grant: Grant, gap: timedelta) -> list[timedelta]:
    """After how long an active grant is looked at again for the sake of the policy; what SES refuses can wait."""
    found = replaced_by(grant)
    waits = found is not None and found.is_open and found.state is not Swap.REFUSED
    return [gap] if waits and grant.paper is Paper.AGREED else []


def next_state(
    replaces: Replaces, *, in_place: bool, seen: str | None, proposed: str | None, ours: bool
) -> Swap | None:
    """What becomes of the policy now; None for nothing yet.

    `in_place`: the grant's own policy was read back, twice. `seen` is the text that SES holds under the name, None for
    nothing; `proposed` the text that the parties agreed to replace. `ours`: the name is one that only we give, which is
    the business of the plan.
    """
    if not replaces.is_open or ours:
        return None
    if seen is None and replaces.state is Swap.REMOVING:
        return Swap.REMOVED
    if not in_place:
        return None
    if seen is None:
        return Swap.GONE
    unchanged = digest_of(seen) == replaces.digest or (proposed is not None and same_meaning(seen, proposed))
    return Swap.REMOVING if unchanged else Swap.CHANGED


def stored(replaces: Replaces) -> Mapping[str, object]:
    """As the grant's column holds it."""
    found: Mapping[str, object] = msgspec.to_builtins(replaces)
    return found
