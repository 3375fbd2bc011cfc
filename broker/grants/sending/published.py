"""What the DNS says about mail from a domain: DMARC, DKIM's alignment, and the MAIL FROM domain's MX and SPF."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from broker.errors import Refused, Unavailable
from broker.grants.sending.items import Item, aside, ok, unknown, warning

DEADLINE = timedelta(seconds=3)  # for all questions together, which are asked at the same time
_ANSWERS = "Ask again later, or look it up yourself: dig {} {}"
MOST_LABELS = 8


class Resolver(Protocol):
    """The DNS. Raises `Unavailable` or `Refused`; a name without records, or that does not exist, has an empty list."""

    async def txt(self, name: str) -> Sequence[str]: ...

    async def mx(self, name: str) -> Sequence[str]: ...


class Question(msgspec.Struct, frozen=True):
    """Whose records: the domain of From, and the identity with what SES said of it (None: not known).

    `signs`: SES signs with the identity's own DKIM key. `mail_from`: the custom MAIL FROM domain, "" for none.
    """

    from_domain: str
    identity_domain: str
    region: str
    signs: bool | None = None
    mail_from: str | None = None


class Dmarc(msgspec.Struct, frozen=True):
    """A DMARC record as it applies to a domain (RFC 7489, section 6.3)."""

    at: str
    policy: str
    strict_dkim: bool
    strict_spf: bool


async def look_up(resolver: Resolver, asked: Question, *, deadline: timedelta = DEADLINE) -> list[Item]:
    """Items for all of it; never an error: what the DNS does not tell in time is `unknown`."""

    async def within(check: Callable[[], Awaitable[list[Item]]], code: str, name: str, kind: str) -> list[Item]:
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                return await check()
        except (Unavailable, Refused, TimeoutError):
            how = _ANSWERS.format(name, kind)
            return [aside(unknown(code, f"The DNS does not answer for {name}.", how))]

    checks = [within(lambda: _dmarc_items(resolver, asked), "dmarc", f"_dmarc.{asked.from_domain}", "TXT")]
    if asked.mail_from:
        name = asked.mail_from
        checks.append(within(lambda: _mx_items(resolver, name, asked.region), "mail_from_mx", name, "MX"))
        checks.append(within(lambda: _spf_items(resolver, name), "mail_from_spf", name, "TXT"))
    elif asked.mail_from == "":
        checks.append(_without_mail_from())
    found = await asyncio.gather(*checks)
    return [item for items in found for item in items]


async def _dmarc_items(resolver: Resolver, asked: Question) -> list[Item]:
    found = await _dmarc(resolver, asked.from_domain)
    if isinstance(found, Item):
        return [found, *_alignment(asked, None)]
    said = ok("dmarc", f"The DMARC policy for {asked.from_domain} is {found.policy} (record at {found.at}).")
    return [aside(said), *_alignment(asked, found)]


async def _dmarc(resolver: Resolver, domain: str) -> Dmarc | Item:
    """The nearest record at the domain or above it; `sp` speaks for sub-domains (RFC 7489, section 6.6.3).

    The RFC jumps to the organizational domain, which takes a list of public suffixes; walking up finds the same record
    unless a domain between publishes one of its own.
    """
    labels = domain.split(".")[-MOST_LABELS:]
    for start in range(len(labels) - 1):
        name = f"_dmarc.{'.'.join(labels[start:])}"
        records = [text for text in await resolver.txt(name) if text.replace(" ", "").lower().startswith("v=dmarc1")]
        if len(records) > 1:
            return warning("dmarc", f"{name} has {len(records)} DMARC records, so none counts.", "Keep one of them.")
        if records:
            tags = _tags(records[0])
            policy = tags.get("p", "none")
            return Dmarc(
                at=name,
                policy=tags.get("sp", policy) if start else policy,
                strict_dkim=tags.get("adkim") == "s",
                strict_spf=tags.get("aspf") == "s",
            )
    fix = f"The owner adds a TXT record at _dmarc.{domain}, such as v=DMARC1; p=none; rua=mailto:reports@{domain}"
    return warning("dmarc", f"{domain} has no DMARC record, which large receivers ask of bulk mail.", fix)


def _alignment(asked: Question, dmarc: Dmarc | None) -> Iterator[Item]:
    code, strict = "dkim_alignment", dmarc is not None and dmarc.strict_dkim
    if asked.signs is None:
        how = "The owner looks at dkim and dkim_signing of the identity."
        yield aside(unknown(code, "Whether SES signs with the owner's DKIM key is not known.", how))
    elif not asked.signs:
        # Without a key of the identity SES signs with its own domain only, which never aligns with From.
        sentence = f"SES does not sign with a key of {asked.identity_domain}, so no signature aligns with From."
        yield warning(code, sentence, "The owner sets up Easy DKIM on the identity and publishes its records.")
    elif strict and asked.from_domain != asked.identity_domain:
        sentence = (
            f"DMARC asks for strict alignment (adkim=s), and SES signs {asked.from_domain} as {asked.identity_domain}."
        )
        yield warning(code, sentence, f"Verify {asked.from_domain} as an identity of its own, or relax adkim.")
    else:
        yield aside(ok(code, f"The signature of {asked.identity_domain} aligns with From."))


async def _mx_items(resolver: Resolver, name: str, region: str) -> list[Item]:
    """SES Developer Guide, mail-from: one MX record, to the Region's own feedback host."""
    wanted, hosts = f"feedback-smtp.{region}.amazonses.com", await resolver.mx(name)
    if wanted not in hosts:
        held = f"points to {', '.join(sorted(hosts)[:3])}" if hosts else "has no MX record"
        fix = f"The owner sets one MX record at {name}: 10 {wanted}"
        return [warning("mail_from_mx", f"The MAIL FROM domain {name} {held}.", fix)]
    if len(hosts) > 1:
        fix = f"The owner leaves {wanted} alone there."
        return [
            warning("mail_from_mx", f"The MAIL FROM domain {name} has {len(hosts)} MX records; SES wants one.", fix)
        ]
    return [aside(ok("mail_from_mx", f"The MX record of {name} points to SES."))]


async def _spf_items(resolver: Resolver, name: str) -> list[Item]:
    """RFC 7208, sections 3.2 and 4.5; SES Developer Guide, mail-from."""
    records = [
        text for text in await resolver.txt(name) if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")
    ]
    fix = f'The owner sets one TXT record at {name}: "v=spf1 include:amazonses.com ~all"'
    if len(records) != 1:
        held = f"{len(records)} SPF records, which is an error" if records else "no SPF record"
        return [warning("mail_from_spf", f"The MAIL FROM domain {name} has {held}.", fix)]
    if not {"include:amazonses.com", "+include:amazonses.com"} & set(records[0].lower().split()):
        return [warning("mail_from_spf", f"The SPF record of {name} does not include amazonses.com.", fix)]
    return [aside(ok("mail_from_spf", f"The SPF record of {name} includes SES."))]


async def _without_mail_from() -> list[Item]:
    sentence = "The identity has no MAIL FROM domain of its own: SPF passes for amazonses.com, and DMARC rests on DKIM."
    return [aside(ok("mail_from_mx", sentence))]


def _tags(record: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
