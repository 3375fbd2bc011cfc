"""The table of hostile URLs, through the real connectors, rules and gateways: nothing of it is ever dialled."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_address

import pytest
import pytest_asyncio

from bench.guard import SNS, Doors, attempt, guard, opened
from bench.hostile import GOOD, HOSTILE, OWN_ADDRESS, Hostile
from broker.addresses import is_public, literal, may_serve_aws
from broker.errors import Refused
from broker.gateways.aws import Aws, Credentials
from broker.gateways.http import HttpFetcher, HttpSender
from broker.gateways.own_address import is_own
from broker.settings import Settings
from tests.gateways.servers import TENANT, always, serving

ROW = {row.url: row for row in HOSTILE}
SOON = timedelta(seconds=30)


def test_the_table_holds_each_url_once() -> None:
    assert {1} == set(Counter(row.url for row in HOSTILE).values())
    assert len(HOSTILE) >= 250


async def test_no_hostile_url_gets_through_any_door() -> None:
    figures = await guard()

    assert () == figures.leaks
    assert (len(HOSTILE), 0, 0) == (figures.urls, figures.let_through, figures.unanswered)
    assert figures.tried > 5 * len(HOSTILE)


@pytest_asyncio.fixture
async def doors() -> AsyncIterator[Doors]:
    async with opened() as doors:
        yield doors


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: f"{row.trick} {row.url!r}")
async def test_a_delivery_to_it_is_refused_with_a_sentence(doors: Doors, row: Hostile) -> None:
    dialled, refusal = await attempt(doors, "delivery", row)

    assert () == dialled
    assert refusal.endswith(".")


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("https://127.1/", ("127.0.0.1",)),
        ("https://127.0.0.1.nip.io/", ("127.0.0.1",)),
        ("https://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/", ("127.0.0.1",)),
        ("https://rebound.example/", ("127.0.0.1",)),
    ],
)
async def test_the_witness_sees_what_an_open_connector_dials(doors: Doors, url: str, dialled: tuple[str, ...]) -> None:
    """Else the table would prove nothing: the same rows, with loopback opened."""
    await doors.sender.close()
    doors.sender = HttpSender(allow_loopback=True, look_up=doors.script, known_seconds=0)

    found, _ = await attempt(doors, "delivery", ROW[url])

    assert dialled == tuple(address for address in found if address != "::1")


async def test_a_rebound_name_is_dialled_at_the_address_that_was_checked(doors: Doors) -> None:
    dialled, _ = await attempt(doors, "delivery", Hostile("", "https://r.example/", ((GOOD,), ("127.0.0.1",))))

    assert (GOOD,) == dialled


async def test_a_public_address_that_is_ours_is_not_dialled_unless_it_is_another_machines(doors: Doors) -> None:
    ours, other = (Hostile("", f"https://{address}/") for address in (OWN_ADDRESS, GOOD))

    assert ((), (GOOD,)) == ((await attempt(doors, "delivery", ours))[0], (await attempt(doors, "delivery", other))[0])


@pytest.mark.parametrize(
    ("address", "own"), [("127.0.0.1", True), ("::1", True), ("8.8.8.8", False), ("2606:4700:4700::1111", False)]
)
def test_the_kernel_knows_which_addresses_are_ours(address: str, *, own: bool) -> None:
    assert own == is_own(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "::", "224.0.0.1", "ff02::1",  # noqa: S104
     "255.255.255.255", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:a9fe:a9fe::1"],
)  # fmt: skip
async def test_a_host_of_aws_that_resolves_to_this_machine_is_not_called(address: str) -> None:
    fetcher = HttpFetcher(look_up=lambda *_: [address])

    with pytest.raises(Refused):
        await fetcher.fetch(f"https://{SNS}/x.pem", {}, max_bytes=10, timeout=SOON, allowed_hosts={SNS})
    await fetcher.close()


@pytest.mark.parametrize("address", ["10.0.0.7", "100.64.0.1", "fd12::7", "8.8.8.8", "2606:4700::1"])
def test_a_host_of_aws_may_be_an_interface_endpoint_of_a_vpc(address: str) -> None:
    """Interface endpoints have private addresses of their VPC (VPC User Guide, privatelink-access-aws-services)."""
    assert may_serve_aws(ip_address(address))


async def test_another_endpoint_than_awss_may_be_on_this_machine() -> None:
    async with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as server:
        url = f"http://127.0.0.1:{server.port}"
        fetcher = HttpFetcher(trusted_url=url)
        answer = await fetcher.fetch(f"{url}/x", {}, max_bytes=10, timeout=SOON, allowed_hosts=())
        await fetcher.close()

    assert b"ok" == answer.body


async def test_the_broker_may_be_called_where_loopback_is_opened() -> None:
    """A local run has its receivers beside it."""
    async with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as server:
        url = f"http://127.0.0.1:{server.port}/"
        sender = HttpSender(allow_loopback=True, own_url=url)
        answer = await sender.post(url, {}, b"", timeout=SOON, tenant_id=TENANT)
        await sender.close()

    assert 200 == answer.status


@pytest.mark.parametrize("host", ["hooks.example.com", "256.256.256.256", "0x", "127.0.0.1.example", "1.2.3.4.5", ""])
def test_a_name_is_no_address(host: str) -> None:
    assert literal(host) is None


@pytest.mark.parametrize("address", ["2a00:1450::5efe:8.8.8.8", "2a00:1450::200:5efe:808:808", "2a00:1450::5eff:a00:1"])
def test_an_isatap_address_is_as_public_as_the_one_inside(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "region",
    [
        "127.0.0.1/#",
        "evil.example/?",
        "eu-west-1.evil.example",
        "x@evil.example",
        "eu-west-1:8443",
        "a b",
        "-",
        "\u00fc",
    ],
)
async def test_a_region_cannot_lead_a_call_to_another_host(settings: Settings, region: str) -> None:
    """Regions come out of ARNs that tenants name; the host of a call is made of them."""
    aws = Aws(settings, own=Credentials("AKIAEXAMPLE", "secret"))

    with pytest.raises(Refused, match="egion"):
        await aws.call(
            "sns", "get_topic_attributes", region=region, account_id="111111111111", TopicArn="arn:aws:sns:x"
        )
    await aws.close()


async def test_a_row_that_leads_nowhere_is_no_refusal(doors: Doors) -> None:
    assert ((), "") == await attempt(doors, "delivery", Hostile("", "https://nowhere.example/"))
