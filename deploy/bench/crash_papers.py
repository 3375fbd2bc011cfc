"""Scenarios of the crash matrix that are about policies beside a grant's own: a Deny, and one that was there before."""

from typing import Any

import msgspec

from bench.crash_scenarios import Run
from bench.crash_world import DELEGATE_ACCOUNT, OWNER_ACCOUNT, World, until
from broker.local.aws import REGION

_BY_HAND = "AgencyMayWrite"
_YOUNGER = "UPDATE grants SET removed_at = now() + interval '1 minute' WHERE id = $1::uuid RETURNING id"
_BEHIND_DENY = "SELECT FROM grants WHERE id = $1::uuid AND protected_by = 'deny'"
_OLDER = """
    WITH grown AS (
      UPDATE grants SET removed_at = now() - interval '1 minute' WHERE id = $1::uuid RETURNING identity_id
    )
    UPDATE identities i SET due_at = now() FROM grown WHERE i.id = grown.identity_id RETURNING i.id
"""


def protection(run: Run) -> None:
    """A grant is revoked behind a Deny; another to the same account is agreed, which the Deny must not shut out.

    So the receipt no longer claims one, before it is taken down.
    """
    world, owner = run.world, run.world.owner
    identity = world.next_identity()
    first, second = world.propose(identity), world.propose(identity)
    world.approve(first)
    owner.wait(f"/v1/grants/{first}", "active")
    run.done()
    owner.ask("POST", f"/v1/grants/{first}/revoke", {"note": "It has ended"})
    owner.wait(f"/v1/grants/{first}", "revoked")
    world.place.rows(_YOUNGER, first)  # so that its Deny is still wanted when the other is agreed
    until("a Deny protects it", lambda: world.place.rows(_BEHIND_DENY, first))
    world.approve(second)
    run.done()
    owner.wait(f"/v1/grants/{second}", "active")
    run.done()
    world.place.rows(_OLDER, first)
    sealed = "SELECT FROM grants WHERE id = $1::uuid AND sealed_at IS NOT NULL"
    until("the first is sealed", lambda: world.place.rows(sealed, first))
    run.done()


def adoption(run: Run) -> None:
    """A policy that the owner wrote by hand is taken under a grant, and goes once the grant's own stands beside it."""
    world, owner = run.world, run.world.owner
    name = world.next_identity()
    identity_id = _written(world, name)
    path = f"/v1/identities/{identity_id}/policies/{_BY_HAND}/adopt"
    grant = owner.ask("POST", path, {"delegate_id": world.delegate.id})
    run.done()
    world.approve(grant["id"])
    owner.wait(f"/v1/grants/{grant['id']}", "active")
    run.done()
    until("the policy is replaced", lambda: owner.get(f"/v1/grants/{grant['id']}")["replaces"]["state"] == "removed")
    run.done()
    until("SES does not hold it", lambda: _BY_HAND not in _held(world, name))


def _written(world: World, name: str) -> str:
    """The id of an identity that has a policy by hand, as the broker has read it."""
    arn = f"arn:aws:ses:{REGION}:{OWNER_ACCOUNT}:identity/{name}"
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{DELEGATE_ACCOUNT}:root"},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": arn,
        "Condition": {
            "StringEquals": {"ses:FromAddress": f"news@{name}"},
            "DateLessThan": {"aws:CurrentTime": "2099-01-01T00:00:00Z"},
        },
    }
    text = msgspec.json.encode({"Version": "2012-10-17", "Statement": [statement]}).decode()
    ses = world.owner.aws.client("sesv2")
    ses.create_email_identity_policy(EmailIdentity=name, PolicyName=_BY_HAND, Policy=text)
    found = _identity(world, arn)
    world.owner.ask("POST", f"/v1/identities/{found['id']}/refresh")
    until("the policy is read", lambda: _BY_HAND in [each["name"] for each in _identity(world, arn)["policies"]])
    return str(found["id"])


def _identity(world: World, arn: str) -> Any:
    rows = world.place.rows("SELECT id::text FROM identities WHERE arn = $1", arn)
    return world.owner.get(f"/v1/identities/{rows[0]['id']}")


def _held(world: World, name: str) -> dict[str, str]:
    found = world.place.aws.cloud.state.identity((OWNER_ACCOUNT, REGION), name)
    return found.history[-1].policies if found is not None else {}
