"""From bounces in SES to a suspended policy, and back: by the breaker, the owner's word and nobody else."""

from typing import Any

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import AGREED, AS_COUNTERED, DOMAIN
from tests.journeys.test_bounce import with_route
from tests.journeys.world import World

REFUSED = "AccessDeniedException"


def publish(world: World, kind: str, number: int, **more: Any) -> None:
    """SES publishes feedback of one mail to so many recipients."""
    given = {
        "account_id": world.owner.aws.id,
        "region": "eu-west-1",
        "identity": DOMAIN,
        "sending_account_id": world.first.aws.id,
        "source": AGREED.address,
        "recipients": [f"{kind}-{each}@example.org" for each in range(number)],
        "kind": kind,
    }
    world.broker.aws.control("POST", "events", given | more)


async def breaker(world: World, grant_id: str, *states: str) -> Any:
    """The breaker once it says one of these."""

    async def look() -> Any:
        found = (await world.first.get(f"/v1/grants/{grant_id}/usage"))["breaker"]
        return found if found["state"] in states else None

    return await world.broker.workers.until(look)


async def test_a_few_hundred_bounces_suspend_the_grant_and_the_owner_resumes_it(make_world: MakeWorld) -> None:
    """By the defaults. Both are warned, both hear why, and what was before the resumption counts no more."""
    world = await make_world()
    grant_id = await with_route(world)
    assert "unmeasured" == (await breaker(world, grant_id, "unmeasured"))["state"]

    publish(world, "delivery", 850)
    publish(world, "bounce", 20)
    warned = await breaker(world, grant_id, "warned")
    publish(world, "bounce", 250, recipients=[f"late-{each}@example.org" for each in range(250)])
    suspended = await world.reach_state(grant_id, "suspended")

    assert (20, 870) == (warned["figures"][0]["count"], warned["figures"][0]["of"])
    assert "breaker" == suspended["suspended_by"]
    assert REFUSED == await world.first.refusal(world.arn, AGREED)
    assert [] == await world.ours()
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.limit_warned", grant_id=grant_id)
        told = await world.broker.hear(party, "grant.suspended", grant_id=grant_id, suspended_by="breaker")
        (figure,) = told.data["figures"]
        assert ("bounces", 270, 1120, 0.05, 24) == (
            figure["name"], figure["count"], figure["of"], figure["suspend_at"], figure["window_hours"]
        )  # fmt: skip
    assert "tripped" == (await breaker(world, grant_id, "tripped"))["state"]
    assert "breaker" == (await world.owner.get(f"/v1/grants/{grant_id}/receipt"))["asked_by"]
    assert 409 == (await world.first.try_post(f"/v1/grants/{grant_id}/resume")).status

    await world.owner.post(f"/v1/grants/{grant_id}/resume", {"note": "Lists were cleaned"})
    await world.reach_state(grant_id, "active")
    assert "" == await world.first.refusal(world.arn, AGREED)
    await world.broker.hear(world.first, "grant.resumed", note="Lists were cleaned")
    assert 1 == (await breaker(world, grant_id, "ok"))["figures"][0]["of"]  # the mail of just now
    assert 1 == len(world.first.inbox.of("grant.limit_warned"))
    assert 1 == len(world.first.inbox.of("grant.suspended"))


async def test_agreed_limits_trip_sooner(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await with_route(world, limits={"minimum_sends": 10, "bounce_rate": 0.2})

    publish(world, "delivery", 8)
    publish(world, "bounce", 2)

    await world.reach_state(grant_id, "suspended")
    assert [] == await world.ours()
    usage = await world.first.get(f"/v1/grants/{grant_id}/usage")
    assert {"email.delivered": 8, "email.bounced": 2, "bounced.hard": 2} == usage["days"][-1]["counts"]


async def test_an_owner_suspends_by_hand(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate(**AS_COUNTERED)

    await world.owner.post(f"/v1/grants/{grant_id}/suspend", {"note": "Please explain"})
    await world.reach_state(grant_id, "suspended")

    assert REFUSED == await world.first.refusal(world.arn, AGREED)
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.suspended", suspended_by="owner", note="Please explain")
    assert "off" == (await breaker(world, grant_id, "off"))["state"]
    await world.conserve()
