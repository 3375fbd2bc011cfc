"""Who is in a journey: tenants with their keys, AWS accounts and inboxes, and how they send mail."""

import asyncio
import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import msgspec
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from litestar import Litestar

from broker.parts import Parts
from tests.journeys.inbox import Heard, Inbox, Inboxes
from tests.journeys.workers import PATIENCE, Workers
from tests.sandbox.aws import REGION, Account
from tests.sandbox.aws import Aws as LocalAws

BROKER_ACCOUNT = "999999999999"
GAP = timedelta(milliseconds=200)  # between the two reads of a removal; a second in production
NOBODY_THERE = "redis://127.0.0.1:1/0"  # a doorbell that never rings: the journeys do without
OURS = "delegation-broker-"
DOMAIN = "example.com"
NEWSLETTER, BILLING, BOUNCES, CEO = (f"{name}@{DOMAIN}" for name in ("newsletter", "billing", "bounces", "ceo"))
SHOWN_AS = "Example News"
BOUNCING = "bounce@simulator.amazonses.com"
FOREIGN = "PayrollProvider"


class Mail(msgspec.Struct, frozen=True):
    """One mail as its sender wants it."""

    address: str = NEWSLETTER
    name: str | None = SHOWN_AS
    return_path: str | None = BOUNCES
    to: str = "success@simulator.amazonses.com"
    configuration_set: str | None = None

    @property
    def sender(self) -> str:
        """The From header."""
        return f"{self.name} <{self.address}>" if self.name else self.address


AGREED = Mail()
BILL = Mail(BILLING, None, None)


class Answer(msgspec.Struct, frozen=True):
    """What an API call was answered."""

    status: int
    body: Any


