"""The life of a grant: who may do what in which state, and what a grant is called. Rules only."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

import msgspec


class Party(StrEnum):
    OWNER = "owner"
    DELEGATE = "delegate"

    @property
    def other(self) -> "Party":
        """The other side."""
        return Party.DELEGATE if self is Party.OWNER else Party.OWNER


class Paper(StrEnum):
    """What the parties agreed."""

    OPEN = "open"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    AGREED = "agreed"
    PAUSED = "paused"
    REVOKED = "revoked"
    RELINQUISHED = "relinquished"
    EXPIRED = "expired"


class Effect(StrEnum):
    """What SES is known to hold, as far as we have read."""

    NONE = "none"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


class Outcome(StrEnum):
    """How an offer ended. `voided`: the grant ended while the offer was open."""

    APPROVED = "approved"
    COUNTERED = "countered"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    VOIDED = "voided"


class State(StrEnum):
    """What people see; a pure function of paper, effect and clock."""

    PROPOSED = "proposed"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    SCHEDULED = "scheduled"
    ACTIVATING = "activating"
    ACTIVE = "active"
    ACTIVATION_FAILED = "activation_failed"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    REVOKING = "revoking"
    REVOKED = "revoked"
    RELINQUISHING = "relinquishing"
    RELINQUISHED = "relinquished"
    ENDING = "ending"
    EXPIRED = "expired"


class Verb(StrEnum):
    """What a party can do to a grant that exists."""

    APPROVE = "approve"
    COUNTER = "counter"
    DECLINE = "decline"
    WITHDRAW = "withdraw"
    AMEND = "amend"
    REVOKE = "revoke"
    RELINQUISH = "relinquish"
    RESTORE = "restore"
    SUSPEND = "suspend"
    RESUME = "resume"
    CONFIRM = "confirm"  # what the owner has done by hand


class Offered(StrEnum):
    """What a verb needs of the latest offer."""

    BY_OTHER = "by_other"  # open, and made by the other party
    BY_ME = "by_me"  # open, and made by oneself
    NONE = "none"  # none is open
    ANY = "any"


class Move(msgspec.Struct, frozen=True):
    """One row of the table. `to` None leaves the paper as it is."""

    by: frozenset[Party]
    papers: frozenset[Paper]
    offer: Offered
    to: Mapping[Paper, Paper] = MappingProxyType({})


EITHER = frozenset(Party)
OWNER = frozenset({Party.OWNER})
DELEGATE = frozenset({Party.DELEGATE})
LIVE = frozenset({Paper.AGREED, Paper.PAUSED})
ENDED = frozenset({Paper.REVOKED, Paper.RELINQUISHED, Paper.EXPIRED})
TAKEN_BACK = ENDED | {Paper.PAUSED}
"""Nothing of these may be on the identity, and both parties are told when that was read."""

BEHIND_DENY = TAKEN_BACK - {Paper.EXPIRED}
"""What a late request must not bring back. Of an expired grant it may: its own end date shuts it."""

NEGOTIABLE = LIVE | {Paper.OPEN}

# The one table of who may do what. An offer on live paper is an amendment: approving it keeps the paper as it is.
MOVES: Mapping[Verb, Move] = MappingProxyType(
    {
        Verb.APPROVE: Move(EITHER, NEGOTIABLE, Offered.BY_OTHER, {Paper.OPEN: Paper.AGREED}),
        Verb.COUNTER: Move(EITHER, NEGOTIABLE, Offered.BY_OTHER),
        Verb.DECLINE: Move(EITHER, NEGOTIABLE, Offered.BY_OTHER, {Paper.OPEN: Paper.DECLINED}),
        Verb.WITHDRAW: Move(EITHER, NEGOTIABLE, Offered.BY_ME, {Paper.OPEN: Paper.WITHDRAWN}),
        Verb.AMEND: Move(EITHER, LIVE, Offered.NONE),
        Verb.REVOKE: Move(OWNER, LIVE, Offered.ANY, dict.fromkeys(LIVE, Paper.REVOKED)),
        Verb.RELINQUISH: Move(DELEGATE, LIVE, Offered.ANY, dict.fromkeys(LIVE, Paper.RELINQUISHED)),
        Verb.RESTORE: Move(OWNER, frozenset({Paper.AGREED}), Offered.ANY),
        Verb.SUSPEND: Move(OWNER, frozenset({Paper.AGREED}), Offered.ANY, {Paper.AGREED: Paper.PAUSED}),
        Verb.RESUME: Move(OWNER, frozenset({Paper.PAUSED}), Offered.ANY, {Paper.PAUSED: Paper.AGREED}),
        Verb.CONFIRM: Move(OWNER, LIVE | ENDED, Offered.ANY),
    }
)


class Standing(msgspec.Struct, frozen=True):
    """What is stored about a grant, as far as its state depends on it. Times are aware UTC."""

    paper: Paper
    effect: Effect
    not_before: datetime | None = None
    expires_at: datetime | None = None
    offer_open: bool = False
    offer_by: Party = Party.OWNER
    offer_lapses_at: datetime | None = None
    ended_at: datetime | None = None
    stuck_at: datetime | None = None
    drifted: bool = False
    by_hand: bool = False


def paper_at(standing: Standing, now: datetime) -> Paper:
    """The paper as the clock makes it, whether or not a worker has written it down yet."""
    if standing.paper is Paper.OPEN and standing.offer_lapses_at is not None and standing.offer_lapses_at <= now:
        return Paper.LAPSED
    if standing.paper in LIVE and standing.expires_at is not None and standing.expires_at <= now:
        return Paper.EXPIRED
    return standing.paper


def offer_is_open(standing: Standing, now: datetime) -> bool:
    """Whether the latest offer can still be decided."""
    return standing.offer_open and standing.offer_lapses_at is not None and now < standing.offer_lapses_at


_CLOSED = {
    Paper.OPEN: State.PROPOSED,
    Paper.DECLINED: State.DECLINED,
    Paper.WITHDRAWN: State.WITHDRAWN,
    Paper.LAPSED: State.LAPSED,
}
_ENDINGS = {
    Paper.PAUSED: (State.SUSPENDING, State.SUSPENDED),
    Paper.REVOKED: (State.REVOKING, State.REVOKED),
    Paper.RELINQUISHED: (State.RELINQUISHING, State.RELINQUISHED),
    Paper.EXPIRED: (State.ENDING, State.EXPIRED),
}
_EFFECTS = {Effect.APPLIED: State.ACTIVE, Effect.FAILED: State.ACTIVATION_FAILED}


_MAYBE_HELD = frozenset({Effect.APPLYING, Effect.APPLIED, Effect.REMOVING})


def state_of(standing: Standing, now: datetime) -> State:
    """What the grant is called at this moment."""
    paper = paper_at(standing, now)
    if paper in _CLOSED:
        return _CLOSED[paper]
    if paper in _ENDINGS:
        under_way, done = _ENDINGS[paper]
        return done if standing.effect is Effect.REMOVED else under_way
    if standing.not_before is not None and standing.not_before > now and standing.effect not in _MAYBE_HELD:
        return State.SCHEDULED
    return _EFFECTS.get(standing.effect, State.ACTIVATING)


_UNDER_WAY = frozenset({State.ACTIVATING, *(under_way for under_way, _ in _ENDINGS.values())})
OVERDUE = timedelta(seconds=10)
STUCK = timedelta(seconds=60)


def flags_of(standing: Standing, now: datetime) -> tuple[str, ...]:
    """What somebody should look at: `drifted`, `revocation_overdue`, `revocation_stuck`, `suspension_stuck`.

    Where the owner works by hand nothing of that is for us to do: there is `awaiting_owner` until it says that it has.
    """
    flags = ["drifted"] if standing.drifted else []
    state = state_of(standing, now)
    if standing.by_hand:
        return ("awaiting_owner",) if state in _UNDER_WAY else ()
    if state is State.SUSPENDING and standing.stuck_at is not None:
        flags.append("suspension_stuck")
    if state is State.REVOKING and standing.ended_at is not None:
        if standing.stuck_at is not None or now - standing.ended_at >= STUCK:
            flags.append("revocation_stuck")
        elif now - standing.ended_at >= OVERDUE:
            flags.append("revocation_overdue")
    return tuple(flags)


def refusal(verb: Verb, party: Party, standing: Standing, now: datetime) -> str | None:
    """Why `party` may not do this now, as a sentence, or None when it may."""
    move, paper = MOVES[verb], paper_at(standing, now)
    if party not in move.by:
        return f"Only the {party.other.value} of a grant can {verb.value} it."
    if paper not in move.papers:
        return f"A grant that is {state_of(standing, now).value} cannot be {_PARTICIPLES[verb]}."
    is_open = offer_is_open(standing, now)
    if move.offer is Offered.NONE and is_open:
        return "There is an open offer already; decide or withdraw that one first."
    if move.offer in {Offered.BY_OTHER, Offered.BY_ME} and not is_open:
        return "There is no open offer to decide."
    if move.offer is Offered.BY_OTHER and standing.offer_by is party:
        return f"You made the latest offer: the {party.other.value} has to {verb.value} it."
    if move.offer is Offered.BY_ME and standing.offer_by is not party:
        return "Only the party that made the latest offer can withdraw it."
    if verb is Verb.RESTORE and not standing.drifted:
        return "Nothing to restore: the policy is as agreed."
    return None


_PARTICIPLES = {
    Verb.APPROVE: "approved",
    Verb.COUNTER: "countered",
    Verb.DECLINE: "declined",
    Verb.WITHDRAW: "withdrawn",
    Verb.AMEND: "amended",
    Verb.REVOKE: "revoked",
    Verb.RELINQUISH: "relinquished",
    Verb.RESTORE: "restored",
    Verb.SUSPEND: "suspended",
    Verb.RESUME: "resumed",
    Verb.CONFIRM: "confirmed",
}
