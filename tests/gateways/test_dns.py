"""The DNS gateway against a real server on loopback."""

import asyncio
from datetime import timedelta

import pytest

from broker.errors import Refused, Unavailable
from broker.gateways.dns import DnsGateway
from tests.gateways.name_server import Records, name_server

ZONE: Records = {
    ("_dmarc.example.com", "TXT"): ['"v=DMARC1; p=rej" "ect"', '"something else"'],
    ("bounce.example.com", "MX"): ["10 Feedback-SMTP.eu-west-1.amazonses.com."],
}


async def test_strings_of_one_record_are_one_text() -> None:
    """RFC 7208, section 3.3: joined without blanks."""
    async with name_server(ZONE) as server:
        found = await DnsGateway([server]).txt("_dmarc.example.com")

    assert ["something else", "v=DMARC1; p=reject"] == sorted(found)


async def test_mail_hosts_come_in_lower_case_without_the_final_dot() -> None:
    async with name_server(ZONE) as server:
        found = await DnsGateway([server]).mx("bounce.example.com")

    assert ["feedback-smtp.eu-west-1.amazonses.com"] == found


@pytest.mark.parametrize("name", ["nowhere.example.com", "bounce.example.com"])
async def test_what_does_not_exist_has_no_records(name: str) -> None:
    """Neither a name that is not there nor one that has records of another type only."""
    async with name_server(ZONE) as server:
        assert [] == await DnsGateway([server]).txt(name)


@pytest.mark.parametrize("how", [{"silent": True}, {"failing": True}])
async def test_a_server_that_does_not_help_is_unavailable_in_bounded_time(how: dict[str, bool]) -> None:
    """Three times, of which the best counts: a machine that stands still for a while is not the server's fault."""
    loop = asyncio.get_running_loop()
    spent: list[float] = []
    async with name_server(ZONE, **how) as server:
        for _ in range(3):
            began = loop.time()
            with pytest.raises(Unavailable):
                await DnsGateway([server], lifetime=timedelta(seconds=0.3)).txt("_dmarc.example.com")
            spent.append(loop.time() - began)

    assert min(spent) < 1.5


@pytest.mark.parametrize("name", ["a" * 64 + ".example.com", "a..example.com", ".".join(["abcdefgh"] * 40)])
async def test_what_is_no_name_is_refused(name: str) -> None:
    """Labels have 1 to 63 octets, names up to 255 (RFC 1035, section 2.3.4)."""
    async with name_server(ZONE) as server:
        with pytest.raises(Refused):
            await DnsGateway([server]).txt(name)
