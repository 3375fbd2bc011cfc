"""What is not as it should be gets a problem that says so, and changes nothing."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BILLING, BOUNCING, DOMAIN, NEWSLETTER
from tests.journeys.world import BROKER_ACCOUNT, Broker, World, terms
from tests.sandbox.aws import REGION

TOKEN = "canary-token-2336412f37"


def notification(topic_arn: str, message: object, **more: str) -> dict[str, str]:
    """The fields that SNS signs."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": topic_arn,
        "Message": json.dumps(message),
        "Timestamp": "2026-01-05T12:00:00.000Z",
        **more,
    }


def bounce(world: World) -> dict[str, Any]:
    """A bounce of the first delegate's, as SES tells it."""
    return {
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [{"emailAddress": BOUNCING}],
            "timestamp": World.in_future(timedelta()),
            "feedbackId": "1",
        },
        "mail": {
            "timestamp": World.in_future(timedelta()),
            "source": NEWSLETTER,
            "sourceArn": world.arn,
            "sendingAccountId": world.first.aws.id,
            "messageId": "forged",
            "destination": [BOUNCING],
        },
    }


def signed(broker: Broker, fields: dict[str, str]) -> dict[str, str]:
    """The fields with the signature of the local AWS's SNS."""
    made = broker.aws.cloud.courier.sign(fields, region=REGION, version="2")
    return {name: str(value) for name, value in made.items()}


async def post(broker: Broker, body: object, *, kind: str = "Notification") -> httpx.Response:
    """What SNS would send."""
    headers = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": kind}
    async with broker.client() as sns:
        text = body if isinstance(body, str) else json.dumps(body)
        return await sns.post("/v1/feedback/sns", content=text, headers=headers)


def altered(message: dict[str, str]) -> dict[str, str]:
    """The same signature under another text."""
    return message | {"Message": message["Message"].replace("General", "Suppressed")}


def unsigned(message: dict[str, str]) -> dict[str, str]:
    """A signature that is none."""
    return message | {"Signature": "bm9uZQ=="}


def elsewhere(message: dict[str, str]) -> dict[str, str]:
    """A certificate of somebody else's."""
    return message | {
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com.example.org/SimpleNotificationService-1.pem"
    }


