"""Suspending and resuming: as fast and as certain as a revocation, and undone by the owner alone."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.errors import Conflict, NotFound, Refused
from broker.grants import end, negotiate, suspend
from broker.grants.lifecycle import Paper, Party, State
from broker.grants.models import Grant
from broker.grants.suspend import trip
from broker.grants.views import Counter, Reason
from tests.conftest import new_tenant
from tests.grants.conftest import LIFETIME, terms_for
from tests.grants.fake_ses import no_deletes
from tests.grants.test_sync import PACE, Stage, stage

__all__ = ["stage"]  # the fixture


async def told(stage: Stage, caller: Caller, type_: str) -> list[Any]:
    """The data of a party's events of one type."""
    async with stage.db.read(caller) as session:
        rows = await session.execute(text("SELECT data FROM events WHERE type = :type ORDER BY id"), {"type": type_})
        return list(rows.scalars())


async def test_a_suspended_grant_is_gone_and_both_are_told_why(stage: Stage) -> None:
    """Two reads without the Allow, at least the gap apart, as for a revocation."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)

    asked = await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason(note="Too many bounces"))
    done = await stage.until(grant, State.SUSPENDED)

    assert State.SUSPENDING is asked.state
    assert ({}, None, "owner") == (stage.ours(), done.ended_at, done.suspended_by)
    for party in (stage.parties.owner, stage.parties.delegate):
        (data,) = await told(stage, party, "grant.suspended")
        assert ("owner", "Too many bounces") == (data["suspended_by"], data["note"])
        removed, verified = (datetime.fromisoformat(data[name]) for name in ("removed_at", "verified_at"))
        assert verified - removed >= PACE.readback_gap
    receipt = await stage.receipt(grant)
    assert ("owner", State.SUSPENDED) == (receipt.asked_by, receipt.state)


async def test_a_suspension_removes_before_it_reads(stage: Stage) -> None:
    """One call and not two, as for a revocation."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    (name,) = stage.ours()
    stage.ses.calls.clear()

    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()

    (deny,) = stage.denies()
    assert [{("delete", name), ("create", deny)}, ("read", "")] == [set(stage.ses.calls[:2]), stage.ses.calls[2]]


async def test_a_resumed_grant_is_active_under_a_new_version_of_its_policy(stage: Stage) -> None:
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    ((before, document),) = stage.ours().items()
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.SUSPENDED)

    asked = await suspend.resume(stage.db, stage.parties.owner, grant.id, Reason(note="Lists were cleaned"))
    active = await stage.until(grant, State.ACTIVE)

    ((after, same),) = stage.ours().items()
    assert (State.ACTIVATING, None) == (asked.state, active.suspended_by)
    assert (document, True) == (same, before != after)
    (data,) = await told(stage, stage.parties.delegate, "grant.resumed")
    assert "Lists were cleaned" == data["note"]
    assert [grant.id] == [each.id for each in stage.activated]


async def test_a_grant_resumed_before_it_was_seen_to_be_gone_did_not_drift(stage: Stage) -> None:
    """The policy was removed by us, and the run that removed it broke down before it could say so."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())

    def deaf(operation: str, _name: str) -> None:
        if operation == "read":
            raise Refused("No answer.", code="InternalFailure")

    stage.ses.before = deaf
    await stage.sync()
    stage.ses.before = lambda _operation, _name: None
    assert {} == stage.ours()
    await suspend.resume(stage.db, stage.parties.owner, grant.id, Reason())

    active = await stage.until(grant, State.ACTIVE)
    assert () == tuple(active.flags)
    assert 1 == len(stage.ours())


async def test_a_late_apply_cannot_bring_back_what_was_suspended(stage: Stage) -> None:
    grant = await stage.agreed()
    stage.ses.after_create = lambda: suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())

    await stage.sync()

    stage.ses.after_create = None
    await stage.until(grant, State.SUSPENDED)
    assert {} == stage.ours()
    assert [] == stage.activated


async def test_a_suspended_grant_stays_so_while_its_terms_are_amended(stage: Stage) -> None:
    """The new terms come into force when it is resumed."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.SUSPENDED)

    amended = await stage.amended(grant, terms_for(stage.parties, from_addresses=("other@example.com",)))
    await stage.sync()
    assert (State.SUSPENDED, {}) == (amended.state, stage.ours())
    await suspend.resume(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.ACTIVE)

    (document,) = stage.ours().values()
    assert "other@example.com" in document
    assert 1 == len(await told(stage, stage.parties.owner, "grant.suspended"))


