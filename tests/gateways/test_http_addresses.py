"""Which addresses are public: the table that keeps webhooks out of the inside."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.addresses import is_public
from broker.errors import Refused, Unavailable
from broker.gateways.http_names import Names

PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e", "::ffff:8.8.8.8",
          "64:ff9b::8.8.8.8", "2002:808:808::1"]  # fmt: skip

CLOSED = [
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "100::1", "2001:db8::1",
    "2001:2::1", "2001:10::1", "3fff::1", "4000::1", "5f00::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808",
    "2002:7f00:1::1", "2002:a9fe:a9fe::", "2002:a00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo, client 192.0.2.45
    "2001:0:a00:1:8000:63bf:f7f7:f7f7",  # Teredo, server 10.0.0.1, client 8.8.8.8
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_open(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", CLOSED)
def test_an_inside_address_is_closed_however_it_is_wrapped(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_is_closed(address: object) -> None:
    one = ip_address(str(address))
    wrapping = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"), ip_network("2002::/16"))

    if one.is_private or one.is_multicast or one.is_reserved:
        assert any(one in block for block in wrapping) or not is_public(one)


@given(st.ip_addresses(v=4))
def test_a_wrapped_address_is_as_public_as_the_one_inside(inner: object) -> None:
    bare = ip_address(str(inner))
    wrapped = [ip_address(f"::ffff:{inner}"), ip_address(f"64:ff9b::{inner}")]

    assert [is_public(bare)] * 2 == [is_public(address) for address in wrapped]


@pytest.mark.parametrize("inside", ["10.0.0.1", "::ffff:10.0.0.1", "127.0.0.1", "fd00::1"])
@pytest.mark.parametrize("last", [True, False])
async def test_one_inside_address_among_public_ones_closes_the_whole_name(inside: str, *, last: bool) -> None:
    answers = ["8.8.8.8", inside] if last else [inside, "8.8.8.8"]
    names = Names(is_public, look_up=lambda *_: answers)

    with pytest.raises(Refused):
        await names.addresses("rebound.example", 443)
    names.close()


async def test_public_addresses_are_given_once_and_in_order() -> None:
    names = Names(is_public, look_up=lambda *_: ["1.1.1.1", "8.8.8.8", "1.1.1.1"])

    found = await names.addresses("two.example", 443)
    names.close()

    assert ("1.1.1.1", "8.8.8.8") == found


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "nothing.invalid"])
async def test_a_name_without_an_address_is_unavailable(host: str) -> None:
    names = Names(is_public)

    with pytest.raises(Unavailable):
        await names.addresses(host, 443)
    names.close()
