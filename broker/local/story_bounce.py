"""Step 5: a bounce becomes webhooks for those who agreed to hear of it, and for nobody else."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from broker.local.customer import Heard, Party
from broker.local.environment import BROKER_ACCOUNT
from broker.local.story_send import AGREED, CEO, Mail, send
from broker.local.telling import Teller, wait_for
from broker.local.world import DOMAIN, World, the_one

BOUNCING = "bounce@simulator.amazonses.com"
FENCE = "bounce+fence@simulator.amazonses.com"


def play(world: World, tell: Teller) -> None:
    """The route, the bounce, who hears what, and who hears nothing."""
    _show_route(world, tell)
    message_id = send(world, world.first.aws, _to(AGREED, BOUNCING))
    tell.note(f"{world.first.name} sends to {BOUNCING}: {message_id}")
    heard = {
        party.name: party.inbox.wait(f"{party.name} hears email.bounced", _bounce(message_id)) for party in _both(world)
    }
    world.event_to_webhook_ms = max(each.delay_ms for each in heard.values())
    tell.claim("Both parties' webhooks get a signed email.bounced", len(heard) == 2)
    _compare_copies(world, tell, heard[world.first.name], heard[world.owner.name])
    _claim_suppressed(world, tell)
    _send_past_them(world, tell, message_id)
    _wait_for_route(world, "live")
    tell.claim("The route is live: an event of this delegate came through it", truth=True)


def _show_route(world: World, tell: Teller) -> None:
    route = _wait_for_route(world, "configured", "live")
    ses = world.owner.aws.client("ses")
    topics = ses.get_identity_notification_attributes(Identities=[DOMAIN])["NotificationAttributes"][DOMAIN]
    tell.claim(
        f"Bounces of {DOMAIN} go to a topic of the broker's account, which confirmed its subscription",
        topics["BounceTopic"] == route["topic_arn"] and f":{BROKER_ACCOUNT}:" in route["topic_arn"],
        (topics, route),
    )


def _wait_for_route(world: World, *states: str) -> Any:
    def look() -> Any:
        route = the_one(world.owner.api.get("/v1/routes", grant_id=world.newsletter)["items"], "route")
        return route if route["state"] in states else None

    return wait_for(f"the feedback route is {' or '.join(states)}", look)


def _compare_copies(world: World, tell: Teller, full: Heard, hashed: Heard) -> None:
    data = full.data
    tell.claim(
        "The delegate's copy has the address, what the mail server said, and that it is final",
        (data["recipient"], data["status"], data["final"]) == (BOUNCING, "5.1.1", True),
        data,
    )
    key = bytes.fromhex(world.owner.grant(world.newsletter)["recipient_hash_key"])
    digest = hmac.new(key, BOUNCING.encode(), hashlib.sha256).hexdigest()
    tell.claim(
        "The owner's copy has its HMAC-SHA-256 under the key of the grant instead",
        (hashed.data["recipient"], hashed.data["recipient_hash"]) == (None, digest),
        hashed.data,
    )
    tell.claim("… and the address nowhere", BOUNCING not in hashed.body, hashed.body)
    tell.claim("… and it is the same event, of the same grant", _what(full) == _what(hashed), (full.data, hashed.data))


def _claim_suppressed(world: World, tell: Teller) -> None:
    """The worker that adds up who must not be mailed again is another process than the one that takes the bounce."""

    def look() -> Any:
        return world.first.api.get("/v1/suppressions", grant_id=world.newsletter)["items"] or None

    listed = wait_for("the bounce is on the suppression list", look)
    tell.claim(
        "The recipient is on the delegate's suppression list",
        [(each["recipient"], each["reason"]) for each in listed] == [(BOUNCING, "hard_bounce")],
        listed,
    )


def _what(heard: Heard) -> tuple[str, str, str]:
    return heard.id, heard.data["grant_id"], heard.data["message_id"]


def _send_past_them(world: World, tell: Teller, message_id: str) -> None:
    """The owner's own bounce comes before a fence; when the fence is heard, so would be what was sent before it."""
    own = send(world, world.owner.aws, Mail(CEO, to=BOUNCING), delegated=False)
    fence = send(world, world.first.aws, _to(AGREED, FENCE))
    for party in _both(world):
        party.inbox.wait(f"{party.name} hears of the fence", _bounce(fence))
    for party in _both(world):
        bounced = [each.data["message_id"] for each in party.inbox.read() if each.type == "email.bounced"]
        tell.claim(
            f"A bounce of the owner's own mail ({own[-12:]}) does not reach {party.name}",
            sorted(bounced) == sorted([message_id, fence]),
            bounced,
        )
    claim_second_heard_nothing(world, tell)


def claim_second_heard_nothing(world: World, tell: Teller) -> None:
    """The second delegate heard of its own grant and of nothing else."""
    foreign = [
        each
        for each in world.second.inbox.read()
        if each.data.get("grant_id", world.billing) != world.billing or each.type == "email.bounced"
    ]
    tell.claim(f"{world.second.name} hears nothing of any of it", not foreign, [each.body for each in foreign])


def _both(world: World) -> tuple[Party, Party]:
    return world.first, world.owner


def _to(mail: Mail, address: str) -> Mail:
    return Mail(mail.address, mail.name, mail.return_path, address)


def _bounce(message_id: str) -> Callable[[Heard], bool]:
    return lambda heard: heard.type == "email.bounced" and heard.data["message_id"] == message_id
