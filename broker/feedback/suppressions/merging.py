"""What becomes of a suppression when more is said of it: one statement for any number of rows."""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, tuple_
from sqlalchemy.dialects.postgresql import Insert

from broker.bulk import from_arrays
from broker.feedback.suppressions.models import SuppressionRow
from broker.policies.terms import View
from broker.tables import Base

_WIDTH = {View.none.value: 1, View.hashed.value: 2, View.full.value: 3}
_OF_THE_LAST = ("active", "last_at", "last_event_id")
_OF_THE_WIDEST = ("grant_id", "owner_view", "grant_hash")


COLUMNS = (
    "id", "stamp", "vouched", "owner_id", "delegate_id", "identity_arn", "recipient_hash", "reason", "grant_id",
    "active", "guessed", "owner_view", "delegate_view", "grant_hash", "address", "since", "last_at", "last_event_id",
)  # fmt: skip


def merged() -> Insert:
    """Of rows that are there, the widest view that a party was given stays, with the grant that gives it.

    Events of a tenant's own topic may be forged: they change nothing of what a topic of the broker's said, but for an
    opt-out. A sure complaint makes a guessed one sure. What may newly be pushed, or was not vouched for before, gets
    the stamp of now.
    """
    new = from_arrays(Base.metadata.tables["suppressions"], COLUMNS)
    said, old = new.excluded, SuppressionRow
    trusted = or_(said.vouched, ~old.vouched)
    order = tuple_(said.vouched, said.last_at, said.last_event_id) > tuple_(old.vouched, old.last_at, old.last_event_id)
    opts_out = and_(said.active, ~old.active, said.last_at > old.last_at)
    moves = and_(trusted, _tells_more(said, order))
    return new.on_conflict_do_update(
        constraint="suppressions_pair_key",
        set_={
            "guessed": case((trusted, and_(old.guessed, said.guessed)), else_=old.guessed),
            "since": case((trusted, func.least(old.since, said.since)), else_=old.since),
            "vouched": or_(old.vouched, said.vouched),
            "delegate_view": case(
                (trusted, func.coalesce(said.delegate_view, old.delegate_view)), else_=old.delegate_view
            ),
            "address": case((trusted, func.coalesce(said.address, old.address)), else_=old.address),
            "stamp": case((_is_new_to_push(said, trusted, or_(order, opts_out)), said.stamp), else_=old.stamp),
            **{name: case((moves, said[name]), else_=getattr(old, name)) for name in _OF_THE_WIDEST},
            **{name: case((or_(order, opts_out), said[name]), else_=getattr(old, name)) for name in _OF_THE_LAST},
        },
    )


def _tells_more(said: Any, later: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the owner sees more by what is said now; the later grant where it sees as much."""
    wide, before = _width(said.owner_view), _width(SuppressionRow.owner_view)
    return or_(wide > before, and_(wide == before, later))


def _is_new_to_push(said: Any, trusted: ColumnElement[bool], later: ColumnElement[bool]) -> ColumnElement[bool]:
    old = SuppressionRow
    return or_(
        and_(trusted, old.guessed, ~said.guessed),
        and_(said.vouched, ~old.vouched),
        and_(trusted, old.delegate_view.is_(None), said.delegate_view.is_not(None)),
        and_(later, ~old.active, said.active),
    )


def _width(view: Any) -> ColumnElement[int]:
    """A party that does not hear of it sees least."""
    return case(_WIDTH, value=view, else_=0)


MERGED = merged()
