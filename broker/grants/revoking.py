"""Taking access back from everybody who fits a filter: which grants, in which order, and by when."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.errors import Flaw, Invalid
from broker.grants.affected import Affected, affected, calls_of, target_of
from broker.grants.end import close
from broker.grants.eta import Calls, Load, Within, schedule
from broker.grants.events import announce_all
from broker.grants.hooks import LastUsed
from broker.grants.lifecycle import ENDED, LIVE, Effect, Outcome, Verb, offer_is_open
from broker.grants.models import Grant, Offer
from broker.grants.moves import Found, database_time, wake_identity, wake_routes
from broker.grants.present import grant_view, names_of, party_of, standing_of, terms_of
from broker.grants.views import Expected, ExpectedThere, Matching, Revoked
from broker.idempotency import remember
from broker.policies.arns import is_account_id, parse_identity_arn, principal_account
from broker.policies.revoke_script import revoke_script


async def revoke_matching(
    db: Database, caller: Caller, wanted: Matching, *, last_used: LastUsed, gap: timedelta
) -> Revoked:
    """Revokes all of the owner's live grants that fit, in one commit; `Invalid` without any filter.

    What was used last goes first: its identity is due first. `gap` is the time between the two reads of a removal.
    """
    filters = _filters(wanted)
    async with db.begin(caller) as session:
        now = await database_time(session)
        grants = await _matching(
            session, caller, wanted, Grant.paper.in_(LIVE), Grant.expires_at > now, *filters, lock=not wanted.dry_run
        )
        used = await last_used(session, [grant.id for grant in grants])
        identities = await affected(session, grants, used, now=now)
        ordered = [grant for each in identities for grant in each.grants]
        offers = await _offers(session, ordered)
        if not wanted.dry_run:
            found = [Found(each, offers[each.id], party_of(each, caller.tenant), now) for each in ordered]
            await _revoke(session, caller, found, note=wanted.note)
            await wake_routes(session, ordered)
            await _wake(session, identities, now=now)
            await announce_all(session, "grant.revocation_requested", ordered, note=wanted.note)
        names = await names_of(session, {party for each in ordered for party in (each.owner_id, each.delegate_id)})
        views = [grant_view(each, offers[each.id], caller, names=names, now=now) for each in ordered]
        calls = {each.identity.id: calls_of(each) for each in identities}
        within = _schedule(identities, calls, gap)
        answer = Revoked(
            dry_run=wanted.dry_run,
            grants=views,
            expected=_expected(identities, used, within),
            accounts=_by_account(identities, calls, within),
        )
        return await remember(session, caller, answer)


async def script_for(db: Database, caller: Caller, wanted: Matching, *, last_used: LastUsed) -> str:
    """What the owner can run itself, for its grants that fit and are live, or have ended and are not known to be gone.

    `Invalid` without any filter.
    """
    filters = _filters(wanted)
    async with db.read(caller) as session:
        now = await database_time(session)
        held = or_(Grant.paper.in_(LIVE), Grant.paper.in_(ENDED) & (Grant.effect != Effect.REMOVED))
        grants = await _matching(session, caller, wanted, held, *filters, lock=False)
        used = await last_used(session, [grant.id for grant in grants])
        identities = await affected(session, grants, used, now=now)
    return revoke_script([target_of(each) for each in identities])


def _filters(wanted: Matching) -> Sequence[ColumnElement[bool]]:
    filters = []
    if wanted.delegate_id is not None:
        filters.append(Grant.delegate_id == wanted.delegate_id)
    # A slip of the pen would revoke nothing, and say 202.
    if wanted.account_id is not None:
        if not is_account_id(wanted.account_id):
            flaw = Flaw("/account_id", "An AWS account id has twelve digits.")
            raise Invalid(f"The account is not valid: {flaw.detail}", flaws=(flaw,))
        filters.append(Grant.accounts.contains([wanted.account_id]))
    if wanted.identity_arn is not None:
        try:
            parse_identity_arn(wanted.identity_arn)
        except ValueError as error:
            raise Invalid(str(error), flaws=(Flaw("/identity_arn", str(error)),)) from error
        filters.append(Grant.identity_arn == wanted.identity_arn)
    if not filters:
        raise Invalid("Give at least one of delegate_id, account_id and identity_arn; nothing is revoked by accident.")
    return filters


async def _matching(
    session: AsyncSession, caller: Caller, wanted: Matching, *filters: ColumnElement[bool], lock: bool
) -> list[Grant]:
    """The owner's grants that fit, locked in one order if asked."""
    query = (
        select(Grant)
        .where(Grant.owner_id == caller.tenant, *filters)
        .order_by(Grant.id)
        .execution_options(populate_existing=True)
    )
    found = await session.scalars(query.with_for_update(key_share=True) if lock else query)
    return [each for each in found if wanted.account_id is None or wanted.account_id in _senders(each)]


