"""Old cross-account notifications move to a configuration set: both are there until the new way is proven."""

import asyncio
import json
import shlex
from typing import Any

import pytest

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BOUNCING, Party
from tests.journeys.world import World, template


async def attached(world: World, topic: str) -> str:
    """The path of a route that has found what the delegate set years ago."""
    body = {"account_id": world.first.aws.id, "identity_arn": world.arn, "topics": {"Bounce": topic}}
    await asyncio.to_thread(world.broker.aws.control, "POST", "legacy", body)
    (grant,) = await world.first.items("/v1/grants")
    made = await world.first.post("/v1/routes", {"grant_id": grant["id"], "kind": "legacy"})
    path = f"/v1/routes/{made['id']}"
    await world.broker.reach(world.first, path, "configured")
    return path


async def old_topic(world: World) -> str | None:
    """As SES shows it to the delegate."""
    found = await world.first.call("ses", "get_identity_notification_attributes", Identities=[world.arn])
    topic: str | None = found["NotificationAttributes"].get(world.arn, {}).get("BounceTopic")
    return topic


async def take_away_the_right_to_test(party: Party) -> None:
    """It is optional: a delegate may leave the statement out."""
    (connection,) = await party.items("/v1/connections")
    _, text = await template(party, connection["id"])
    policy = json.loads(text)
    policy["Statement"] = [each for each in policy["Statement"] if "ses:SendEmail" not in each["Action"]]
    given = {"RoleName": connection["role_arn"].rpartition("/")[2], "PolicyName": "broker"}
    await party.call("iam", "put_role_policy", **given, PolicyDocument=json.dumps(policy))


async def run_line(party: Party, command: str) -> None:
    """What AWS CLI would do with the line."""
    words = shlex.split(command)[3:]
    given = dict(zip(words[::2], words[1::2], strict=True))
    await party.call(
        "sesv2",
        "send_email",
        FromEmailAddress=given["--from-email-address"],
        FromEmailAddressIdentityArn=given["--from-email-address-identity-arn"],
        Destination={"ToAddresses": [given["--destination"].removeprefix("ToAddresses=")]},
        Content=json.loads(given["--content"]),
        ConfigurationSetName=given["--configuration-set-name"],
    )


@pytest.mark.parametrize("may_test", [pytest.param(True, id="we_test"), pytest.param(False, id="they_test")])
async def test_nothing_is_lost_nothing_comes_twice_and_it_ends_by_itself(
    make_world: MakeWorld, *, may_test: bool
) -> None:
    world = await make_world(delegates_role=True)
    if not may_test:
        await take_away_the_right_to_test(world.first)
    grant_id = await world.activate()
    await world.route(grant_id, "configured")
    topic = world.first.aws.make_topic("old", publishers=world.first.aws.id)
    queue = world.first.aws.make_queue("old", topic)
    path = await attached(world, topic)

    migrating = await world.first.post(f"{path}/migrate", {"to": "configuration_set"})
    if not may_test:
        await waiting_for_bounce(world, path)
        assert topic == await old_topic(world)
        assert [] == world.first.inbox.of("email.bounced")
        await run_line(world.first, migrating["command"])
    done = await world.broker.reach(world.first, path, "removed")
    bounced = await world.broker.hear(world.first, "email.bounced", recipient=BOUNCING)
    await world.conserve()

    assert "done" == done["found"]["migration"]["state"]
    assert None is await old_topic(world)
    assert [bounced.id] == [each.id for each in world.first.inbox.of("email.bounced")]
    assert [bounced.id] == [each.id for each in world.owner.inbox.of("email.bounced")]
    assert ["Bounce"] == [each["notificationType"] for each in queue.feedback()]
    await world.broker.reach(world.first, f"/v1/routes/{migrating['new_route']['id']}", "live")


async def waiting_for_bounce(world: World, path: str) -> None:
    """The new way is set up, and was looked at more than once since."""

    async def look() -> Any:
        told = (await world.first.get(path))["found"].get("migration", {})
        return told if told.get("state") == "waiting_for_bounce" and told["looks"] > 1 else None

    await world.broker.workers.until(look)
