"""Where a journey happens: the broker that runs, and an owner with two delegates."""

import asyncio
import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from litestar import Litestar

from broker.parts import Parts
from tests.journeys.inbox import Heard, Inboxes
from tests.journeys.party import DOMAIN, NEWSLETTER, Party
from tests.journeys.workers import PATIENCE, Workers
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Aws as LocalAws

BROKER_ACCOUNT = "999999999999"
GAP = timedelta(milliseconds=200)  # between the two reads of a removal; a second in production
NOBODY_THERE = "redis://127.0.0.1:1/0"  # a doorbell that never rings: the journeys do without
OURS = "delegation-broker-"
DENY = "delegation-broker-deny-"
FOREIGN = "PayrollProvider"


class Broker:
    """The running broker."""

    def __init__(self, parts: Parts, app: Litestar, aws: LocalAws, inboxes: Inboxes) -> None:
        self.parts = parts
        self.app: Any = app
        self.aws = aws
        self.inboxes = inboxes
        self.workers = Workers(parts)

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        """The API under a key, or nobody's."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://broker", headers=headers, timeout=20
        )

    async def reach(self, party: Party, path: str, *states: str, seconds: float = PATIENCE) -> Any:
        """The resource at a path once it is in one of these states, with the workers at it meanwhile."""
        last: list[Any] = []

        async def look() -> Any:
            last.append(await party.get(path))
            return last[-1] if last[-1]["state"] in states else None

        try:
            return await self.workers.until(look, seconds=seconds)
        except TimeoutError as error:
            raise AssertionError(f"Not {' or '.join(states)} but {last[-1]}") from error

    async def hear(self, party: Party, type_: str, **data: Any) -> Heard:
        """The first webhook of this type with these values in its data."""

        async def look() -> Heard | None:
            return next(iter(party.inbox.of(type_, **data)), None)

        try:
            return await self.workers.until(look)
        except TimeoutError as error:
            raise AssertionError(f"No {type_} {data}, but {[each.body for each in party.inbox.read()]}") from error


class World:
    """An owner whose identity example.com is connected, with a foreign policy on it, and two delegates."""

    owner: Party
    first: Party
    second: Party
    arn: str
    foreign: str  # the foreign policy as SES showed it before the broker came
    connection: Any

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    @classmethod
    async def make(cls, broker: Broker, *, delegates_role: bool = False) -> "World":
        """Everything that comes before a negotiation, by the public API; the first delegate proves or has a role."""
        world = cls(broker)
        world.owner, world.first, world.second = await asyncio.gather(
            *(Party.register(broker, role) for role in ("owner", "delegate", "delegate"))
        )
        world.arn = world.owner.aws.verify(DOMAIN)
        await world.write_foreign_policy()
        world.connection = await connect(broker, world.owner)
        await asyncio.gather(
            connect(broker, world.first) if delegates_role else world.first.prove(), world.second.prove()
        )
        return world

    @property
    def parties(self) -> tuple[Party, Party, Party]:
        """Everybody."""
        return self.owner, self.first, self.second

    async def write_foreign_policy(self) -> None:
        """Somebody else's policy, in a form that we would not write."""
        address, principal = f"payroll@{DOMAIN}", f"arn:aws:iam::{self.owner.aws.id}:root"
        text = (
            '{ "Version" : "2012-10-17",\n\t"Statement" : [ { "Effect":"Allow", "Sid" : "PayrollMayWrite",\n'
            f'\t\t"Principal": {{"AWS": {json.dumps(principal)} }},\n\t\t"Action" : [ "ses:SendEmail" ],\n'
            f'\t\t"Resource": {json.dumps(self.arn)},\n'
            f'\t\t"Condition" : {{ "StringLike": {{ "ses:FromAddress" : [ {json.dumps(address)} ] }} }} }} ] }}'
        )
        await self.owner.call(
            "sesv2", "create_email_identity_policy", EmailIdentity=DOMAIN, PolicyName=FOREIGN, Policy=text
        )
        self.foreign = (await self.policies())[FOREIGN]

    async def policies(self) -> dict[str, str]:
        """What SES holds on the identity, asked by its owner; not stale, whatever the dialect says."""
        identity = self.broker.aws.cloud.state.identity((self.owner.aws.id, REGION), DOMAIN)
        assert identity is not None
        return dict(identity.history[-1].policies)

    async def ours(self) -> list[str]:
        """The broker's policies among them that let somebody send, as text."""
        policies = sorted((await self.policies()).items())
        return [text for name, text in policies if name.startswith(OURS) and not name.startswith(DENY)]

    async def denies(self) -> list[str]:
        """The broker's Denies among them, as text."""
        return [text for name, text in sorted((await self.policies()).items()) if name.startswith(DENY)]

    async def agree(self, delegate: Party | None = None, address: str = NEWSLETTER, **more: Any) -> str:
        """The id of a grant that the delegate proposed and the owner approved."""
        delegate = delegate or self.first
        wanted = {"identity_arn": self.arn, "terms": terms(delegate.aws.id, address, **more)}
        proposed = await delegate.post("/v1/grants", wanted)
        await self.owner.approve(proposed["id"])
        return str(proposed["id"])

    async def activate(self, delegate: Party | None = None, address: str = NEWSLETTER, **more: Any) -> str:
        """The id of a grant that is active."""
        grant_id = await self.agree(delegate, address, **more)
        await self.reach_state(grant_id, "active")
        return grant_id

    async def reach_state(self, grant_id: str, *states: str, seconds: float = PATIENCE) -> Any:
        """The grant as its owner sees it, once it is in one of these states."""
        return await self.broker.reach(self.owner, f"/v1/grants/{grant_id}", *states, seconds=seconds)

    async def route(self, grant_id: str, *states: str, seconds: float = PATIENCE) -> Any:
        """The route of a grant, once it is in one of these states."""

        async def look() -> Any:
            found = await self.owner.items("/v1/routes", grant_id=grant_id)
            return next((each for each in found if each["state"] in states), None)

        return await self.broker.workers.until(look, seconds=seconds)

    @staticmethod
    def in_future(wait: timedelta) -> str:
        """A whole second, as policies count time, in the form that the API takes."""
        return (datetime.now(UTC) + wait).replace(microsecond=0).isoformat()

    async def refresh(self) -> None:
        """Asks for a look at the identity, as its owner can at any time."""
        found = next(each for each in await self.owner.items("/v1/identities") if each["arn"] == self.arn)
        await self.owner.post(f"/v1/identities/{found['id']}/refresh")

    def fault(self, operation: str, error: str, *, times: int = 1, after: bool = False) -> None:
        """Makes an operation of SES on the owner's account go wrong; `after`: it takes effect all the same."""
        given = {"operation": operation, "error": error, "times": times, "after": after}
        self.broker.aws.control("POST", "faults", {"service": "sesv2", "account_id": self.owner.aws.id, **given})

    def calls(self) -> list[str]:
        """The operations of SES that were asked for in the owner's account by the broker, in order."""
        found = self.broker.aws.control("GET", f"calls?account_id={self.owner.aws.id}&service=sesv2")
        return [each["operation"] for each in found if "assumed-role" in each["caller_arn"] and each["status"] == 200]

    async def conserve(self) -> None:
        """Everything that a party may hear came to its webhook exactly once, and nothing is left over."""
        for party in self.parties:
            last: list[tuple[list[str], list[str]]] = []

            # Both at one look: SNS may bring one more event at any moment, such as that a mail has been delivered.
            async def look(party: Party = party, last: list[tuple[list[str], list[str]]] = last) -> bool | None:
                if await party.items("/v1/deliveries", state="pending"):
                    return None
                last.append((sorted(await party.event_ids()), sorted(each.id for each in party.inbox.read())))
                return True if last[-1][0] == last[-1][1] else None

            with suppress(TimeoutError):  # told below, with what there was
                await self.broker.workers.until(look)
            assert last, "deliveries stay pending"
            assert last[-1][0] == last[-1][1]
            assert [] == await party.items("/v1/deliveries", state="dead")

    async def revoke(self, grant_id: str, *, seconds: float = PATIENCE) -> Any:
        """Revokes, and waits until SES was read without it."""
        await self.owner.post(f"/v1/grants/{grant_id}/revoke", {"note": "The contract has ended"})
        return await self.reach_state(grant_id, "revoked", seconds=seconds)


