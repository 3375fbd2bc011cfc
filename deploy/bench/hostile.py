"""URLs with which a tenant would reach the inside through us: one table, by the trick that each of them is.

A name's answers are scripted, one tuple for each look-up, the last one for all that follow; addresses in whatever
writing go to the system's own resolver.
"""

import msgspec

GOOD = "93.184.216.34"
"""A public address. What leads only to such ones is no attack."""

OWN_HOST = "broker.example.com"
OWN_ADDRESS = "198.41.0.4"
"""Where the broker of the table is reached, itself public."""


class Hostile(msgspec.Struct, frozen=True):
    """One URL. `answers`: what the DNS says of its host; `dials`: what may be called nonetheless, as it was checked."""

    trick: str
    url: str
    answers: tuple[tuple[str, ...], ...] = ()
    dials: tuple[str, ...] = ()


_HOSTS: dict[str, tuple[str, ...]] = {
    "special IPv4 (RFC 6890)": (
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "127.0.0.1", "127.255.255.254",  # noqa: S104 - to be refused
        "169.254.0.1",
        "172.16.0.1", "172.31.255.254", "192.0.0.1", "192.0.0.170", "192.88.99.1", "192.168.0.1", "192.168.255.254",
    ),
    "carrier-grade NAT (RFC 6598)": ("100.64.0.1", "100.127.255.254"),
    "benchmarks (RFC 2544)": ("198.18.0.1", "198.19.255.254"),
    "documentation (RFC 5737, 3849, 9637)": (
        "192.0.2.1", "198.51.100.1", "203.0.113.1", "[2001:db8::1]", "[3fff::1]",
    ),
    "multicast and broadcast": (
        "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "[ff02::1]", "[ff05::1:3]", "[ff0e::1]",
    ),
    "cloud metadata": (
        "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "192.0.0.192", "[fd00:ec2::254]",
        "[fd00:ec2::23]", "[fd20:ce::254]", "[fe80::a9fe:a9fe]",
    ),
    "IPv4 as one integer": ("2130706433", "2852039166", "3232235521", "167772161", "0", "00"),
    "IPv4 in hex": (
        "0x7f000001", "0X7F000001", "0x7f.0x0.0x0.0x1", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0xc0a80001", "0x0",
    ),
    "IPv4 in octal": (
        "017700000001", "0177.0.0.1", "0177.0.0.01", "00000177.0.0.1", "0251.0376.0251.0376", "025177524776",
        "012.0.0.1",
    ),
    "IPv4 with fewer parts": ("127.1", "127.0.1", "10.1", "192.168.257", "169.254.43518", "169.16689662", "0.0"),
    "IPv4 of mixed bases": ("0x7f.1", "0177.1", "0177.0x0.1", "0xa9.254.0251.254", "127.0x1", "0x7f.0.1"),
    "special IPv6 (RFC 6890)": (
        "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[fe80::1]", "[febf::1]", "[fec0::1]", "[fc00::1]",
        "[fd00::1]", "[100::1]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[2620:4f:8000::1]", "[4000::1]",
        "[5f00::1]",
    ),
    "IPv4-mapped (RFC 4291)": (
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:10.0.0.1]", "[::FFFF:192.168.0.1]",
    ),
    "IPv4-compatible (RFC 4291)": (
        "[::127.0.0.1]", "[::7f00:1]", "[::169.254.169.254]", "[::a9fe:a9fe]", "[::8.8.8.8]",
    ),
    "IPv4-translated (RFC 2765)": ("[::ffff:0:127.0.0.1]", "[::ffff:0:a9fe:a9fe]"),
    "NAT64 (RFC 6052, 8215)": (
        "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::a9fe:a9fe]",
        "[64:ff9b:1::8.8.8.8]", "[64:ff9b:1:ffff::1]", "[64:ff9b:2::1]",
    ),
    "6to4 (RFC 3056)": ("[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:c0a8:1::1]", "[2002:a00:1::]"),
    "Teredo (RFC 4380)": (
        "[2001:0:4136:e378:8000:63bf:5601:5601]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
        "[2001:0:7f00:1:8000:63bf:f7f7:f7f7]", "[2001:0:a9fe:a9fe:0:0:f7f7:f7f7]",
    ),
    "ISATAP (RFC 5214)": ("[2a00:1450::5efe:10.0.0.1]", "[2a00:1450::200:5efe:a9fe:a9fe]", "[fe80::5efe:127.0.0.1]"),
    "zone ids (RFC 6874)": (
        "[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1%25lo]", "[::1%lo]", "[ff02::1%25eth0]", "[fe80::1%251]",
    ),
    "other scripts' forms": (
        "\uff11\uff12\uff17.0.0.1", "\uff11\uff12\uff17\uff0e\uff10\uff0e\uff10\uff0e\uff11",
        "127\u30020\u30020\u30021", "127\uff610\uff610\uff611", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
        "\u00b9\u00b2\u2077.0.0.1",
        "\U0001d7cf\U0001d7d0\U0001d7d5.\U0001d7ce.\U0001d7ce.\U0001d7cf", "\uff10\uff58\uff17\uff46\uff0e\uff11",
        "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
        "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54",
        "lo\u00adcalhost", "local\u200bhost", "127.0.0.1\uff0f.example.com", "8.8.8.8\uff20127.0.0.1",
        "127.0.0.1\uff0500.example.com",
    ),
    "user information": (
        "8.8.8.8@127.0.0.1", "user:password@127.0.0.1", "@127.0.0.1", ":@127.0.0.1", "hooks.example.com:443@127.0.0.1",
        "a@b@127.0.0.1", "127.0.0.1;@8.8.8.8", "hooks.example.com%40127.0.0.1", "user@hooks.example.com",
    ),
    "trailing dots": ("127.0.0.1.", "169.254.169.254.", "2130706433.", "127.0.0.1..", "localhost.", "0x7f.1.", "..."),
    "percent-encoding": (
        "%31%32%37.0.0.1", "127.0.0.1%00.example.com", "127.0.0.1%2eexample.com", "%6c%6fcalhost", "127%2e0%2e0%2e1",
        "127.0.0.1%23.example.com", "127.0.0.1%0d%0a.example.com", "%5B::1%5D", "127.0.0.1%2f.example.com",
    ),
    "backslashes": ("8.8.8.8\\@127.0.0.1", "127.0.0.1\\.example.com", "8.8.8.8\\127.0.0.1", "\\127.0.0.1"),
    "white space and controls": (
        "127.0.0.1\t", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1\r\n", "127.0\n.0.1", "127.0.0.1\u00a0", "127.0.0.1\u3000",
        "127.0.0.1\0", "127.0.0.1\x0b", "127.0.0.1\x7f", "127.0.0.1\u2028", "8.8.8.8 127.0.0.1",
    ),
    "the end of the authority": (
        "127.0.0.1#@8.8.8.8", "127.0.0.1?@8.8.8.8", "127.0.0.1/@8.8.8.8", "127.0.0.1:443#.example.com", "127.0.0.1:",
    ),
    "brackets": ("[::1", "::1", "[127.0.0.1]", "[[::1]]", "[::1].example.com", "[v1.127.0.0.1]", "[]"),
    "ports": (
        "8.8.8.8:22", "8.8.8.8:25", "8.8.8.8:80", "8.8.8.8:5432", "8.8.8.8:6379", "8.8.8.8:9200", "8.8.8.8:0",
        "8.8.8.8:65536", "8.8.8.8:-1", "8.8.8.8:+443", "8.8.8.8:443:22", "8.8.8.8:\uff18\uff14\uff14\uff13",
        "8.8.8.8:0x1bb", "127.0.0.1:8443", "[::1]:8443",
    ),
    "the broker itself": (
        OWN_HOST, OWN_HOST.upper() + ".", f"{OWN_HOST}:8443", OWN_ADDRESS, "0xc6290004", "3324575748",
    ),
}  # fmt: skip

