"""Steps 2 and 3: the terms are negotiated, and workers bring the policies about."""

import json
from typing import Any

from broker.local.customer import Heard, Party
from broker.local.telling import Teller
from broker.local.world import DOMAIN, FIRST_ACCOUNT, PAYROLL, SECOND_ACCOUNT, World, terms

NEWSLETTER, BILLING, BOUNCES = f"newsletter@{DOMAIN}", f"billing@{DOMAIN}", f"bounces@{DOMAIN}"
SHOWN_AS = "Example News"
ACCOUNTS = (FIRST_ACCOUNT, SECOND_ACCOUNT)


def negotiate(world: World, tell: Teller) -> None:
    """Propose, counter, a stale approval, approve; and a second grant."""
    first, second = world.first, world.second
    proposed = first.api.post(
        "/v1/grants",
        {"identity_arn": world.identity_arn, "terms": terms(FIRST_ACCOUNT, NEWSLETTER, days=90), "note": "Our offer"},
    )
    world.newsletter = proposed["id"]
    tell.claim(
        f"{first.name} proposes {NEWSLETTER}, send and send_raw, for 90 days",
        proposed["state"] == "proposed" and proposed["awaiting"] == "owner",
        proposed,
    )
    _counter(world, tell)
    status, detail = first.api.refused(f"/v1/grants/{world.newsletter}/approve", etag=proposed["etag"])
    tell.claim(f"Approving the old version is refused with {status}: {detail}", status == 412, status)
    offers = first.api.get(f"/v1/grants/{world.newsletter}/offers")["items"]
    tell.claim(
        f"{first.name} is shown what is new: {changes_of(offers[-1])}",
        offers[-1]["effect"] == "narrows" and "60 days earlier" in changes_of(offers[-1]),
        offers[-1]["changes"],
    )
    approved = first.api.post(f"/v1/grants/{world.newsletter}/approve", etag=offers[-1]["etag"])
    tell.claim(
        f"{first.name} approves what it was shown",
        approved["open_offer"] is None and approved["terms"] == offers[-1]["terms"],
        approved,
    )
    _agree_on_billing(world, tell)
    path = f"/v1/grants/{world.newsletter}"
    tell.claim(
        f"For {second.name} and {world.stranger.name} the first grant does not exist (404)",
        (second.api.status(path), world.stranger.api.status(path)) == (404, 404),
    )


def changes_of(offer: dict[str, Any]) -> str:
    """What an offer changes beside the one before it, as its reader is told."""
    return "; ".join(f"{each['text']} ({each['effect']})" for each in offer["changes"])


def _counter(world: World, tell: Teller) -> None:
    seen = world.owner.grant(world.newsletter)
    wanted = terms(
        FIRST_ACCOUNT,
        NEWSLETTER,
        days=30,
        from_display_names=[SHOWN_AS],
        feedback_addresses=[BOUNCES],
        feedback={"owner_view": "hashed"},
    )
    countered = world.owner.api.post(
        f"/v1/grants/{world.newsletter}/counter", {"terms": wanted, "note": "Shorter"}, etag=seen["etag"]
    )
    tell.claim(
        f"{world.owner.name} counters: From name “{SHOWN_AS}”, Return-Path {BOUNCES}, recipients hashed, 30 days",
        countered["awaiting"] == "delegate" and countered["etag"] != seen["etag"],
        countered,
    )


def _agree_on_billing(world: World, tell: Teller) -> None:
    owner, second = world.owner, world.second
    offered = owner.api.post(
        "/v1/grants",
        {
            "identity_arn": world.identity_arn,
            "delegate_id": second.id,
            "terms": terms(SECOND_ACCOUNT, BILLING, days=30),
        },
    )
    world.billing = offered["id"]
    approved = second.api.post(f"/v1/grants/{world.billing}/approve", etag=second.grant(world.billing)["etag"])
    tell.claim(f"{second.name} gets {BILLING} for 30 days", approved["terms"]["from_addresses"] == [BILLING], approved)


def activate(world: World, tell: Teller) -> None:
    """Both grants turn active; SES, asked by the owner, holds what was agreed beside what was there."""
    for party, grant_id in ((world.first, world.newsletter), (world.second, world.billing)):
        active = party.wait_for_state(f"/v1/grants/{grant_id}", "active", "activation_failed")
        tell.claim(f"The grant of {party.name} is active", active["state"] == "active", active["error"])
    held = world.policies()
    statements = [each for text in world.ours() for each in json.loads(text)["Statement"]]
    by_account = {account: [each for each in statements if account in json.dumps(each)] for account in ACCOUNTS}
    tell.claim(
        f"SES holds a policy for each delegate on {DOMAIN}, with the agreed addresses and an end date",
        all(by_account.values()) and all(_is_limited(each) for each in statements),
        statements,
    )
    tell.claim(
        "The policy that somebody else made is untouched, byte for byte",
        held[PAYROLL].encode() == world.foreign_policy.encode() and len(held) == len(world.ours()) + 1,
        held,
    )
    for party, grant_id in _hearers(world):
        party.inbox.wait(f"{party.name} hears grant.activated", _activated(grant_id))
    tell.claim("The parties' webhooks got a signed grant.activated", truth=True)
    foreign = [each for each in world.second.inbox.read() if each.data.get("grant_id") == world.newsletter]
    tell.claim(f"{world.second.name} heard nothing of the first grant", not foreign, foreign)


def _is_limited(statement: dict[str, Any]) -> bool:
    conditions = json.dumps(statement.get("Condition", {}))
    return "aws:CurrentTime" in conditions and (NEWSLETTER in conditions or BILLING in conditions)


def _hearers(world: World) -> list[tuple[Party, str]]:
    owner, first, second = world.owner, world.first, world.second
    return [(owner, world.newsletter), (owner, world.billing), (first, world.newsletter), (second, world.billing)]


def _activated(grant_id: str) -> Any:
    def fits(heard: Heard) -> bool:
        return heard.type == "grant.activated" and heard.data["grant_id"] == grant_id

    return fits