async def test_an_offer_that_is_open_stays_open(stage: Stage) -> None:
    """A suspension is not an end."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    offer = await negotiate.amend(
        stage.db,
        stage.parties.owner,
        grant.id,
        Counter(terms=terms_for(stage.parties, days=120)),
        expected=grant.latest_offer,
        lifetime=LIFETIME,
    )

    suspended = await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())

    assert Party.DELEGATE is suspended.awaiting
    assert (
        State.SUSPENDING
        is (await negotiate.approve(stage.db, stage.parties.delegate, grant.id, expected=offer.latest_offer)).state
    )
    await stage.until(grant, State.SUSPENDED)
    assert {} == stage.ours()


async def test_a_suspended_grant_can_be_revoked(stage: Stage) -> None:
    """With reads of its own: the receipt is about the end."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.SUSPENDED)

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.REVOKED)

    receipt = await stage.receipt(grant)
    assert receipt.removed_at is not None
    assert receipt.asked_at is not None
    assert receipt.asked_at <= receipt.removed_at
    with pytest.raises(Conflict, match="revoked cannot be resumed"):
        await suspend.resume(stage.db, stage.parties.owner, grant.id, Reason())


async def test_a_suspended_grant_expires(stage: Stage) -> None:
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.SUSPENDED)
    await stage.come("expires_at", grant)

    await stage.until(grant, State.EXPIRED)

    receipt = await stage.receipt(grant)
    assert receipt.removed_at is not None
    assert receipt.asked_at is not None
    assert receipt.asked_at <= receipt.removed_at
    with pytest.raises(Conflict, match="expired cannot be resumed"):
        await suspend.resume(stage.db, stage.parties.owner, grant.id, Reason())


async def test_only_the_owner_suspends_and_resumes(stage: Stage) -> None:
    """The delegate sees the grant, and a stranger does not."""
    grant = await stage.agreed()
    stranger = await new_tenant(stage.db, "owner")

    for verb in (suspend.suspend, suspend.resume):
        with pytest.raises(Conflict, match="Only the owner"):
            await verb(stage.db, stage.parties.delegate, grant.id, Reason())
        with pytest.raises(NotFound):
            await verb(stage.db, stranger, grant.id, Reason())


async def test_a_suspension_that_aws_refuses_is_stuck_and_never_forgotten(stage: Stage) -> None:
    """Both are told at once, with the command to do it by hand; when it works again it is done."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    (name,) = stage.ours()
    stage.ses.before = no_deletes
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    stuck = await stage.show(grant)
    stage.ses.before = lambda _operation, _name: None
    await stage.until(grant, State.SUSPENDED)

    assert (State.SUSPENDING, ("suspension_stuck",)) == (stuck.state, tuple(stuck.flags))
    (data,) = await told(stage, stage.parties.delegate, "grant.revocation_stuck")
    assert name in data["commands"][0]


async def test_a_stuck_suspension_that_expires_is_told_as_stuck_again(stage: Stage) -> None:
    """It is another removal, and what was said of the first is not said of this one."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    stage.ses.before = no_deletes
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    await stage.come("expires_at", grant)
    await stage.until(grant, State.ENDING)
    await stage.wake()
    await stage.sync()

    assert 2 == len(await told(stage, stage.parties.delegate, "grant.revocation_stuck"))
    stage.ses.before = lambda _operation, _name: None
    await stage.until(grant, State.EXPIRED)


async def test_the_breaker_leaves_alone_what_has_ended_meanwhile(stage: Stage) -> None:
    grant = await stage.agreed()
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    caller = Caller.system(stage.parties.owner.tenant, job="breaker")

    async with stage.db.begin(caller) as session:
        assert [] == list(await trip(session, caller, {grant.id: {"figures": []}}))


async def test_the_breaker_does_not_overwrite_a_revocation_that_came_while_it_counted(stage: Stage) -> None:
    """It has read the grant before, and looks again once nobody else can change it."""
    grant = await stage.agreed()
    caller = Caller.system(stage.parties.owner.tenant, job="breaker")

    async with stage.db.begin(caller) as session:
        read_before = await session.get_one(Grant, grant.id)
        await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
        assert [] == list(await trip(session, caller, {grant.id: {"figures": []}}))

    assert Paper.REVOKED is read_before.paper
    assert State.REVOKING is (await stage.show(grant)).state


async def test_of_an_owner_and_a_breaker_that_suspend_at_once_one_does(stage: Stage) -> None:
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    caller = Caller.system(stage.parties.owner.tenant, job="breaker")

    async def breaker() -> None:
        async with stage.db.begin(caller) as session:
            await trip(session, caller, {grant.id: {"figures": []}})

    async def owner() -> None:
        await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())

    results = await asyncio.gather(breaker(), owner(), return_exceptions=True)

    assert all(result is None or isinstance(result, Conflict) for result in results)
    async with stage.db.read(stage.parties.owner) as session:
        rows = await session.execute(
            text("SELECT count(*) FROM audit WHERE subject_id = :id AND action = 'grant.suspend_requested'"),
            {"id": grant.id},
        )
        assert 1 == rows.scalar_one()
