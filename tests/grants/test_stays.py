"""A policy that SES says it has deleted, and shows all the same: after a minute both parties know that it is stuck."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.db import Database
from broker.grants import end, suspend
from broker.grants.lifecycle import State
from broker.grants.outcome import STAYS
from broker.grants.views import GrantView, Reason
from tests.grants.conftest import terms_for
from tests.grants.test_alarms import fates
from tests.grants.test_suspend import told
from tests.grants.test_sync import Stage, stage

__all__ = ["stage"]  # the fixture

STUCK = "grant.revocation_stuck"
Verb = Callable[[Database, Caller, Any, Reason], Awaitable[object]]


async def _age(stage: Stage, grant: GrantView) -> None:
    """A minute goes by."""
    async with stage.db.begin(stage.parties.owner) as session:
        await session.execute(
            text(
                "UPDATE grants SET ended_at = ended_at - interval '60 s', suspended_at = suspended_at - interval '60 s'"
                " WHERE id = :id"
            ),
            {"id": grant.id},
        )


async def _look(stage: Stage) -> None:
    await stage.wake()
    await stage.sync()


@pytest.mark.parametrize(
    ("verb", "under_way", "flag", "done"),
    [
        (end.revoke, State.REVOKING, "revocation_stuck", State.REVOKED),
        (suspend.suspend, State.SUSPENDING, "suspension_stuck", State.SUSPENDED),
    ],
)
async def test_what_stays_for_a_minute_without_a_refusal_is_stuck(
    stage: Stage,
    verb: Verb,
    under_way: State,
    flag: str,
    done: State,
) -> None:
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    (name,) = stage.ours()
    stage.ses.stale = dict(stage.held)
    await verb(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    at_first = await told(stage, stage.parties.owner, STUCK)
    await _age(stage, grant)
    for _ in range(2):
        await _look(stage)

    stuck = await stage.show(grant)
    assert [] == at_first
    assert (under_way, (flag,), STAYS) == (stuck.state, tuple(stuck.flags), stuck.error)
    for party in (stage.parties.owner, stage.parties.delegate):
        (data,) = await told(stage, party, STUCK)
        assert STAYS == data["error"]
    assert name in data["commands"][0]  # as it is stored; the delegate's copy has none (tests/webhooks/test_render.py)
    assert [("owner", None), ("delegate", None)] == await fates(stage)
    stage.ses.stale = None
    ended = await stage.until(grant, done)
    assert ((), None) == (tuple(ended.flags), ended.error)


async def test_what_expires_and_stays_is_stuck_too(stage: Stage) -> None:
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    stage.ses.stale = dict(stage.held)
    await stage.come("expires_at", grant)
    await stage.until(grant, State.ENDING)
    await _look(stage)
    await _age(stage, grant)
    await _look(stage)

    assert 1 == len(await told(stage, stage.parties.delegate, STUCK))


async def test_what_was_suspended_long_ago_is_not_stuck_when_its_window_is_moved(stage: Stage) -> None:
    """Its policy goes until the window begins; nobody has taken it back."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.SUSPENDED)
    await suspend.resume(stage.db, stage.parties.owner, grant.id, Reason())
    active = await stage.until(grant, State.ACTIVE)
    await _age(stage, grant)
    stage.ses.stale = dict(stage.held)
    later = datetime.now(UTC) + timedelta(days=1)
    await stage.amended(active, terms_for(stage.parties, not_before=later, expires_at=later + timedelta(days=1)))
    await _look(stage)

    assert [] == await told(stage, stage.parties.owner, STUCK)


async def test_what_comes_back_for_a_moment_long_after_its_end_raises_no_alarm(stage: Stage) -> None:
    """It is taken away at once, as before; what was read and told stands."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    before = dict(stage.held)
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.REVOKED)
    await _age(stage, grant)
    stage.ses.stale = before
    await _look(stage)

    assert (State.REVOKED, ()) == ((shown := await stage.show(grant)).state, tuple(shown.flags))
    assert [] == await told(stage, stage.parties.owner, STUCK)


async def test_the_audit_that_both_read_holds_no_commands(stage: Stage) -> None:
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    stage.ses.stale = dict(stage.held)
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await _age(stage, grant)
    await stage.sync()

    async with stage.db.read(stage.parties.delegate) as session:
        rows = await session.scalars(text("SELECT details FROM audit WHERE action = :stuck"), {"stuck": STUCK})
        assert [{"error": STAYS}] == list(rows)
