"""From a bounce in SES to the webhooks of those who agreed to hear of it, and of nobody else."""

import hashlib
import hmac
from typing import Any

import msgspec
import pytest

from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import AGREED, AS_COUNTERED, BOUNCING, CEO, DOMAIN, Mail
from tests.journeys.world import World

BOUNCED = msgspec.structs.replace(AGREED, to=BOUNCING)


async def with_route(world: World, **more: Any) -> str:
    """The id of an active grant whose route is set up."""
    grant_id = await world.activate(**(AS_COUNTERED | more))
    await world.route(grant_id, "configured")
    return grant_id


# Setting up a route under the limit takes SES a quarter of a minute: it begins when the route is there.
@pytest.mark.parametrize(
    ("switches", "later"),
    [
        pytest.param({}, {}, id="usual"),
        pytest.param({"source_key": "SourceOwner"}, {}, id="source_owner"),
        pytest.param({"return_path_key_absent": False}, {}, id="return_path_key_always"),
        pytest.param({"bare_account_as_root": False}, {}, id="bare_account_kept"),
        pytest.param({"stale_reads_seconds": 0.7}, {}, id="stale_reads"),
        pytest.param({}, {"rate_limit_per_second": 1}, id="one_call_a_second"),
    ],
)
async def test_both_parties_hear_of_a_bounce_as_the_terms_say(
    make_world: MakeWorld, speak: Speak, switches: dict[str, Any], later: dict[str, Any]
) -> None:
    speak(**switches)
    world = await make_world()
    grant_id = await with_route(world)
    speak(**later)

    message_id = await world.first.send(world.arn, BOUNCED)
    full = await world.broker.hear(world.first, "email.bounced", message_id=message_id)
    hashed = await world.broker.hear(world.owner, "email.bounced", message_id=message_id)

    told = {
        "grant_id": grant_id,
        "sending_account": world.first.aws.id,
        "source": "broker_topic",
        "identity": world.arn,
    }
    assert {"recipient": BOUNCING, "status": "5.1.1", "final": True, **told}.items() <= full.data.items()
    key = bytes.fromhex((await world.owner.grant(grant_id))["recipient_hash_key"])
    digest = hmac.new(key, BOUNCING.encode(), hashlib.sha256).hexdigest()
    assert {"recipient": None, "recipient_hash": digest, **told}.items() <= hashed.data.items()
    assert (full.id, False) == (hashed.id, BOUNCING in hashed.body)
    await world.route(grant_id, "live")
    assert [] == world.second.inbox.of_grants()
    await world.conserve()


@pytest.mark.parametrize(("view", "shown"), [("full", BOUNCING), ("none", None)])
async def test_the_owner_sees_recipients_as_agreed(make_world: MakeWorld, view: str, shown: str | None) -> None:
    world = await make_world()
    await with_route(world, feedback={"owner_view": view})

    message_id = await world.first.send(world.arn, BOUNCED)
    heard = await world.broker.hear(world.owner, "email.bounced", message_id=message_id)

    assert (shown, view == "full") == (heard.data["recipient"], BOUNCING in heard.body)
    assert (view == "none") == (heard.data["recipient_hash"] is None)


async def test_who_does_not_agree_to_hear_of_bounces_hears_none(make_world: MakeWorld) -> None:
    world = await make_world()
    await with_route(world, feedback={"owner_events": ["complaint"]})

    await world.first.send(world.arn, msgspec.structs.replace(AGREED, to="complaint@simulator.amazonses.com"))
    message_id = await world.first.send(world.arn, BOUNCED)
    await world.broker.hear(world.owner, "email.complained")
    await world.broker.hear(world.first, "email.bounced", message_id=message_id)

    await world.conserve()
    assert [] == [each for each in world.owner.inbox.of_grants() if each.type in {"email.bounced", "email.delivered"}]


async def test_each_recipient_has_an_event_and_the_owners_own_mail_has_none(make_world: MakeWorld) -> None:
    world = await make_world()
    await with_route(world)
    addresses = [f"bounce+{name}@simulator.amazonses.com" for name in ("a", "b")]

    own = await world.owner.call(
        "sesv2",
        "send_email",
        FromEmailAddress=CEO,
        Destination={"ToAddresses": [BOUNCING]},
        Content={"Simple": {"Subject": {"Data": "News"}, "Body": {"Text": {"Data": "Hello."}}}},
    )
    for address in addresses:
        await world.first.send(world.arn, msgspec.structs.replace(AGREED, to=address))
        await world.broker.hear(world.first, "email.bounced", recipient=address)

    await world.conserve()
    assert addresses == [each.data["recipient"] for each in world.first.inbox.of("email.bounced")]
    assert [] == world.owner.inbox.of("email.bounced", message_id=own["MessageId"])


