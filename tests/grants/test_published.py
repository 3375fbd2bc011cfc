"""What is made of the DNS: DMARC, alignment, MAIL FROM and SPF; and of a DNS that does not answer."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from broker.errors import Refused, Unavailable
from broker.gateways.dns import DnsGateway
from broker.grants.sending.items import Item
from broker.grants.sending.published import Question, look_up
from tests.gateways.name_server import name_server

GOOD: Mapping[str, Sequence[str]] = {
    "TXT _dmarc.example.com": ["v=DMARC1; p=reject"],
    "MX bounce.example.com": ["feedback-smtp.eu-west-1.amazonses.com"],
    "TXT bounce.example.com": ["v=spf1 include:amazonses.com ~all", "other=1"],
}
ASKED = Question(
    from_domain="example.com",
    identity_domain="example.com",
    region="eu-west-1",
    signs=True,
    mail_from="bounce.example.com",
)


class Fake:
    """Records as given; an exception instead of records is raised."""

    def __init__(self, records: Mapping[str, Sequence[str] | Exception]) -> None:
        self._records = records

    async def txt(self, name: str) -> Sequence[str]:
        return self._found(f"TXT {name}")

    async def mx(self, name: str) -> Sequence[str]:
        return self._found(f"MX {name}")

    def _found(self, key: str) -> Sequence[str]:
        found = self._records.get(key, [])
        if isinstance(found, Exception):
            raise found
        return found


class Late:
    """Answers in a second."""

    async def txt(self, name: str) -> Sequence[str]:
        await asyncio.sleep(1)
        return []

    async def mx(self, name: str) -> Sequence[str]:
        return await self.txt(name)


def by_code(items: Sequence[Item]) -> dict[str, str]:
    return {item.code: item.status.value for item in items}


async def asked(records: Mapping[str, Any], **changes: Any) -> dict[str, str]:
    return by_code(await look_up(Fake({**GOOD, **records}), msgspec.structs.replace(ASKED, **changes)))


async def test_a_domain_in_order_has_four_good_items() -> None:
    assert {"dmarc": "ok", "dkim_alignment": "ok", "mail_from_mx": "ok", "mail_from_spf": "ok"} == await asked({})


@pytest.mark.parametrize(
    ("records", "changes", "code", "status"),
    [
        ({"TXT _dmarc.example.com": []}, {}, "dmarc", "problem"),
        ({"TXT _dmarc.example.com": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]}, {}, "dmarc", "problem"),
        ({"TXT _dmarc.example.com": ["V=DMARC1;p=quarantine"]}, {}, "dmarc", "ok"),
        ({}, {"from_domain": "news.example.com"}, "dkim_alignment", "ok"),
        (
            {"TXT _dmarc.example.com": ["v=DMARC1; p=reject; adkim=s"]},
            {"from_domain": "news.example.com"},
            "dkim_alignment",
            "problem",
        ),
        ({}, {"signs": False}, "dkim_alignment", "problem"),
        ({}, {"signs": None}, "dkim_alignment", "unknown"),
        ({"MX bounce.example.com": []}, {}, "mail_from_mx", "problem"),
        ({"MX bounce.example.com": ["feedback-smtp.us-east-1.amazonses.com"]}, {}, "mail_from_mx", "problem"),
        (
            {"MX bounce.example.com": ["feedback-smtp.eu-west-1.amazonses.com", "mx.example.com"]},
            {},
            "mail_from_mx",
            "problem",
        ),
        ({"TXT bounce.example.com": []}, {}, "mail_from_spf", "problem"),
        ({"TXT bounce.example.com": ["v=spf1 -all"]}, {}, "mail_from_spf", "problem"),
        ({"TXT bounce.example.com": ["v=spf1 include:amazonses.com", "v=spf1 -all"]}, {}, "mail_from_spf", "problem"),
        ({}, {"mail_from": ""}, "mail_from_mx", "ok"),
        ({"TXT _dmarc.example.com": Unavailable("no")}, {}, "dmarc", "unknown"),
        ({"MX bounce.example.com": Refused("no")}, {}, "mail_from_mx", "unknown"),
    ],
)
async def test_each_record_is_judged(
    records: Mapping[str, Any], changes: Mapping[str, Any], code: str, status: str
) -> None:
    """RFC 7489, section 6.6.3; RFC 7208, section 4.5; SES Developer Guide, mail-from."""
    assert status == (await asked(records, **changes))[code]


async def test_a_sub_domain_takes_the_policy_that_the_record_above_has_for_it() -> None:
    """The tag `sp` (RFC 7489, section 6.3)."""
    records = {**GOOD, "TXT _dmarc.example.com": ["v=DMARC1; p=reject; sp=quarantine"]}

    found = await look_up(Fake(records), msgspec.structs.replace(ASKED, from_domain="news.example.com"))

    assert "is quarantine" in found[0].sentence


async def test_nothing_of_the_dns_stops_a_send() -> None:
    """SES does not look there when it takes a mail, whatever becomes of it."""
    found = await look_up(Fake({}), ASKED)

    assert {False} == {item.stops for item in found}
    assert all(item.fix for item in found if item.status != "ok")


async def test_a_dns_that_answers_after_the_deadline_is_unknown() -> None:
    """However slow this machine is: of two timers the earlier one is first."""
    found = await look_up(Late(), ASKED, deadline=timedelta(seconds=0.1))

    assert {"dmarc": "unknown", "mail_from_mx": "unknown", "mail_from_spf": "unknown"} == by_code(found)


async def test_the_gateway_is_such_a_resolver() -> None:
    """The same zone, from a server on loopback."""
    zone = {
        ("_dmarc.example.com", "TXT"): ['"v=DMARC1; p=reject"'],
        ("bounce.example.com", "MX"): ["10 feedback-smtp.eu-west-1.amazonses.com."],
        ("bounce.example.com", "TXT"): ['"v=spf1 include:amazonses.com ~all"'],
    }
    async with name_server(zone) as server:
        found = await look_up(DnsGateway([server]), ASKED)

    assert {"ok"} == set(by_code(found).values())
