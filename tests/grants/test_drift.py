"""What somebody changed by hand: told to both parties, once, and shown until it is as agreed again."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import text

from broker.errors import Refused
from broker.grants.lifecycle import State
from broker.grants.views import GrantView
from tests.grants.conftest import terms_for
from tests.grants.fake_ses import throttled
from tests.grants.test_sync import Stage, stage

__all__ = ["stage"]  # a fixture


async def _told(on: Stage, grant: UUID) -> Sequence[tuple[int, int]]:
    """How many events and audit rows of drift each party sees."""
    counts = []
    for party in (on.parties.owner, on.parties.delegate):
        async with on.db.read(party) as session:
            row = await session.execute(
                text(
                    "SELECT (SELECT count(*) FROM events WHERE grant_id = :id AND type = 'grant.drifted'),"
                    " (SELECT count(*) FROM audit WHERE subject_id = :id AND action = 'grant.drifted')"
                ),
                {"id": grant},
            )
            events, audited = row.one()
            counts.append((events, audited))
    return counts


async def _widened(on: Stage) -> GrantView:
    """A grant that was active, until somebody let its delegate send as anybody."""
    grant = await on.agreed()
    await on.until(grant, State.ACTIVE)
    ((name, held),) = on.ours().items()
    on.held[name] = held.replace("newsletter@example.com", "*@example.com")
    return grant


async def test_what_was_widened_is_told_once_and_put_back(stage: Stage) -> None:
    """However often SES is asked until it is as agreed again."""
    grant = await _widened(stage)

    def refuse(operation: str, name: str) -> None:
        if operation == "create":
            throttled(operation, name)

    stage.ses.before = refuse
    for _ in range(3):
        await stage.wake()
        await stage.sync()
    meanwhile = await stage.show(grant)
    stage.ses.before = lambda _operation, _name: None
    await stage.wake()
    restored = await stage.until(grant, State.ACTIVE)

    assert State.ACTIVATING is meanwhile.state
    assert ([(1, 1)] * 2, ()) == (await _told(stage, grant.id), tuple(restored.flags))


async def test_a_widened_policy_that_cannot_be_deleted_is_not_called_active(stage: Stage) -> None:
    """What is agreed is there, and more than that: whoever looks is to see why."""
    grant = await _widened(stage)

    def refuse(operation: str, _name: str) -> None:
        if operation == "delete":
            raise Refused("User is not authorized to perform ses:DeleteEmailIdentityPolicy", code="AccessDenied")

    stage.ses.before = refuse
    await stage.wake()
    await stage.sync()
    stuck = await stage.show(grant)

    assert (2, State.ACTIVATING) == (len(stage.ours()), stuck.state)
    assert stuck.error is not None
    assert "DeleteEmailIdentityPolicy" in stuck.error


async def test_an_older_version_that_a_read_still_shows_is_nobodys_doing(stage: Stage) -> None:
    """Reads are eventually consistent: what we wrote ourselves is never told as drift."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    before = dict(stage.held)
    terms = terms_for(stage.parties)
    await stage.amended(grant, msgspec.structs.replace(terms, from_addresses=("shop@example.com",)))
    await stage.until(grant, State.ACTIVE)

    stage.ses.stale = before
    await stage.wake()
    await stage.sync()
    stage.ses.stale = None
    await stage.wake()
    await stage.until(grant, State.ACTIVE)

    assert [(0, 0)] * 2 == await _told(stage, grant.id)