def _senders(grant: Grant) -> set[str]:
    """Accounts that may send now; `accounts` also holds those of earlier terms, whose bounces may still come."""
    return {principal_account(principal) for principal in terms_of(grant.terms or {}).principals}


async def _offers(session: AsyncSession, grants: Sequence[Grant]) -> Mapping[UUID, Offer]:
    """The latest offer by its grant. Read after the grants were locked: an offer changes with its grant only."""
    query = select(Offer).where(Offer.id.in_([grant.latest_offer_id for grant in grants]))
    return {offer.grant_id: offer for offer in await session.scalars(query)}


async def _revoke(session: AsyncSession, caller: Caller, found: Sequence[Found], *, note: str | None) -> None:
    for each in found:
        if each.offer.outcome is None and not offer_is_open(standing_of(each.grant, each.offer), each.now):
            each.offer.outcome, each.offer.decided_at = Outcome.LAPSED, each.offer.lapses_at
        close(each, Verb.REVOKE)
        subject, other = ("grant", each.grant.id), each.grant.delegate_id
        await record(session, caller, "grant.revoke_requested", subject=subject, counterpart_id=other, note=note)


async def _wake(session: AsyncSession, identities: Sequence[Affected], *, now: datetime) -> None:
    """All are due now, the first one longest: due rows are claimed in the order of their dates.

    They are locked in the order of their ids, as by everybody who locks several.
    """
    dates = {each.identity.id: now - timedelta(microseconds=n) for n, each in enumerate(reversed(identities))}
    for identity_id in sorted(dates):
        await wake_identity(session, identity_id, at=dates[identity_id])


def _schedule(identities: Sequence[Affected], calls: Mapping[UUID, Calls], gap: timedelta) -> Mapping[UUID, Within]:
    loads = [Load(each.identity.id, _place(each), calls[each.identity.id]) for each in identities if not each.by_hand]
    return schedule(loads, gap=gap)


def _place(each: Affected) -> tuple[str, str]:
    return each.identity.account_id, each.identity.region


def _expected(
    identities: Sequence[Affected], used: Mapping[UUID, datetime], within: Mapping[UUID, Within]
) -> list[Expected]:
    found = []
    for each in identities:
        times = within.get(each.identity.id)
        found += [
            Expected(
                grant_id=grant.id,
                identity_arn=grant.identity_arn,
                last_used_at=used.get(grant.id),
                removed_within_seconds=_seconds(times.removed) if times else None,
                revoked_within_seconds=_seconds(times.revoked) if times else None,
            )
            for grant in each.grants
        ]
    return found


def _by_account(
    identities: Sequence[Affected], calls: Mapping[UUID, Calls], within: Mapping[UUID, Within]
) -> list[ExpectedThere]:
    """One row for each account and Region, in the order in which they are begun."""
    found = []
    for place in dict.fromkeys((*_place(each), each.by_hand) for each in identities):
        there = [each for each in identities if (*_place(each), each.by_hand) == place]
        account_id, region, by_hand = place
        needed = [] if by_hand else [calls[each.identity.id] for each in there]
        found.append(
            ExpectedThere(
                account_id=account_id,
                region=region,
                by_hand=by_hand,
                identities=len(there),
                grants=sum(len(each.grants) for each in there),
                creates=sum(each.creates for each in needed),
                deletes=sum(each.deletes for each in needed),
                reads=sum(each.reads + 1 for each in needed),
                revoked_within_seconds=max(_seconds(within[each.identity.id].revoked) for each in there)
                if needed
                else None,
            )
        )
    return found


def _seconds(time: timedelta) -> int:
    """Whole seconds, never too few."""
    return -(-time // timedelta(seconds=1))
