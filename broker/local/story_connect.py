"""Step 1: the parties register, and connect or prove their AWS accounts."""

import json
import shlex
from typing import Any

from botocore.exceptions import ClientError

from broker.local.aws import REGION
from broker.local.customer import Party
from broker.local.environment import BROKER_ACCOUNT
from broker.local.telling import Teller, Untrue
from broker.local.world import (
    DOMAIN,
    FIRST_ACCOUNT,
    OWNER_ACCOUNT,
    PAYROLL,
    SECOND_ACCOUNT,
    STRANGER_ACCOUNT,
    World,
    the_one,
    write_foreign_policy,
)


def play(world: World, tell: Teller) -> None:
    """Registering, the owner's role, the delegates' proofs, and a stranger who claims too much."""
    _register(world, tell)
    world.foreign_policy = write_foreign_policy(world)
    _connect_owner(world, tell)
    _discover(world, tell)
    for delegate, account in ((world.first, FIRST_ACCOUNT), (world.second, SECOND_ACCOUNT)):
        proven = _prove(delegate, account)
        tell.claim(
            f"{delegate.name} proves account {account} by a presigned GetCallerIdentity request, giving no rights",
            proven["state"] == "verified",
            proven,
        )
    _turn_the_stranger_away(world, tell)


def _register(world: World, tell: Teller) -> None:
    world.owner = world.party("Example AG", OWNER_ACCOUNT, "owner")
    world.first = world.party("Letters Ltd", FIRST_ACCOUNT, "delegate")
    world.second = world.party("Bills Ltd", SECOND_ACCOUNT, "delegate")
    for name, party in (("owner", world.owner), ("first", world.first), ("second", world.second)):
        party.listen(world.stack.receivers[name])
        me = party.api.get("/v1/tenant")
        tell.claim(f"{party.name} registers as {', '.join(me['roles'])} and names a webhook", me["id"] == party.id, me)


def _connect_owner(world: World, tell: Teller) -> None:
    owner = world.owner
    asked = {"kind": "role", "account_id": OWNER_ACCOUNT, "regions": [REGION]}
    connection = owner.api.post("/v1/connections", asked)
    path = f"/v1/connections/{connection['id']}"
    trust, policy = _read_template(owner.api.text(f"{path}/template", format="sh"))
    name = connection["role_arn"].rpartition("/")[2]
    iam = owner.aws.client("iam")
    careless = json.loads(trust)
    del careless["Statement"][0]["Condition"]
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(careless))
    iam.put_role_policy(RoleName=name, PolicyName="ses-delegation-broker", PolicyDocument=policy)
    owner.api.post(f"{path}/verify")
    lost = owner.wait_for_state(path, "lost", "verified")
    tell.claim(
        "A role that can be assumed without an ExternalId is refused by the broker",
        lost["state"] == "lost" and "without an ExternalId" in lost["reason"],
        lost,
    )
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust)
    _try_the_role(world, connection, tell)
    owner.api.post(f"{path}/verify")
    good = owner.wait_for_state(path, "verified", "lost")
    tell.claim(
        f"With the trust policy of the template the broker verifies account {OWNER_ACCOUNT}",
        good["state"] == "verified",
        good,
    )


def _read_template(script: str) -> tuple[str, str]:
    """Trust policy and permissions out of the shell script that the API gives the owner to run."""
    words = (word.partition("=") for word in shlex.split(script, comments=True))
    values = {name: value for name, _, value in words if name in {"trust", "policy"}}
    return values["trust"], values["policy"]


def _try_the_role(world: World, connection: dict[str, Any], tell: Teller) -> None:
    sts = world.account(BROKER_ACCOUNT).client("sts")
    role = {"RoleArn": connection["role_arn"], "RoleSessionName": "trying"}
    session = sts.assume_role(**role, ExternalId=connection["external_id"])
    tell.claim(
        "The broker's account can assume the role with the ExternalId",
        f"::{OWNER_ACCOUNT}:" in session["AssumedRoleUser"]["Arn"],
        session["AssumedRoleUser"],
    )
    for how, given in (("without it", {}), ("with a wrong one", {"ExternalId": "f" * 48})):
        code = _refusal(sts, **role, **given)
        tell.claim(f"… and is refused {how}: {code}", code == "AccessDenied", code)


def _refusal(sts: Any, **parameters: str) -> str:
    try:
        sts.assume_role(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "it was assumed"


def _discover(world: World, tell: Teller) -> None:
    found = the_one(world.owner.api.get("/v1/identities")["items"], "identity")
    tell.claim(
        f"The identity {DOMAIN} is discovered, verified", found["arn"] == world.identity_arn and found["verified"]
    )
    tell.claim(
        "… with a policy on it that somebody else made",
        found["policies"] == [{"name": PAYROLL, "ours": False}],
        found["policies"],
    )


def _prove(party: Party, account_id: str) -> Any:
    connection = party.api.post("/v1/connections", {"kind": "proof", "account_id": account_id})
    return party.api.post(f"/v1/connections/{connection['id']}/prove", _signed(party, connection))


def _signed(signer: Party, connection: dict[str, Any]) -> dict[str, Any]:
    """The challenge of a connection, signed with this party's own credentials."""
    proof = connection["proof"]
    return {
        "url": signer.aws.presign(proof["url"], proof["region"], proof["headers"]),
        "headers": proof["headers"],
    }


def _turn_the_stranger_away(world: World, tell: Teller) -> None:
    """Claiming gives nothing: neither the stranger's own signature helps nor the delegate's credentials."""
    stranger = world.stranger = world.party("Stranger Inc", STRANGER_ACCOUNT, "delegate")
    claimed = stranger.api.post("/v1/connections", {"kind": "proof", "account_id": FIRST_ACCOUNT})
    path = f"/v1/connections/{claimed['id']}"
    status, detail = stranger.api.refused(f"{path}/prove", _signed(stranger, claimed))
    tell.claim(f"{stranger.name} claims {FIRST_ACCOUNT} and is refused: {detail}", status == 409, (status, detail))
    status, detail = stranger.api.refused(f"{path}/prove", _signed(world.first, claimed))
    tell.claim(f"… even with borrowed credentials: {detail}", status == 409 and "bound" in detail, (status, detail))
    state = stranger.api.get(path)["state"]
    if state == "verified":
        raise Untrue(f"The stranger's connection is {state}.")
