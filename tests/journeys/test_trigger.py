"""`broker trigger` through the whole path: SES's record, SNS's signature, ingest, attribution, feed and webhooks."""

import asyncio
from typing import Any

import pytest

from broker.local import trigger_watch
from broker.local.child import StartError
from broker.local.trigger import Options, Report, run
from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import BILLING, Party
from tests.journeys.test_bounce import with_route
from tests.journeys.workers import PATIENCE
from tests.journeys.world import BROKER_ACCOUNT, World
from tests.sandbox.aws import Keys

EVERYTHING = [
    "bounce", "complaint", "delivery", "send", "reject", "delay", "open", "click", "rendering_failure", "subscription",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the first attempts of deliveries somebody at a terminal would wait less long."""
    monkeypatch.setattr(trigger_watch, "DELIVERY_S", PATIENCE)


async def trigger(world: World, party: Party, *stories: str, **more: Any) -> Report:
    """What came of it, with the workers at work meanwhile."""
    options = Options(
        api_url=world.broker.parts.settings.public_url,
        key=party.http.headers["authorization"].removeprefix("Bearer "),
        aws_url=world.broker.aws.url,
        stories=stories,
        **{"patience_s": PATIENCE, **more},
    )
    telling = asyncio.create_task(asyncio.to_thread(run, options))

    async def look() -> bool | None:
        return telling.done() or None

    await world.broker.workers.until(look, seconds=3 * PATIENCE)
    return telling.result()


@pytest.mark.parametrize(
    ("story", "types"),
    [
        ("email.bounced", ["email.bounced"]),
        ("soft-bounce", ["email.bounced"]),
        ("complaint-after-delivery", ["email.delivered", "email.complained"]),
        ("out-of-order", ["email.complained", "email.delivered"]),
        ("duplicate", ["email.bounced"]),
        ("both-paths", ["email.bounced"]),
        ("multi-recipient", ["email.bounced"] * 3),
    ],
)
async def test_a_story_becomes_events_and_webhooks(make_world: MakeWorld, story: str, types: list[str]) -> None:
    world = await make_world()
    grant_id = await with_route(world)

    report = await trigger(world, world.first, story)

    assert (True, grant_id, types) == (report.ok, report.grant_id, [each.type for each in report.events])
    assert [["delivered"]] * len(types) == [[one.state for one in each.deliveries or ()] for each in report.events]
    heard = [each for each in world.first.inbox.of_grants() if each.type.startswith("email.")]
    assert sorted(each.id for each in report.events) == sorted(each.id for each in heard)
    await world.route(grant_id, "live")
    await world.conserve()


async def test_a_soft_bounce_is_not_final_and_names_the_mail(make_world: MakeWorld) -> None:
    world = await make_world()
    await with_route(world)

    [came] = (await trigger(world, world.first, "soft-bounce", recipients=["bob@customer.example"])).events

    [heard] = world.first.inbox.of("email.bounced")
    told = {"final": False, "bounce_sub_type": "MailboxFull", "recipient": "bob@customer.example"}
    assert told.items() <= heard.data.items()
    assert (came.message_id, "newsletter@example.com") == (heard.data["message_id"], heard.data["from"])


async def test_the_kinds_of_event_publishing_stand_in_where_the_terms_give_them(make_world: MakeWorld) -> None:
    world = await make_world()
    await with_route(world, feedback={"delegate_events": EVERYTHING})
    stories = ["sent", "rejected", "delayed", "opened", "clicked", "rendering_failed", "subscription_changed"]

    report = await trigger(world, world.first, *(f"email.{name}" for name in stories))

    assert report.ok
    assert [f"email.{name}" for name in stories] == [each.type for each in report.events]
    assert "only through a configuration set" in report.notes[0]


async def test_a_burst_comes_whole(make_world: MakeWorld) -> None:
    world = await make_world()
    await with_route(world)

    report = await trigger(world, world.owner, "burst", count=40)

    assert (True, 40) == (report.ok, len(report.events))
    assert all(each.recipient is None and each.recipient_hash for each in report.events)
    await world.conserve()


async def test_what_a_party_does_not_hear_of_is_said_before(make_world: MakeWorld) -> None:
    world = await make_world()
    await with_route(world, feedback={"owner_events": ["complaint"]})

    with pytest.raises(StartError, match=r"do not hear of: bounce\. Its feedback\.owner_events are: complaint"):
        await trigger(world, world.owner, "email.bounced")


async def test_of_several_grants_one_has_to_be_named(make_world: MakeWorld) -> None:
    world = await make_world()
    first = await with_route(world)
    second = await world.activate(world.second, BILLING)
    await world.route(second, "configured")

    with pytest.raises(StartError, match="Several of your grants are active") as raised:
        await trigger(world, world.owner, "email.bounced")
    report = await trigger(world, world.owner, "email.bounced", grant=second)

    assert first in str(raised.value)
    assert (True, second) == (report.ok, report.grant_id)
    assert [] == world.first.inbox.of("email.bounced")


async def test_without_an_active_grant_there_is_nothing_to_trigger(make_world: MakeWorld) -> None:
    world = await make_world()
    proposed = await world.first.post(
        "/v1/grants", {"identity_arn": world.arn, "terms": {"principals": [world.first.aws.id], **SENDING}}
    )

    with pytest.raises(StartError, match="None of your grants is active"):
        await trigger(world, world.first, "email.bounced")
    with pytest.raises(StartError, match="was never active"):
        await trigger(world, world.first, "email.bounced", grant=proposed["id"])
    with pytest.raises(StartError, match="You have no grant"):
        await trigger(world, world.second, "email.bounced", grant=proposed["id"])


SENDING = {"actions": ["send"], "from_addresses": ["newsletter@example.com"], "expires_at": "2099-01-01T00:00:00Z"}


async def test_a_topic_that_hears_nothing_is_said(make_world: MakeWorld, speak: Speak) -> None:
    world = await make_world()
    await with_route(world)
    speak(identity_topic_silent_for_delegated=True)

    with pytest.raises(StartError, match="told nobody of this bounce"):
        await trigger(world, world.first, "email.bounced")


async def test_what_does_not_arrive_is_reported(make_world: MakeWorld) -> None:
    world = await make_world()
    route = await world.route(await with_route(world), "configured")
    keys = world.broker.aws.control("POST", "accounts", {"account_id": BROKER_ACCOUNT})
    sns = world.broker.aws.client("sns", Keys(keys["access_key_id"], keys["secret_access_key"]))
    owned = await asyncio.to_thread(sns.list_subscriptions_by_topic, TopicArn=route["topic_arn"])
    for subscription in owned["Subscriptions"]:
        nothing = {"AttributeName": "FilterPolicy", "AttributeValue": '{"kind": ["none"]}'}
        arn = subscription["SubscriptionArn"]
        await asyncio.to_thread(sns.set_subscription_attributes, SubscriptionArn=arn, **nothing)

    report = await trigger(world, world.first, "email.bounced", patience_s=0.5)

    assert (False, []) == (report.ok, report.events)
    assert [("email.bounced", 1)] == [(each.type, each.count) for each in report.missing]
