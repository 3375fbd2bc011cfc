"""Owners with one active grant each, every one in an AWS account of its own, made through the public API."""

import json
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec

from broker.local.aws import REGION, LocalAws
from broker.local.aws_account import AwsAccount
from broker.local.customer import Party
from broker.local.telling import wait_for
from broker.local.world import terms

DELEGATE_ACCOUNT = "222222222222"
FIRST_OWNER = 300_000_000_000
AT_ONCE = 8


class Granted(msgspec.Struct, frozen=True):
    """An active grant, and the key and account of the owner who may revoke it."""

    grant_id: str
    key: str
    account_id: str
    identity: str


class Seeder:
    """Makes grants at one broker; `close` when all are made."""

    def __init__(self, api_url: str, aws_url: str) -> None:
        self._api_url = api_url
        self._aws = LocalAws(aws_url)
        self._delegate = self._party("Letters Ltd", DELEGATE_ACCOUNT, "delegate")
        _prove(self._delegate)

    def grants(self, number: int) -> Sequence[Granted]:
        """So many active grants; raises `Untrue` where one does not become active."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._grant, range(number)))

    def close(self) -> None:
        """Closes the connections."""
        self._delegate.close()
        self._delegate.aws.close()

    def _party(self, name: str, account_id: str, role: str) -> Party:
        account = AwsAccount(self._aws.url, account_id, self._aws.open_account(account_id))
        return Party(name, api_url=self._api_url, roles=[role], aws=account)

    def _grant(self, number: int) -> Granted:
        account_id, identity = str(FIRST_OWNER + number), f"owner{number}.example"
        arn = self._aws.verify_identity(account_id, identity)
        owner = self._party(f"Owner {number}", account_id, "owner")
        try:
            _connect(owner, account_id)
            wait_for(f"{identity} is discovered", partial(_is_found, owner, arn))
            asked = {
                "identity_arn": arn,
                "delegate_id": self._delegate.id,
                "terms": terms(DELEGATE_ACCOUNT, f"news@{identity}", days=30),
            }
            grant_id = owner.api.post("/v1/grants", asked)["id"]
            etag = self._delegate.grant(grant_id)["etag"]
            self._delegate.api.post(f"/v1/grants/{grant_id}/approve", etag=etag)
            owner.wait_for_state(f"/v1/grants/{grant_id}", "active")
            return Granted(grant_id, owner.key, account_id, identity)
        finally:
            owner.close()
            owner.aws.close()


def _prove(delegate: Party) -> None:
    connection = delegate.api.post("/v1/connections", {"kind": "proof", "account_id": DELEGATE_ACCOUNT})
    proof = connection["proof"]
    signed = delegate.aws.presign(proof["url"], proof["region"], proof["headers"])
    delegate.api.post(f"/v1/connections/{connection['id']}/prove", {"url": signed, "headers": proof["headers"]})


def _connect(owner: Party, account_id: str) -> None:
    asked = {"kind": "role", "account_id": account_id, "regions": [REGION]}
    connection = owner.api.post("/v1/connections", asked)
    path = f"/v1/connections/{connection['id']}"
    trust, policy = _template(owner.api.text(f"{path}/template", format="sh"))
    name = connection["role_arn"].rpartition("/")[2]
    iam = owner.aws.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    iam.put_role_policy(RoleName=name, PolicyName="ses-delegation-broker", PolicyDocument=policy)
    owner.api.post(f"{path}/verify")
    owner.wait_for_state(path, "verified")


def _template(script: str) -> tuple[str, str]:
    """Trust policy and permissions out of the shell script that the API gives an owner to run."""
    words = (word.partition("=") for word in shlex.split(script, comments=True))
    values = {name: value for name, _, value in words if name in {"trust", "policy"}}
    return values["trust"], values["policy"]


def _is_found(owner: Party, arn: str) -> bool | None:
    items: list[dict[str, Any]] = owner.api.get("/v1/identities")["items"]
    return any(each["arn"] == arn and each["verified"] for each in items) or None


def held(aws: LocalAws, granted: Granted) -> dict[str, Any]:
    """The policies on the identity of a grant that let somebody send, as SES holds them, asked by its owner."""
    account = AwsAccount(aws.url, granted.account_id, aws.open_account(granted.account_id))
    try:
        found = account.client("sesv2").get_email_identity_policies(EmailIdentity=granted.identity)
        policies = {name: json.loads(text) for name, text in found["Policies"].items()}
        return {name: each for name, each in policies.items() if any(s["Effect"] == "Allow" for s in each["Statement"])}
    finally:
        account.close()