_URLS: dict[str, tuple[str, ...]] = {
    "schemes": (
        "http://8.8.8.8/", "HTTP://127.0.0.1/", "http://8.8.8.8:443/", "ftp://8.8.8.8/", "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL", "dict://127.0.0.1:11211/stats", "ldap://127.0.0.1/", "ws://127.0.0.1/",
        "data:text/plain,x", "javascript:fetch('/')", "jar:https://127.0.0.1!/", "unix:/run/docker.sock",
        "netdoc:///etc/passwd", "https+unix://%2frun%2fdocker.sock/",
    ),
    "no authority": (
        "", "https:", "https://", "https:///127.0.0.1/", "https:127.0.0.1", "https:/127.0.0.1/", "//127.0.0.1/",
        "/latest/meta-data/", "127.0.0.1", "https:\\\\127.0.0.1\\", "https:/\\127.0.0.1/", "https://?x", "https://#x",
    ),
    "white space around the URL": (
        " https://127.0.0.1/", "\nhttps://127.0.0.1/", "ht\ntps://127.0.0.1/", "\x00https://127.0.0.1/",
        "\ufeffhttps://127.0.0.1/", "https\t://127.0.0.1/",
    ),
}  # fmt: skip

_NAMES: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "names of the inside": {
        "localhost": (("127.0.0.1", "::1"),),
        "LOCALHOST": (("127.0.0.1",),),
        "localhost.localdomain": (("127.0.0.1",),),
        "ip6-localhost": (("::1",),),
        "printer.local": (("192.168.1.7",),),
        "metadata.google.internal": (("169.254.169.254",),),
        "metadata.google.internal.": (("169.254.169.254",),),
        "instance-data.ec2.internal": (("169.254.169.254",),),
        "kubernetes.default.svc": (("10.96.0.1",),),
        "host.docker.internal": (("192.168.65.2",),),
        "postgres": (("172.18.0.2",),),
    },
    "public names that lead inside": {
        "localtest.me": (("127.0.0.1", "::1"),),
        "127.0.0.1.nip.io": (("127.0.0.1",),),
        "169-254-169-254.sslip.io": (("169.254.169.254",),),
        "link.example": (("fe80::1%eth0",),),
        "nat64.example": (("64:ff9b::a9fe:a9fe",),),
        "b\u00fccher.example": (("10.0.0.1",),),
        "xn--bcher-kva.example.": (("10.0.0.1",),),
        "\u0661\u0662\u0667.0.0.1": (("127.0.0.1",),),
        "us.example": ((OWN_ADDRESS,),),
    },
    "mixed answers": {
        "bad-last.example": ((GOOD, "127.0.0.1"),),
        "bad-first.example": (("127.0.0.1", GOOD),),
        "mapped.example": ((GOOD, "::ffff:10.0.0.1"),),
        "six.example": (("2606:4700::1111", "fd00::1"),),
        "translated.example": ((GOOD, "64:ff9b::a9fe:a9fe"),),
        "many.example": (("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "0.0.0.0"),),  # noqa: S104 - as above
        "partly-us.example": ((GOOD, OWN_ADDRESS),),
    },
    "rebinding": {
        "rebound.example": ((GOOD,), ("127.0.0.1",)),
        "to-metadata.example": ((GOOD,), ("169.254.169.254",)),
        "to-six.example": ((GOOD,), (GOOD, "::1")),
        "to-us.example": ((GOOD,), (OWN_ADDRESS,)),
        "there-and-back.example": ((GOOD,), ("10.0.0.1",), (GOOD,)),
    },
}


def _table() -> tuple[Hostile, ...]:
    hosts = [Hostile(trick, f"https://{host}/") for trick, listed in _HOSTS.items() for host in listed]
    urls = [Hostile(trick, url) for trick, listed in _URLS.items() for url in listed]
    names = [
        Hostile(trick, f"https://{name}/", answers, (GOOD,) if trick == "rebinding" else ())
        for trick, listed in _NAMES.items()
        for name, answers in listed.items()
    ]
    return (*hosts, *urls, *names)


HOSTILE = _table()
"""Every URL of the table."""
