"""Who must not be mailed again, as far as each party may see it."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Select, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from broker.caller import Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict, Flaw, Invalid, NotFound
from broker.feedback.keys import comparable, pair_context, recipient_hash
from broker.feedback.recipients import Reason
from broker.feedback.suppressions.models import NIL, SuppressionRow
from broker.feedback.suppressions.views import Addresses, Checked, Checks, Found, SuppressionView
from broker.grants.models import Grant
from broker.grants.present import visible_to
from broker.policies.terms import FeedbackTerms, View

AT_ONCE = 500
MOST_LOOKED_UP = 20_000
_WIDTH = {View.none: 0, View.hashed: 1, View.full: 2}


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which suppressions are wanted; None: all. `since` is when the last event of the reason happened, or later."""

    identity_arn: str | None = None
    grant_id: UUID | None = None
    reason: Reason | None = None
    since: datetime | None = None


def view_of(stored: str, terms: FeedbackTerms | None, *, is_owner: bool) -> View:
    """The narrower of what the terms said when it happened and of what they say now; a delegate sees in full."""
    then = View(stored)
    if terms is None or not is_owner:
        return then
    return min(then, terms.owner_view, key=_WIDTH.__getitem__)


async def list_some(
    db: Database,
    caller: Caller,
    filters: Filters,
    *,
    keyring: Keyring,
    after: UUID | None = None,
    limit: int = AT_ONCE,
) -> Sequence[SuppressionView]:
    """What the caller hears of as owner or delegate, oldest first, up to `limit` after the id `after`."""
    me = caller.tenant
    # Each half is one walk along an ordered index; of own mail, where both are the same, the owner's is the one.
    halves = union_all(
        _half(filters, after, limit).where(SuppressionRow.owner_id == me, SuppressionRow.owner_view.is_not(None)),
        _half(filters, after, limit).where(
            SuppressionRow.delegate_id == me, SuppressionRow.owner_id != me, SuppressionRow.delegate_view.is_not(None)
        ),
    ).subquery()
    row = aliased(SuppressionRow, halves)
    query = select(row, Grant.feedback).outerjoin(Grant, Grant.id == row.grant_id).order_by(row.id).limit(limit)
    async with db.read(caller) as session:
        return [_view(found, feedback, caller, keyring) for found, feedback in await session.execute(query)]


def _half(filters: Filters, after: UUID | None, limit: int) -> Select[SuppressionRow]:
    query = select(SuppressionRow).where(SuppressionRow.active).order_by(SuppressionRow.id).limit(limit)
    if after is not None:
        query = query.where(SuppressionRow.id > after)
    if filters.identity_arn is not None:
        query = query.where(SuppressionRow.identity_arn == filters.identity_arn)
    if filters.grant_id is not None:
        query = query.where(SuppressionRow.grant_id == filters.grant_id)
    if filters.reason is not None:
        query = query.where(SuppressionRow.reason == filters.reason.value)
    if filters.since is not None:
        query = query.where(SuppressionRow.last_at >= filters.since)
    return query


def _view(row: SuppressionRow, feedback: dict[str, Any] | None, caller: Caller, keyring: Keyring) -> SuppressionView:
    is_owner = row.owner_id == caller.tenant
    terms = msgspec.convert(feedback, FeedbackTerms) if feedback is not None else None
    view = view_of((row.owner_view if is_owner else row.delegate_view) or View.none, terms, is_owner=is_owner)
    shows_address = view is View.full and row.address is not None
    return SuppressionView(
        id=row.id,
        recipient=keyring.open(row.address or b"").decode() if shows_address else None,
        recipient_hash=None if view is View.none else row.grant_hash,
        reason=Reason(row.reason),
        guessed=row.guessed,
        identity_arn=row.identity_arn,
        grant_id=row.grant_id,
        since=row.since,
        last_at=row.last_at,
    )


async def all_of(
    db: Database, caller: Caller, filters: Filters, *, keyring: Keyring
) -> AsyncIterator[Sequence[SuppressionView]]:
    """Everything, batch by batch, each read by itself: no transaction stays open while a client reads slowly."""
    after = NIL
    while batch := await list_some(db, caller, filters, keyring=keyring, after=after):
        yield batch
        after = batch[-1].id