async def connect(broker: Broker, owner: Party) -> Any:
    """The account of an owner, or of a delegate, connected by the role of the template and verified."""
    asked = {"kind": "role", "account_id": owner.aws.id, "regions": [REGION]}
    connection = await owner.post("/v1/connections", asked)
    trust, policy = await template(owner, connection["id"])
    await make_role(owner, connection, trust, policy)
    await owner.post(f"/v1/connections/{connection['id']}/verify")
    return await broker.reach(owner, f"/v1/connections/{connection['id']}", "verified")


async def template(owner: Party, connection_id: str) -> tuple[str, str]:
    """Trust policy and permissions, out of the shell script that the API gives the owner to run."""
    script = (await owner.http.get(f"/v1/connections/{connection_id}/template", params={"format": "sh"})).text
    words = (word.partition("=") for word in shlex.split(script, comments=True))
    values = {name: value for name, _, value in words if name in {"trust", "policy"}}
    return values["trust"], values["policy"]


async def make_role(owner: Party, connection: Mapping[str, Any], trust: str, policy: str) -> None:
    """The role in the owner's account."""
    name = connection["role_arn"].rpartition("/")[2]
    await owner.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust)
    await owner.call("iam", "put_role_policy", RoleName=name, PolicyName="broker", PolicyDocument=policy)


def terms(account_id: str, address: str, *, expires_in: timedelta = timedelta(days=30), **more: Any) -> dict[str, Any]:
    """Terms that let an account send as one address."""
    return {
        "principals": [account_id],
        "actions": ["send", "send_raw"],
        "from_addresses": [address],
        "expires_at": (datetime.now(UTC) + expires_in).isoformat(),
        **more,
    }
