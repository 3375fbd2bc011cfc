"""Whom a grant let in by each of the terms that were agreed for it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from broker.grants.lifecycle import Outcome
from broker.grants.models import Grant, Offer

Agreed = Sequence[tuple[Sequence[str], datetime]]
"""The principals of a grant's approved offers and when each was agreed, the last one first."""


def agreed() -> ScalarSelect[list[tuple[list[str], str]] | None]:
    """For a query over grants: what `history_of` makes an `Agreed` of."""
    each = func.jsonb_build_array(Offer.terms["principals"], Offer.decided_at)
    return (
        select(func.jsonb_agg(aggregate_order_by(each, Offer.number.desc())))
        .where(Offer.grant_id == Grant.id, Offer.outcome == Outcome.APPROVED)
        .correlate(Grant)
        .scalar_subquery()
    )


def history_of(found: Sequence[tuple[Sequence[str], str]] | None) -> Agreed:
    """The approved offers that a query found."""
    return [(principals, datetime.fromisoformat(at)) for principals, at in found or ()]