class Party:
    """One tenant: its API key, its AWS account and its inbox, which hears everything from the beginning."""

    def __init__(self, broker: "Broker", made: Any, account: Account, inbox: Inbox) -> None:
        self.id = str(made["tenant"]["id"])
        self.aws = account
        self.inbox = inbox
        self.http = broker.client(made["secret"])
        self._clients: dict[str, Any] = {}

    @classmethod
    async def register(cls, broker: "Broker", *roles: str) -> "Party":
        """A new tenant with a webhook and an account out of the SES sandbox."""
        async with broker.client() as anybody:
            made = await anybody.post("/v1/tenants", json={"name": "Example AG", "roles": list(roles)})
        account, inbox = broker.aws.account(), broker.inboxes.open()
        account.leave_sandbox()
        party = cls(broker, made.json(), account, inbox)
        inbox.secret = (await party.post("/v1/endpoints", {"url": inbox.url}))["secret"]
        return party

    def client(self, service: str) -> Any:
        """boto3's client with this party's own credentials."""
        if service not in self._clients:
            self._clients[service] = self.aws.client(service)
        return self._clients[service]

    async def get(self, path: str, **query: str) -> Any:
        """The JSON at a path."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def items(self, path: str, **query: str) -> list[Any]:
        """The items of the first page at a path."""
        found: list[Any] = (await self.get(path, **query))["items"]
        return found

    async def post(self, path: str, body: object = None, *, etag: str | None = None) -> Any:
        """The JSON that a POST answers."""
        answer = await self.try_post(path, body, etag=etag)
        assert answer.status < 300, answer.body
        return answer.body

    async def try_post(self, path: str, body: object = None, *, etag: str | None = None) -> Answer:
        """Status and body of the answer to a POST, good or bad."""
        headers = {"idempotency-key": str(uuid4())} | ({"if-match": etag} if etag else {})
        given: dict[str, Any] = {} if body is None else {"json": body}
        answer = await self.http.post(path, headers=headers, **given)
        return Answer(answer.status_code, answer.json())

    async def grant(self, grant_id: str) -> Any:
        """A grant as this party sees it."""
        return await self.get(f"/v1/grants/{grant_id}")

    async def approve(self, grant_id: str) -> Any:
        """Agrees to the latest offer."""
        seen = await self.grant(grant_id)
        return await self.post(f"/v1/grants/{grant_id}/approve", etag=seen["etag"])

    def signed(self, proof: Mapping[str, Any]) -> dict[str, Any]:
        """The challenge of a connection, signed with this party's credentials."""
        request = AWSRequest("GET", proof["url"], headers=proof["headers"])
        keys = Credentials(self.aws.keys.access_key_id, self.aws.keys.secret_access_key)
        SigV4QueryAuth(keys, "sts", proof["region"], expires=60).add_auth(request)
        return {"url": str(request.url), "headers": proof["headers"]}

    async def prove(self) -> Any:
        """Proves its account, giving no rights."""
        made = await self.post("/v1/connections", {"kind": "proof", "account_id": self.aws.id})
        return await self.post(f"/v1/connections/{made['id']}/prove", self.signed(made["proof"]))

    async def send(self, arn: str, mail: Mail) -> str:
        """SendEmail of API v2 as of another's identity; the message id, or botocore's ClientError."""
        given: dict[str, Any] = {"FromEmailAddressIdentityArn": arn}
        if mail.return_path:
            given["FeedbackForwardingEmailAddress"] = mail.return_path
            given["FeedbackForwardingEmailAddressIdentityArn"] = arn
        if mail.configuration_set:
            given["ConfigurationSetName"] = mail.configuration_set
        content = {"Simple": {"Subject": {"Data": "News"}, "Body": {"Text": {"Data": "Hello."}}}}
        answer = await self.call(
            "sesv2",
            "send_email",
            FromEmailAddress=mail.sender,
            Destination={"ToAddresses": [mail.to]},
            Content=content,
            **given,
        )
        return str(answer["MessageId"])

    async def send_raw(self, mail: Mail, **arns: str) -> str:
        """SendRawEmail of API v1; `arns` are FromArn, SourceArn and ReturnPathArn."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = mail.sender, mail.to, "News"
        message.set_content("Hello.")
        given = {"Source": mail.return_path, "Destinations": [mail.to], "RawMessage": {"Data": message.as_bytes()}}
        return str((await self.call("ses", "send_raw_email", **given, **arns))["MessageId"])

    async def refusal(self, arn: str, mail: Mail) -> str:
        """The code of SES's refusal; empty where it accepts."""
        try:
            await self.send(arn, mail)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    async def call(self, service: str, operation: str, **parameters: Any) -> Any:
        """An AWS call of this party, in a thread: the broker's loop goes on meanwhile."""
        return await asyncio.to_thread(partial(getattr(self.client(service), operation), **parameters))

    async def close(self) -> None:
        await self.http.aclose()


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
    async def make(cls, broker: Broker) -> "World":
        """Everything that comes before a negotiation, by the public API."""
        world = cls(broker)
        world.owner, world.first, world.second = await asyncio.gather(
            *(Party.register(broker, role) for role in ("owner", "delegate", "delegate"))
        )
        world.arn = world.owner.aws.verify(DOMAIN)
        await world.write_foreign_policy()
        world.connection = await connect(broker, world.owner)
        await asyncio.gather(world.first.prove(), world.second.prove())
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
        """The broker's policies among them, as text."""
        return [text for name, text in sorted((await self.policies()).items()) if name.startswith(OURS)]

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

            async def look(party: Party = party) -> bool | None:
                return None if await party.items("/v1/deliveries", state="pending") else True

            await self.broker.workers.until(look)
            events = [each["id"] for each in await party.items("/v1/events", page_size="100")]
            assert [] == await party.items("/v1/deliveries", state="dead")
            assert sorted(events) == sorted(each.id for each in party.inbox.read())

    async def revoke(self, grant_id: str, *, seconds: float = PATIENCE) -> Any:
        """Revokes, and waits until SES was read without it."""
        await self.owner.post(f"/v1/grants/{grant_id}/revoke", {"note": "The contract has ended"})
        return await self.reach_state(grant_id, "revoked", seconds=seconds)


async def connect(broker: Broker, owner: Party) -> Any:
    """The owner's account, connected by the role of the template and verified."""
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


AS_COUNTERED: dict[str, Any] = {
    "from_display_names": [SHOWN_AS],
    "feedback_addresses": [BOUNCES],
    "feedback": {"owner_view": "hashed"},
}
"""What makes AGREED the only way to send."""
