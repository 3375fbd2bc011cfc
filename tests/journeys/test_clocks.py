"""A process whose clock is minutes off: nothing is early, late, lost or refused, for the database's time decides."""

from datetime import UTC, datetime, timedelta

import pytest

from broker import clock
from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BILL, BILLING
from tests.journeys.world import World

OFF = [timedelta(minutes=10), timedelta(minutes=-10)]
IDS = ["fast", "slow"]


def shift(monkeypatch: pytest.MonkeyPatch, off: timedelta) -> None:
    """The one place where the broker reads the wall clock (`tests/test_map.py`)."""
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + off)


@pytest.mark.parametrize("off", OFF, ids=IDS)
async def test_a_grant_lives_and_ends_in_time_whatever_the_clock_says(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    """With a step in the middle of its life, as when a clock is set right.

    The inboxes verify each webhook as customers do, who refuse a timestamp that is five minutes off.
    """
    world = await make_world()
    shift(monkeypatch, off)
    grant_id = await world.activate(world.first, BILLING)
    shift(monkeypatch, -off)
    revoked = await world.revoke(grant_id)

    assert ([], []) == (revoked["flags"], await world.ours())
    assert "AccessDeniedException" == await world.first.refusal(world.arn, BILL)
    await world.conserve()


@pytest.mark.parametrize("off", OFF, ids=IDS)
async def test_a_grant_is_not_ended_before_its_time_nor_long_after_it(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    """Ten minutes fast, it would have ended before it began; ten minutes slow, it would be here for long."""
    world = await make_world()
    shift(monkeypatch, off)
    expires_in = timedelta(seconds=8)  # what comes before the end takes a slow machine a few
    began = datetime.now(UTC)
    grant_id = await world.agree(world.first, BILLING, expires_in=expires_in)
    await still_held(world)
    await world.broker.hear(world.first, "grant.expired", grant_id=grant_id)
    ended = datetime.now(UTC) - began

    assert expires_in - timedelta(seconds=1) < ended < expires_in + timedelta(seconds=60)
    assert [] == await world.ours()


async def still_held(world: World) -> None:
    """SES holds the policy."""

    async def look() -> bool | None:
        return bool(await world.ours()) or None

    await world.broker.workers.until(look)
