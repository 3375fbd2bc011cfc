"""The due loop of routes: each kind's handler looks at what is set up outside, and what it found is written down."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from broker import due, log
from broker.caller import Caller
from broker.db import Database
from broker.due import Claim, back_off, settle
from broker.errors import Refused, Unavailable
from broker.feedback.findings import write
from broker.feedback.handling import Checked, Handler, Settled, Unfinished
from broker.feedback.kinds import KINDS
from broker.feedback.loading import KIND, Loaded, load
from broker.feedback.views import RouteKind, RouteState
from broker.points import reach
from broker.settings import Settings

LEASE = timedelta(seconds=60)
AT_ONCE = 10
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=1), timedelta(minutes=15)
SOON = timedelta(seconds=1)
STEPS = 4  # as many as are taken one after another before each further one waits twice as long

logger = log.get(__name__)

Handlers = Mapping[RouteKind, Handler]


async def run(db: Database, handlers: Handlers, settings: Settings, *, only: Sequence[UUID] | None = None) -> int:
    """Works on the routes that are due (of those in `only`, if given); returns how many."""

    async def check(claimed: Claim) -> None:
        await _check(db, handlers, settings, claimed)

    return await due.work(db, KIND, check, most=AT_ONCE, lease=LEASE, only=only)


class _Outcome(msgspec.Struct, frozen=True):
    """What came of it, None where nothing is to be written, and when to go on; `failed`: with growing pauses."""

    found: Checked | None = None
    again_in: timedelta | None = None
    failed: bool = False


async def _check(db: Database, handlers: Handlers, settings: Settings, claimed: Claim) -> None:
    loaded = await load(db, claimed)
    reach("routes.loaded")
    outcome = await _outcome(handlers, loaded, every=settings.identity_check_every)
    reach("routes.looked")
    if outcome.failed:
        steps = STEPS if outcome.found is not None and outcome.found.unfinished else 1
        again_in = back_off(max(claimed.attempts + 1 - steps, 1), first=FIRST_RETRY, most=LONGEST_RETRY)
        outcome = msgspec.structs.replace(outcome, again_in=again_in)
    await _settle(db, settings, claimed, loaded, outcome=outcome)
    reach("routes.settled")


async def _outcome(handlers: Handlers, loaded: Loaded, *, every: timedelta) -> _Outcome:
    try:
        found = await _look(handlers, loaded)
    except Settled:
        return _Outcome()
    except Unfinished:
        return _Outcome(again_in=SOON)
    except Unavailable as error:
        logger.warning("route waits", route_id=str(loaded.work.id), reason=error.detail)
        return _Outcome(failed=True)
    except Refused as error:
        return _Outcome(_refused(loaded.work.kind, error), failed=True)
    if found.state is RouteState.removed:
        return _Outcome(found)
    if found.unfinished:
        return _Outcome(found, failed=True)  # a step that says so for ever would spend the account's calls on it
    # What could not be removed is tried again like what failed, until it is.
    usual = spread(loaded.work.id, every)
    return _Outcome(found, min(found.again_in or usual, usual), failed=not loaded.wanted)


def spread(route_id: UUID, every: timedelta) -> timedelta:
    """When to look again: each route at a time of its own within the last quarter of `every`.

    SES takes one call about notifications a second for each account and Region (SES API Reference): routes that were
    made or looked at together would otherwise ask together for ever. What SES asks to wait for all the same is gone on
    with in a later run (`handling.Unfinished`).
    """
    return every - every / 4 * (route_id.int % 1024) / 1024


async def _look(handlers: Handlers, loaded: Loaded) -> Checked:
    """No transaction is open here."""
    work = loaded.work
    handler = handlers.get(work.kind)
    if loaded.state is RouteState.removed:
        raise Settled
    if not loaded.wanted:
        if KINDS[work.kind].inside in loaded.gone:
            return Checked(state=RouteState.removed, reason=_left_behind(KINDS[work.kind].inside))
        return await handler.remove(work) if handler is not None else _unknown(work.kind)
    return await handler.check(work) if handler is not None else _unknown(work.kind)


def _unknown(kind: RouteKind) -> Checked:
    reason = f"This installation of the broker does not set up routes of the kind {kind.value}."
    return Checked(state=RouteState.broken, reason=reason)


def _refused(kind: RouteKind, error: Refused) -> Checked:
    """AWS's own words name roles, topics and identities of the account: they are for its party alone.

    A refusal without a code is a sentence of ours.
    """
    if not error.code:
        return Checked(state=RouteState.broken, reason=error.detail)
    inside = KINDS[kind].inside
    reason = f"AWS refused a call in the {inside}'s account ({error.code}). The {inside} reads in `found` what it said."
    return Checked(state=RouteState.broken, reason=reason, refused=error.detail)


def _left_behind(side: str) -> str:
    return (
        f"The {side}'s connection was removed before the route was, so what is set up in that account was left as it "
        "is; it can be removed there by hand."
    )


async def _settle(db: Database, settings: Settings, claimed: Claim, loaded: Loaded, *, outcome: _Outcome) -> None:
    found, work = outcome.found, loaded.work
    # A tenant's topic can only be written down as that tenant; the route is both parties'.
    is_delegates = found is not None and found.topic is not None and found.topic.tenant_id == work.delegate_id
    caller = Caller.system(work.delegate_id if is_delegates else claimed.tenant_id, job=KIND)
    async with db.begin(caller) as session:
        if found is not None:
            await write(session, caller, loaded, found, quiet_after=settings.route_quiet_after)
            reach("routes.written")
        await settle(session, claimed, again_in=outcome.again_in, failed=outcome.failed)