@pytest.mark.parametrize("silent", [pytest.param(True, id="silent"), pytest.param(False, id="heard")])
async def test_a_route_is_live_only_once_this_delegate_was_heard(
    make_world: MakeWorld, speak: Speak, *, silent: bool
) -> None:
    speak(identity_topic_silent_for_delegated=silent)
    world = await make_world()
    grant_id = await with_route(world)

    unheard = await world.first.send(world.arn, BOUNCED)
    world.broker.aws.settle()
    if silent:
        await world.broker.workers.burst()
        assert "configured" == (await world.route(grant_id, "configured", "live"))["state"]
        speak(identity_topic_silent_for_delegated=False)
    heard = await world.first.send(world.arn, BOUNCED)
    await world.broker.hear(world.first, "email.bounced", message_id=heard)

    await world.route(grant_id, "live")
    if not silent:
        await world.broker.hear(world.first, "email.bounced", message_id=unheard)
    await world.conserve()
    assert (1 if silent else 2) == len(world.first.inbox.of("email.bounced"))


@pytest.mark.parametrize("fails", [pytest.param(True, id="fails"), pytest.param(False, id="ignored")])
async def test_a_bounce_is_heard_once_whatever_the_owners_default_configuration_set_does(
    make_world: MakeWorld, speak: Speak, *, fails: bool
) -> None:
    """Where it fails delegated sends, a set of the delegate's own is the way out."""
    speak(default_configuration_set_fails_delegated=fails)
    world = await make_world()
    await world.owner.call("sesv2", "create_configuration_set", ConfigurationSetName="owners")
    await world.owner.call(
        "sesv2",
        "put_email_identity_configuration_set_attributes",
        EmailIdentity=DOMAIN,
        ConfigurationSetName="owners",
    )
    await world.first.call("sesv2", "create_configuration_set", ConfigurationSetName="mine")
    await with_route(world)

    without = await world.first.refusal(world.arn, AGREED)
    message_id = await world.first.send(world.arn, msgspec.structs.replace(BOUNCED, configuration_set="mine"))
    await world.broker.hear(world.first, "email.bounced", message_id=message_id)

    await world.conserve()
    assert ("NotFoundException" if fails else "") == without
    assert 1 == len(world.owner.inbox.of("email.bounced", message_id=message_id))


async def test_the_bounce_of_the_last_mail_is_heard_after_the_revocation(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await with_route(world)
    await world.revoke(grant_id)

    late = world.broker.aws.control(
        "POST",
        "events",
        {
            "account_id": world.owner.aws.id,
            "region": "eu-west-1",
            "identity": DOMAIN,
            "sending_account_id": world.first.aws.id,
            "source": AGREED.address,
            "recipients": [BOUNCING],
            "kind": "bounce",
        },
    )["message_id"]

    await world.broker.hear(world.first, "email.bounced", message_id=late, grant_id=grant_id)
    await world.conserve()


async def test_a_topic_that_the_owner_has_set_is_left_alone_and_listened_to(make_world: MakeWorld) -> None:
    world = await make_world()
    own = world.owner.aws.make_topic("own", publishers=world.owner.aws.id)
    given = {"Identity": DOMAIN, "NotificationType": "Bounce", "SnsTopic": own}
    await world.owner.call("ses", "set_identity_notification_topic", **given)

    grant_id = await world.activate()
    route = await world.route(grant_id, "configured")

    held = await world.owner.call("ses", "get_identity_notification_attributes", Identities=[DOMAIN])
    topics = held["NotificationAttributes"][DOMAIN]
    assert (own, route["topic_arn"]) == (topics["BounceTopic"], topics["ComplaintTopic"])
    assert "owners_topic" == route["found"]["identities"][DOMAIN]["bounce"]
    listening = await world.owner.call("sns", "list_subscriptions_by_topic", TopicArn=own)
    assert [True] == [each["SubscriptionArn"].startswith(own) for each in listening["Subscriptions"]]
    assert own not in str(await world.first.items("/v1/routes", grant_id=grant_id))


async def test_a_topic_that_we_cannot_listen_to_is_explained_and_the_grant_is_active_all_the_same(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    own = world.owner.aws.make_topic("own", publishers=world.owner.aws.id)
    given = {"Identity": DOMAIN, "NotificationType": "Bounce", "SnsTopic": own}
    await world.owner.call("ses", "set_identity_notification_topic", **given)
    encrypted = {"TopicArn": own, "AttributeName": "KmsMasterKeyId", "AttributeValue": "alias/aws/sns"}
    await world.owner.call("sns", "set_topic_attributes", **encrypted)

    grant_id = await world.activate()
    route = await world.route(grant_id, "pending")

    assert "The bounce notifications of example.com go to another topic, which is encrypted" in route["reason"]
    assert own not in str(await world.first.items("/v1/routes", grant_id=grant_id))
    assert "" == await world.first.refusal(world.arn, Mail(return_path=None))


async def test_a_route_is_removed_through_the_api_and_made_again(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate()
    route = await world.route(grant_id, "configured")

    assert 202 == (await world.owner.http.delete(f"/v1/routes/{route['id']}")).status_code
    await world.route(grant_id, "removed")
    held = await world.owner.call("ses", "get_identity_notification_attributes", Identities=[DOMAIN])
    assert not [name for name in held["NotificationAttributes"][DOMAIN] if name.endswith("Topic")]
    await world.owner.post("/v1/routes", {"grant_id": grant_id, "kind": "identity_topic"})
    await world.route(grant_id, "configured")

    message_id = await world.first.send(world.arn, BOUNCED)
    await world.broker.hear(world.first, "email.bounced", message_id=message_id)
