"""Tries every URL of the table through every door at which a tenant can name one, and counts what is let through."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from bench.hostile import GOOD, HOSTILE, OWN_ADDRESS, OWN_HOST, Hostile
from bench.witness import watching
from broker.addresses import Address, literal
from broker.connections import challenge
from broker.errors import BrokerError, Refused, Unavailable
from broker.feedback.envelope import Envelope, MessageType
from broker.feedback.signature import Certificates, Verifier
from broker.gateways.aws import Aws
from broker.gateways.http import HttpFetcher, HttpSender
from broker.gateways.http_names import Addresses, look_up
from broker.gateways.own_address import is_own
from broker.gateways.sns import SnsGateway
from broker.gateways.sts import StsGateway
from broker.settings import Settings
from broker.webhooks.urls import flaw_of

SNS, STS = "sns.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"
_SECONDS = timedelta(seconds=30)
_NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
_PROOF = urlencode(
    {
        "Action": "GetCallerIdentity",
        "Version": "2011-06-15",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIAEXAMPLE/20260105/eu-west-1/sts/aws4_request",
        "X-Amz-Date": "20260105T115930Z",
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": f"host;{challenge.HEADER}",
        "X-Amz-Signature": "ab" * 32,
    }
)


class Figures(msgspec.Struct, frozen=True):
    """`urls` of the table, `tried` over all doors, `let_through`: what was accepted or dialled, each named in `leaks`.

    `unanswered`: not refused but led nowhere, for want of an address.
    """

    urls: int
    tried: int
    let_through: int
    unanswered: int
    doors: dict[str, int]
    leaks: tuple[str, ...]


class Script:
    """The DNS as the row at hand has it: its answers one after the other; nothing else has a name."""

    def __init__(self) -> None:
        self.row = HOSTILE[0]
        self.asked = 0

    def turn_to(self, row: Hostile) -> None:
        self.row, self.asked = row, 0

    def __call__(self, host: str, port: int) -> Iterable[str]:
        if self.row.answers:
            self.asked += 1
            return self.row.answers[min(self.asked, len(self.row.answers)) - 1]
        if literal(host) is None and host != "localhost":
            raise OSError("There is no such name")
        return look_up(host, port)


class Doors:
    """The real gateways and rules, with a scripted DNS and nothing else changed."""

    def __init__(self) -> None:
        self.script = Script()
        settings = Settings(database_url="", secret_keys="", api_key_pepper="", aws_region="eu-west-1")
        self.sender = HttpSender(own_url=f"https://{OWN_HOST}", look_up=self.script, known_seconds=0, is_own=_is_ours)
        self.fetcher = HttpFetcher(look_up=self.script)
        aws = Aws(settings)
        self.sts = StsGateway(aws, self.fetcher, settings)
        certificates = Certificates(SnsGateway(aws, self.fetcher, settings))
        self.verifier = Verifier(certificates, partition="aws", endpoint_origin=None)

    async def close(self) -> None:
        await self.sender.close()
        await self.fetcher.close()

    async def creation(self, url: str) -> None:
        """An endpoint is made or changed (`broker.webhooks.endpoints`)."""
        if (flaw := flaw_of(url, allow_loopback=False)) is not None:
            raise Refused(flaw)

    async def delivery(self, url: str) -> None:
        """A delivery, a replay or a test send: all of them are this call (`broker.webhooks.attempt`)."""
        await self.sender.post(url, {}, b"{}", timeout=_SECONDS, tenant_id=UUID(int=1))

    async def certificate(self, url: str) -> None:
        """A message of SNS says where its certificate is."""
        where = url if SNS in url else url.rstrip("/") + "/SimpleNotificationService-ab12.pem"
        topic = "arn:aws:sns:eu-west-1:222222222222:agency"
        await self.verifier.verify(
            Envelope(MessageType.NOTIFICATION, "1", topic, "{}", _NOW.isoformat(), "2", "eA==", where), now=_NOW
        )

    async def proof(self, url: str) -> None:
        """A tenant presigns a request: the rule of the use case."""
        presigned = url.rstrip("/") + f"/?{_PROOF}"
        challenge.check(
            presigned, {challenge.HEADER: "n"}, "n", endpoint=f"https://{STS}", region="eu-west-1", now=_NOW
        )
        await self.prove(url)

    async def prove(self, url: str) -> None:
        """The same, had the rule let it through."""
        await self.sts.prove(url.rstrip("/") + f"/?{_PROOF}", "n")

    async def fetch(self, url: str) -> None:
        """What certificates and proofs end in, had all before let it through."""
        await self.fetcher.fetch(url, {}, max_bytes=1024, timeout=_SECONDS, allowed_hosts={SNS, STS})

    def all(self) -> dict[str, tuple[Callable[[str], Awaitable[None]], str]]:
        """By name, each with a URL that it does let through."""
        return {
            "creation": (self.creation, "https://hooks.example.com/"),
            "delivery": (self.delivery, "https://hooks.example.com/"),
            "certificate": (self.certificate, f"https://{SNS}/SimpleNotificationService-ab12.pem"),
            "proof": (self.proof, f"https://{STS}/"),
            "prove": (self.prove, f"https://{STS}/"),
            "fetch": (self.fetch, f"https://{SNS}/x.pem"),
        }


@asynccontextmanager
async def opened() -> AsyncIterator[Doors]:
    """Doors, closed in the end."""
    doors = Doors()
    try:
        yield doors
    finally:
        await doors.close()


async def attempt(doors: Doors, door: str, row: Hostile) -> tuple[Addresses, str]:
    """Which addresses were dialled, of all rounds that the row's answers need; and the last refusal's sentence, empty
    where nothing was refused.
    """
    go, _ = doors.all()[door]
    doors.script.turn_to(row)
    refusal, dialled = "", []
    for _ in range(max(1, len(row.answers))):
        with watching() as seen:
            try:
                await go(row.url)
            except Unavailable:
                refusal = "Only what was checked was dialled." if seen else ""
            except BrokerError as error:
                refusal = error.detail
            else:
                return ("accepted",), ""
        dialled += seen
    return tuple(address for address in dialled if address not in row.dials), refusal


async def guard() -> Figures:
    """Every row through every door. RuntimeError when the witness does not see what each door has to let through."""
    tried, leaks, unanswered = Counter[str](), [], 0
    async with opened() as doors:
        for door, (_, open_url) in doors.all().items():
            if (await attempt(doors, door, Hostile("control", open_url, ((GOOD,),))))[0] not in {
                (GOOD,),
                ("accepted",),
            }:
                raise RuntimeError(f"{door} lets nothing through at all, so that it proves nothing")
            for row in _rows(door):
                tried[door] += 1
                dialled, refusal = await attempt(doors, door, row)
                leaks += [f"{door}: {row.url!r} ({row.trick}) reached {address}" for address in dialled]
                unanswered += not dialled and not refusal
    return Figures(len(HOSTILE), tried.total(), len(leaks), unanswered, dict(tried), tuple(leaks))


def _rows(door: str) -> Iterable[Hostile]:
    """Where a name leads, and whether to us, is not known when an endpoint is made but whenever it is called."""
    return [row for row in HOSTILE if door != "creation" or not (row.answers or row.trick == "the broker itself")]


def _is_ours(address: Address) -> bool:
    return str(address) == OWN_ADDRESS or is_own(address)
