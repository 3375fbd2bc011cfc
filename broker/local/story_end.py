"""Step 6: an amendment, and a revocation that is proven."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from broker.audit.signing import Jwks, PublicKeys
from broker.grants.proof import check
from broker.grants.views import SignedReceipt
from broker.local.customer import Heard
from broker.local.story_agree import BILLING, changes_of
from broker.local.story_bounce import claim_second_heard_nothing
from broker.local.story_send import AGREED, BILL, claim_refused, send
from broker.local.telling import Teller, wait_for
from broker.local.world import FIRST_ACCOUNT, PAYROLL, SECOND_ACCOUNT, World, terms


def play(world: World, tell: Teller) -> None:
    """Amend the second grant, revoke the first, and see that each did what it says and no more."""
    _amend(world, tell)
    _revoke(world, tell)
    claim_refused(world, tell, f"The next send of {world.first.name}", world.first.aws, AGREED)
    tell.claim(f"{world.second.name} goes on sending: accepted", bool(send(world, world.second.aws, BILL)))
    for party in (world.owner, world.first):
        party.inbox.wait(f"{party.name} hears grant.revoked", _event("grant.revoked", world.newsletter))
    tell.claim("Both parties' webhooks get a signed grant.revoked", truth=True)
    _show_receipt(world, tell)
    claim_second_heard_nothing(world, tell)
    tell.claim(
        "The policy that somebody else made is as it was, byte for byte",
        world.policies()[PAYROLL].encode() == world.foreign_policy.encode(),
        world.policies()[PAYROLL],
    )


def _amend(world: World, tell: Teller) -> None:
    path = f"/v1/grants/{world.billing}"
    before = world.owner.grant(world.billing)
    wanted = {"terms": terms(SECOND_ACCOUNT, BILLING, days=60), "note": "Twice as long"}
    offered = world.owner.api.post(f"{path}/amend", wanted, etag=before["etag"])
    tell.claim(
        f"{world.owner.name} offers 60 days instead of 30; until that is agreed the old terms hold",
        (offered["state"], offered["terms"], offered["awaiting"]) == ("active", before["terms"], "delegate"),
        offered,
    )
    shown = world.second.api.get(f"{path}/offers")["items"][-1]
    tell.claim(
        f"{world.second.name} is shown what it would change: {changes_of(shown)}",
        [each["effect"] for each in shown["changes"]] == ["widens"],
        shown["changes"],
    )
    agreed = world.second.api.post(f"{path}/approve", etag=world.second.grant(world.billing)["etag"])
    until = agreed["terms"]["expires_at"]
    day = datetime.fromisoformat(until).strftime("%Y-%m-%d")
    world.second.wait_for_state(path, "active")
    wait_for(
        f"SES holds the policy until {day}, and only that one",
        lambda: [day in text for text in _of(world, SECOND_ACCOUNT)] == [True] or None,
    )
    tell.claim(
        f"{world.second.name} agrees, and SES holds the policy until {day}, and only that one",
        until > before["terms"]["expires_at"],
        until,
    )


def _revoke(world: World, tell: Teller) -> None:
    path = f"/v1/grants/{world.newsletter}"
    asked = world.owner.api.post(f"{path}/revoke", {"note": "The contract has ended"})
    tell.claim(f"{world.owner.name} revokes the grant of {world.first.name}", asked["state"] in {"revoking", "revoked"})
    world.owner.wait_for_state(path, "revoked")
    tell.claim("SES holds no policy for the first delegate any more", not _of(world, FIRST_ACCOUNT), world.ours())
    reads = _reads_after_removal(world)
    tell.claim(
        f"Before it was called revoked, SES was read {reads} times after the removal",
        reads >= 2,
        reads,
    )


def _reads_after_removal(world: World) -> int:
    """By the local AWS's log: reads of the identity's policies by the broker since it last deleted one."""
    names = [
        each["operation"]
        for each in world.aws.calls()
        if "/SesDelegationBroker/" in each["caller_arn"] or "delegation-broker" in each["caller_arn"]
    ]
    last = max(at for at, name in enumerate(names) if name == "DeleteEmailIdentityPolicy")
    return sum(name in {"GetEmailIdentityPolicies", "GetEmailIdentity"} for name in names[last:])


def _show_receipt(world: World, tell: Teller) -> None:
    receipt = world.first.api.get(f"/v1/grants/{world.newsletter}/receipt")
    asked, removed, verified = (
        datetime.fromisoformat(receipt[f"{word}_at"]) for word in ("asked", "removed", "verified")
    )
    tell.claim(
        "The receipt says when it was asked for, when it was gone, and when that was read again, a second later",
        asked <= removed and (verified - removed).total_seconds() >= 1,
        receipt,
    )
    tell.claim("… and that nothing else lets the delegate send", receipt["residual_policies"] == [], receipt)
    tell.note(receipt["statement"])
    _check_receipt(world, tell, receipt["signed"])
    world.removed_ms = round((removed - asked).total_seconds() * 1000)
    world.revoke_ms = round((verified - asked).total_seconds() * 1000)


def _check_receipt(world: World, tell: Teller, told: dict[str, Any]) -> None:
    """As `broker receipt verify` does: with the public keys, and without the broker."""
    keys = PublicKeys.of(msgspec.convert(world.first.api.get("/.well-known/jwks.json"), Jwks))
    signed = msgspec.convert(told, SignedReceipt)
    changed = msgspec.structs.replace(signed, receipt={**signed.receipt, "state": "active"})
    tell.claim(
        "It is signed: both parties can check it offline, and one that was changed is refused",
        check(signed, keys) is None and check(changed, keys) is not None,
        told,
    )


def _of(world: World, account_id: str) -> list[str]:
    """Our policies on the identity that name an account."""
    return [text for text in world.ours() if account_id in json.dumps(json.loads(text)["Statement"])]


def _event(type_: str, grant_id: str) -> Callable[[Heard], Any]:
    return lambda heard: heard.type == type_ and heard.data["grant_id"] == grant_id
