"""A customer: a tenant with its key, its AWS account and its inbox, and the mail that it sends."""

import asyncio
from collections.abc import Mapping
from email.message import EmailMessage
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.journeys.inbox import Inbox
from tests.sandbox.aws import Account

if TYPE_CHECKING:
    from tests.journeys.world import Broker

DOMAIN = "example.com"
NEWSLETTER, BILLING, BOUNCES, CEO = (f"{name}@{DOMAIN}" for name in ("newsletter", "billing", "bounces", "ceo"))
SHOWN_AS = "Example News"
BOUNCING = "bounce@simulator.amazonses.com"


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


AS_COUNTERED: dict[str, Any] = {
    "from_display_names": [SHOWN_AS],
    "feedback_addresses": [BOUNCES],
    "feedback": {"owner_view": "hashed"},
}
"""What makes AGREED the only way to send."""

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

    async def event_ids(self) -> list[str]:
        """Every event of the feed, oldest first."""
        found: list[str] = []
        stretch: Any = {"more": True, "cursor": None}
        while stretch["more"]:
            after = {"after": stretch["cursor"]} if stretch["cursor"] else {}
            stretch = await self.get("/v1/events", page_size="100", **after)
            found += [each["id"] for each in stretch["items"]]
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
