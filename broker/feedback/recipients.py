"""What became of each recipient: a state that only moves forward, and why one must not be mailed again."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker.bulk import as_arrays, from_arrays
from broker.crypto import Keyring
from broker.feedback.events import BROKER_TOPIC
from broker.feedback.keys import comparable, pair_context, recipient_hash
from broker.feedback.reckoned import Reckoned
from broker.feedback.suppressions.merging import COLUMNS, MERGED
from broker.feedback.suppressions.models import RecipientRow
from broker.grants.models import Grant
from broker.ids import new_id
from broker.policies.terms import FeedbackKind, FeedbackTerms, View
from broker.tables import Base

Row = Mapping[str, Any]


class RecipientState(StrEnum):
    """In this order: a state is only ever followed by a later one."""

    sent = "sent"
    delivered = "delivered"
    transient_bounce = "transient_bounce"
    permanent_bounce = "permanent_bounce"
    complaint = "complaint"


class Reason(StrEnum):
    """Why a recipient must not be mailed again."""

    complaint = "complaint"
    hard_bounce = "hard_bounce"
    opt_out = "opt_out"


class Standing(msgspec.Struct, frozen=True):
    """A state, and since when: the time of the first event that says so."""

    state: RecipientState
    since: datetime


_WIDTH = {None: 0, View.none: 1, View.hashed: 2, View.full: 3}
_RANK = {state: rank for rank, state in enumerate(RecipientState)}


def advance(standing: Standing | None, seen: Standing) -> Standing:
    """The further of the two; of two that are as far, the earlier. So the order of events changes nothing."""
    if standing is None or _RANK[seen.state] > _RANK[standing.state]:
        return seen
    return min(standing, seen, key=lambda each: (-_RANK[each.state], each.since))


def state_of(event: Reckoned) -> RecipientState | None:
    """What an event says about its recipient's state; None: nothing.

    A complaint of the type `not-spam` is none (RFC 5965, section 7.3: the message was marked as wanted). An
    undetermined bounce counts as transient: SES could not tell (SES Developer Guide, notification-contents, "Bounce
    types"). Who opens or clicks has got the message.
    """
    match event.kind:
        case FeedbackKind.complaint:
            return None if event.feedback_type == "not-spam" else RecipientState.complaint
        case FeedbackKind.bounce:
            return RecipientState.permanent_bounce if event.final else RecipientState.transient_bounce
        case FeedbackKind.delivery | FeedbackKind.open | FeedbackKind.click:
            return RecipientState.delivered
        case FeedbackKind.send | FeedbackKind.delay:
            return RecipientState.sent
        case _:
            return None


def reason_of(event: Reckoned) -> Reason | None:
    """Why the recipient must not be mailed again (or, for an opt-out taken back, may be); None: no reason in this."""
    if event.opted_out is not None:
        return Reason.opt_out
    return {RecipientState.complaint: Reason.complaint, RecipientState.permanent_bounce: Reason.hard_bounce}.get(
        state_of(event) or RecipientState.sent
    )


class _Who(msgspec.Struct, frozen=True, order=True):
    """A row of `recipients` by its unique key."""

    owner_id: UUID
    delegate_id: UUID
    identity_arn: str
    recipient_hash: bytes


_STATE_COLUMNS = (
    "id", "owner_id", "delegate_id", "identity_arn", "recipient_hash", "state", "state_at", "sends", "deliveries",
    "bounces", "complaints", "last_at",
)  # fmt: skip


async def fold(session: AsyncSession, events: Sequence[Reckoned], *, now: datetime, keyring: Keyring) -> None:
    """A `Fold`: adds these events to the states and the suppressions of their recipients; a few statements.

    Those without a recipient, erased ones among them, say nothing about anybody. What nobody heard moves states like
    any other, and is not counted again. Nothing is believed to happen later than now: what is forged to happen last
    would hide all that follows.
    """
    told = [(_who(event, keyring), _by(event, now)) for event in events if event.recipient]
    states: dict[_Who, list[Reckoned]] = {}
    reasons: dict[tuple[bool, _Who, Reason], list[Reckoned]] = {}
    for who, event in told:
        states.setdefault(who, []).append(event)
        if reason := reason_of(event):
            reasons.setdefault((event.source != BROKER_TOPIC, who, reason), []).append(event)
    rows = [row for who in sorted(states) if (row := _state_row(who, states[who]))]
    if rows:
        await session.execute(_STATES, as_arrays(rows, _STATE_COLUMNS))
    terms = await _terms(session, {event.grant_id for of in reasons.values() for event in of if event.grant_id})
    for own in (False, True):
        rows = [_reason_row(*key, reasons[key], terms, keyring) for key in sorted(reasons) if key[0] is own]
        if rows:
            await session.execute(MERGED, as_arrays(rows, COLUMNS))


def _by(event: Reckoned, now: datetime) -> Reckoned:
    return msgspec.structs.replace(event, occurred_at=min(event.occurred_at, now))


def _who(event: Reckoned, keyring: Keyring) -> _Who:
    key = keyring.derive("recipient-state", pair_context(event.owner_id, event.delegate_id, event.identity_arn))
    digest = bytes.fromhex(recipient_hash(key, event.recipient or ""))
    return _Who(event.owner_id, event.delegate_id or event.owner_id, event.identity_arn, digest)


def _state_row(who: _Who, events: Sequence[Reckoned]) -> Row | None:
    standing: Standing | None = None
    for event in events:
        if state := state_of(event):
            standing = advance(standing, Standing(state, event.occurred_at))
    if standing is None:
        return None
    heard = [event for event in events if event.heard]
    kinds = [event.kind for event in heard]
    return {
        "id": new_id(),
        **msgspec.structs.asdict(who),
        "state": standing.state.value,
        "state_at": standing.since,
        "sends": kinds.count(FeedbackKind.send),
        "deliveries": kinds.count(FeedbackKind.delivery),
        "bounces": kinds.count(FeedbackKind.bounce),
        "complaints": sum(state_of(event) is RecipientState.complaint for event in heard),
        "last_at": max(event.occurred_at for event in events),
    }


def _reason_row(
    own: bool,
    who: _Who,
    reason: Reason,
    events: Sequence[Reckoned],
    terms: Mapping[UUID, FeedbackTerms],
    keyring: Keyring,
) -> Row:
    """`own`: of a tenant's own topics. The last event says what is; the grant is the last of those that show most."""
    last = max(events, key=_order)
    views = {event.event_id: views_of(event, terms.get(event.grant_id) if event.grant_id else None) for event in events}
    shown = max(events, key=lambda event: (_WIDTH[views[event.event_id][0]], _order(event)))
    owner_view = views[shown.event_id][0]
    delegate_view = next((delegate for _, delegate in views.values() if delegate), None)
    address = comparable(last.recipient or "").encode()
    made = new_id()
    return {
        "id": made,
        "stamp": made,
        "vouched": not own,
        **msgspec.structs.asdict(who),
        "reason": reason.value,
        "grant_id": shown.grant_id,
        "active": last.opted_out is not False,
        # SES names all who may have complained (SES Developer Guide, notification-contents, "Complained recipients").
        "guessed": reason is Reason.complaint and all(event.recipients > 1 for event in events),
        "owner_view": owner_view,
        "delegate_view": delegate_view,
        "grant_hash": shown.recipient_hash,
        "address": keyring.seal(address) if View.full in (owner_view, delegate_view) else None,
        "since": min(event.occurred_at for event in events),
        "last_at": last.occurred_at,
        "last_event_id": last.event_id,
    }


def _order(event: Reckoned) -> tuple[datetime, UUID]:
    return event.occurred_at, event.event_id


def views_of(event: Reckoned, terms: FeedbackTerms | None) -> tuple[View | None, View | None]:
    """How owner and delegate see the recipient of this event; None: that party does not hear of such events."""
    if terms is None:
        return (View.full, None) if event.grant_id is None else (None, None)
    return (
        terms.owner_view if event.kind in terms.owner_events else None,
        View.full if event.kind in terms.delegate_events else None,
    )


async def _terms(session: AsyncSession, grant_ids: Iterable[UUID]) -> dict[UUID, FeedbackTerms]:
    ids = list(grant_ids)
    if not ids:
        return {}
    rows = await session.execute(select(Grant.id, Grant.feedback).where(Grant.id.in_(ids)))
    return {row.id: msgspec.convert(row.feedback or {}, FeedbackTerms) for row in rows}


def _states() -> Insert:
    """Rows that are there are moved forward and added to, exactly as `advance` says."""
    new = from_arrays(Base.metadata.tables["recipients"], _STATE_COLUMNS)
    said, old = new.excluded, RecipientRow
    further, as_far = _rank(said.state) > _rank(old.state.expression), said.state == old.state
    added = {name: getattr(old, name) + said[name] for name in ("sends", "deliveries", "bounces", "complaints")}
    return new.on_conflict_do_update(
        constraint="recipients_pair_key",
        set_={
            "state": case((further, said.state), else_=old.state),
            "state_at": case(
                (further, said.state_at), (as_far, func.least(old.state_at, said.state_at)), else_=old.state_at
            ),
            "last_at": func.greatest(old.last_at, said.last_at),
            **added,
        },
    )


def _rank(state: ColumnElement[str]) -> ColumnElement[int]:
    return case({each.value: rank for each, rank in _RANK.items()}, value=state)


_STATES = _states()