@pytest.mark.parametrize("change", [altered, unsigned, elsewhere])
async def test_a_message_that_sns_did_not_sign_is_refused(
    make_world: MakeWorld, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    route = await world.route(grant_id, "configured")
    message = signed(world.broker, notification(route["topic_arn"], bounce(world)))

    answer = await post(world.broker, change(message))

    assert (403, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    await world.conserve()
    assert [] == world.first.inbox.of("email.bounced")
    assert "configured" == (await world.route(grant_id, "configured", "live"))["state"]


async def test_the_same_message_is_taken_when_sns_signed_it(make_world: MakeWorld) -> None:
    """The refusals above are for the signature and for nothing else; and twice is once."""
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    route = await world.route(grant_id, "configured")
    now = World.in_future(timedelta()).replace("+00:00", ".000Z")
    message = signed(world.broker, notification(route["topic_arn"], bounce(world), Timestamp=now))

    answers = [(await post(world.broker, message)).status_code for _ in range(2)]
    await world.broker.hear(world.first, "email.bounced", message_id="forged")

    await world.conserve()
    assert ([200, 200], 1) == (answers, len(world.first.inbox.of("email.bounced")))


async def test_mail_of_another_owner_s_identity_is_not_believed(make_world: MakeWorld) -> None:
    """An owner's topic speaks for that owner's identities only."""
    world, other = await make_world(), await make_world()
    await world.activate(world.first, BILLING)
    theirs = await other.activate(other.first, BILLING)
    route = await other.route(theirs, "configured")
    now = World.in_future(timedelta()).replace("+00:00", ".000Z")
    message = signed(world.broker, notification(route["topic_arn"], bounce(world), Timestamp=now))

    answer = await post(world.broker, message)

    assert 200 == answer.status_code
    for each in (world, other):
        await each.conserve()
        assert [] == each.first.inbox.of("email.bounced") + each.owner.inbox.of("email.bounced")


async def test_a_topic_of_no_route_is_unknown(broker_here: Broker) -> None:
    topic = f"arn:aws:sns:{REGION}:{BROKER_ACCOUNT}:somebody-else"

    answer = await post(broker_here, signed(broker_here, notification(topic, {})))

    assert (404, "This topic belongs to no route.") == (answer.status_code, answer.json()["detail"])


async def test_a_confirmation_that_nobody_waits_for_is_refused(make_world: MakeWorld) -> None:
    world = await make_world()
    route = await world.route(await world.activate(world.first, BILLING), "configured")
    url = f"{world.broker.aws.url}/?Action=ConfirmSubscription&TopicArn={route['topic_arn']}&Token={TOKEN}"
    fields = notification(route["topic_arn"], "", Type="SubscriptionConfirmation", Token=TOKEN, SubscribeURL=url)

    answer = await post(world.broker, signed(world.broker, fields), kind="SubscriptionConfirmation")

    assert (409, False) == (answer.status_code, TOKEN in answer.text)


@pytest.mark.parametrize(("body", "status"), [("not json", 400), ("[]", 400), ("x" * 1_100_000, 413)])
async def test_what_is_no_message_of_sns_is_refused(broker_here: Broker, body: str, status: int) -> None:
    answer = await post(broker_here, body)

    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


BAD_PROPOSALS = {
    "an unknown field": (422, "", {"colour": "red"}, {}),
    "a bad ARN": (422, "/identity_arn", {"identity_arn": "arn:aws:ses:eu-west-1:1:identity/x"}, {}),
    "an address of another domain": (422, "/terms/from_addresses/0", {}, {"from_addresses": ["a@example.net"]}),
    "no principal": (422, "/terms/principals", {}, {"principals": []}),
    "a window that is over": (422, "/terms/expires_at", {}, {"expires_at": "2020-01-01T00:00:00Z"}),
    "an unknown way of sending": (422, "", {}, {"actions": ["fax"]}),
}


async def test_bad_proposals_are_refused_with_the_field_and_leave_nothing(make_world: MakeWorld) -> None:
    world = await make_world()
    good: dict[str, Any] = {"identity_arn": world.arn, "terms": terms(world.first.aws.id, NEWSLETTER)}

    answers = {}
    for what, (_, pointer, body, changed) in BAD_PROPOSALS.items():
        wanted = good | {"terms": good["terms"] | changed} | body
        answer = await world.first.try_post("/v1/grants", wanted)
        answers[what] = (answer.status, pointer in json.dumps(answer.body), bool(answer.body["detail"]))

    assert {what: (status, True, True) for what, (status, *_) in BAD_PROPOSALS.items()} == answers
    assert [] == await world.first.items("/v1/grants")


async def test_decisions_need_the_right_offer_party_and_state(make_world: MakeWorld) -> None:
    world = await make_world()
    wanted = {"identity_arn": world.arn, "terms": terms(world.first.aws.id, NEWSLETTER)}
    grant = await world.first.post("/v1/grants", wanted)
    path = f"/v1/grants/{grant['id']}"

    answers = {
        "without If-Match": await world.owner.try_post(f"{path}/approve"),
        "with a star": await world.owner.try_post(f"{path}/approve", etag="*"),
        "of another offer": await world.owner.try_post(f"{path}/approve", etag=f'"{grant["id"]}"'),
        "by its maker": await world.first.try_post(f"{path}/approve", etag=grant["etag"]),
        "by a stranger": await world.second.try_post(f"{path}/approve", etag=grant["etag"]),
        "before it is agreed": await world.owner.try_post(f"{path}/revoke"),
    }

    expected = [428, 412, 412, 409, 404, 409]
    assert dict(zip(answers, expected, strict=True)) == {way: answer.status for way, answer in answers.items()}
    after = await world.first.grant(grant["id"])
    assert ("proposed", grant["etag"], None) == (after["state"], after["etag"], after["terms"])
    assert DOMAIN not in str(answers["by a stranger"].body)