# One look-up in the unique index for each pair and address.
_CHECK = text(
    """
    SELECT w.number, s.reason, s.identity_arn, s.grant_id, s.since, s.owner_id, s.owner_view, s.delegate_view,
      g.feedback
    FROM unnest(CAST(:numbers AS integer[]), CAST(:owners AS uuid[]), CAST(:delegates AS uuid[]),
      CAST(:arns AS text[]), CAST(:hashes AS bytea[])) AS w (number, owner_id, delegate_id, arn, hash)
    JOIN suppressions s ON s.owner_id = w.owner_id AND s.delegate_id = w.delegate_id AND s.identity_arn = w.arn
      AND s.recipient_hash = w.hash
    LEFT JOIN grants g ON g.id = s.grant_id
    WHERE s.active ORDER BY w.number, s.id
    """
)
_PAIRS = text(
    """
    SELECT DISTINCT owner_id, delegate_id, identity_arn FROM grants
    WHERE :me IN (owner_id, delegate_id) AND activated_at IS NOT NULL
      AND (CAST(:arn AS text) IS NULL OR identity_arn = :arn)
    UNION SELECT tenant_id, tenant_id, arn FROM identities
    WHERE tenant_id = :me AND (CAST(:arn AS text) IS NULL OR arn = :arn)
    """
)


async def check(db: Database, caller: Caller, wanted: Addresses, *, keyring: Keyring) -> Checks:
    """Which of these addresses are suppressed; what the terms hide from the caller counts as not suppressed.

    Nothing is stored of what was asked. `Invalid` when there are too many identities to look in.
    """
    async with db.read(caller) as session:
        named = {"me": caller.tenant, "arn": wanted.identity_arn}
        pairs = [tuple(row) for row in await session.execute(_PAIRS, named)]
        if len(pairs) * len(wanted.addresses) > MOST_LOOKED_UP:
            raise Invalid(
                "Say on which identity to look for these.",
                flaws=(Flaw("/identity_arn", "Needed: these are too many addresses for all your identities at once."),),
            )
        rows = (await session.execute(_CHECK, _look_ups(pairs, wanted.addresses, keyring))).all()
    found: dict[int, list[Found]] = {number: [] for number in range(len(wanted.addresses))}
    for row in rows:
        if _may_tell(row, caller):
            reason = Found(
                reason=Reason(row.reason), identity_arn=row.identity_arn, grant_id=row.grant_id, since=row.since
            )
            found[row.number].append(reason)
    return Checks(
        results=[
            Checked(address=address, suppressed=bool(found[number]), reasons=found[number])
            for number, address in enumerate(wanted.addresses)
        ]
    )


def _look_ups(pairs: Sequence[tuple[Any, ...]], addresses: Sequence[str], keyring: Keyring) -> dict[str, list[Any]]:
    named: dict[str, list[Any]] = {name: [] for name in ("numbers", "owners", "delegates", "arns", "hashes")}
    for owner_id, delegate_id, arn in pairs:
        key = keyring.derive("recipient-state", pair_context(owner_id, delegate_id, arn))
        for number, address in enumerate(addresses):
            row = (number, owner_id, delegate_id, arn, bytes.fromhex(recipient_hash(key, comparable(address))))
            for column, value in zip(named.values(), row, strict=True):
                column.append(value)
    return named


def _may_tell(row: Any, caller: Caller) -> bool:
    is_owner = row.owner_id == caller.tenant
    stored = row.owner_view if is_owner else row.delegate_view
    terms = msgspec.convert(row.feedback, FeedbackTerms) if row.feedback is not None else None
    return stored is not None and view_of(stored, terms, is_owner=is_owner) is not View.none


async def permit(db: Database, caller: Caller, filters: Filters) -> None:
    """`Conflict` when those of a grant are wanted whose retention is over, as in `export`."""
    if filters.grant_id is None:
        return
    async with db.read(caller) as session:
        grant = await _grant(session, caller, filters.grant_id)
    if grant is not None:
        _refuse_after_retention(grant)


async def export(db: Database, caller: Caller, grant_id: UUID) -> Filters:
    """What `all_of` exports of a grant's complaints, hard bounces and opt-outs, also after its end.

    `NotFound` for a stranger; `Conflict` where the terms show the owner no recipients, or once the retention is over.
    """
    async with db.read(caller) as session:
        grant = await _grant(session, caller, grant_id)
    if grant is None:
        raise NotFound("There is no grant with this id.")
    terms = msgspec.convert(grant.feedback or {}, FeedbackTerms)
    if grant.owner_id == caller.tenant and terms.owner_view is View.none:
        raise Conflict("The agreed terms show you no recipients (feedback.owner_view is none); amend them to export.")
    _refuse_after_retention(grant)
    return Filters(grant_id=grant_id)


async def _grant(session: AsyncSession, caller: Caller, grant_id: UUID) -> Grant | None:
    return await session.scalar(select(Grant).where(Grant.id == grant_id, visible_to(caller)))


def _refuse_after_retention(grant: Grant) -> None:
    days = msgspec.convert(grant.feedback or {}, FeedbackTerms).retention_days
    if grant.ended_at is not None and grant.ended_at < now() - timedelta(days=days):
        raise Conflict(f"The grant ended more than {days} days ago, for which its terms keep feedback.")
