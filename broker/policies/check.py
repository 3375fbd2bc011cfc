"""Says what is wrong with terms before anybody can agree to them."""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from broker.policies.arns import IdentityArn, is_domain_name, parse_identity_arn, parse_principal, plain
from broker.policies.compile import MAX_DOCUMENT_BYTES, document, first_second, has_wildcard, statements
from broker.policies.terms import Action, Terms

MAX_ENTRIES = 100  # of any one list; the 4 KB of a document end earlier for almost all of them
MAX_ADDRESS = 320  # RFC 3696, errata 1690: 64 before the "@", 255 behind it
MAX_DISPLAY_NAME = 256
MAX_PRINCIPAL = 640  # IAM: a path of up to 512 and a name of up to 64
MAX_PURPOSE = 500
MAX_RETENTION_DAYS = 365
LAST_YEAR = 9000
MAX_SENDS = 1_000_000_000

_LOCAL_PATTERN = re.compile(r"[!-?A-~]{1,64}")  # visible ASCII without "@"; "*" and "?" are wildcards
_CIDR = re.compile(r"[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?")
# Invisible or direction-changing characters have no business in a name that people approve by looking at it.
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


class Flaw(msgspec.Struct, frozen=True):
    """One reason to refuse terms: a JSON pointer into them (RFC 6901; "" is the whole), and a sentence."""

    pointer: str
    detail: str


def check(terms: Terms, *, identity_arn: str, now: datetime) -> list[Flaw]:
    """Everything that is wrong with these terms on this identity; an empty list means that they may be offered.

    The size of the document is only looked at when nothing else is wrong. ValueError where `identity_arn` is none.
    """
    identity = parse_identity_arn(identity_arn)
    flaws = [
        *_principals(terms, identity),
        *_actions(terms),
        *_each("from_addresses", terms.from_addresses, lambda text: _own_address(text, identity), spelling=True),
        *_each("from_display_names", terms.from_display_names, _display_name, spelling=True),
        *_each(
            "feedback_addresses", terms.feedback_addresses, lambda text: _own_address(text, identity), spelling=True
        ),
        *_each("recipients", terms.recipients, _recipient, spelling=True),
        *_each("source_ips", terms.source_ips, _cidr, same=lambda text: ipaddress.ip_network(text, strict=False)),
        *_window(terms, now),
        *_feedback(terms),
        *_limits(terms),
    ]
    return flaws or list(_size(terms, identity_arn))


def _principals(terms: Terms, identity: IdentityArn) -> Iterator[Flaw]:
    if not terms.principals:
        yield Flaw("/principals", "Name at least one account, IAM user or IAM role that may send.")

    def wrong(text: str) -> str | None:
        if len(text) > MAX_PRINCIPAL:
            return f"A principal has at most {MAX_PRINCIPAL} characters."
        try:
            principal = parse_principal(text)
        except ValueError as error:
            return str(error)
        if principal.kind in ("session", "federated"):
            return "Name the role or the user: a single session cannot be a principal of a grant."
        if principal.partition not in (None, identity.partition):
            return f"The principal is in partition {principal.partition}, the identity in {identity.partition}."
        return None

    yield from _each("principals", terms.principals, wrong, same=plain)


def _actions(terms: Terms) -> Iterator[Flaw]:
    if not terms.actions:
        yield Flaw("/actions", "Name at least one way of sending.")
    yield from _each("actions", terms.actions, lambda _: None)
    if Action.send_bulk in terms.actions and terms.limits_addresses and not terms.accept_unlimited_bulk:
        place = terms.actions.index(Action.send_bulk)
        yield Flaw(
            f"/actions/{place}",
            "SES does not tell a policy the addresses of a SendBulkEmail call, so address limits cannot be put on it: "
            "drop send_bulk, drop the limits, or let the owner set accept_unlimited_bulk.",
        )


def _each(
    field: str,
    values: Sequence[str],
    wrong: Callable[[str], str | None],
    *,
    same: Callable[[str], Hashable] = lambda text: text,
    spelling: bool = False,
) -> Iterator[Flaw]:
    """The flaws of one list: too long, a bad entry, the same entry twice; `spelling` also looks at the characters."""
    if len(values) > MAX_ENTRIES:
        yield Flaw(f"/{field}", f"The list has {len(values)} entries; at most {MAX_ENTRIES} are taken.")
        return
    seen: set[Hashable] = set()
    for place, value in enumerate(values):
        detail = (_misspelt(value) if spelling else None) or wrong(value)
        if detail is None and same(value) in seen:
            detail = "The entry is in the list twice."
        if detail is not None:
            yield Flaw(f"/{field}/{place}", detail)
        else:
            seen.add(same(value))


def _misspelt(text: str) -> str | None:
    if not text or text != text.strip():
        return "The entry is empty, or begins or ends with a blank."
    if "${" in text:
        # From Version 2012-10-17 on this would be read as a policy variable (IAM User Guide,
        # reference_policies_variables).
        return "The entry contains ${, which AWS reads as a policy variable."
    if has_hidden(text):
        return "The entry contains control or invisible characters."
    return None


def has_hidden(text: str) -> bool:
    """Whether the text has control, invisible or direction-changing characters."""
    return any(unicodedata.category(char) in _HIDDEN for char in text)


def _own_address(text: str, identity: IdentityArn) -> str | None:
    """From and Return-Path: SES checks both against the identity whose ARN is passed, so both have to be of it."""
    local, at, domain = text.rpartition("@")
    if len(text) > MAX_ADDRESS:
        return f"An address has at most {MAX_ADDRESS} characters."
    if not at or not _LOCAL_PATTERN.fullmatch(local):
        return "The entry is not an address or pattern of the form name@domain in visible ASCII."
    if has_wildcard(domain):
        return "Wildcards may stand before the @ only: the domain has to be written out."
    if not is_domain_name(domain):
        return f"{domain!r} is not a domain name (internationalised names are written as xn--…)."
    if identity.is_domain:
        inside = domain.lower() == identity.domain or domain.lower().endswith(f".{identity.domain}")
        return None if inside else f"{domain} is neither {identity.name} nor a sub-domain of it."
    if (local, domain.lower()) != (identity.name.rpartition("@")[0], identity.domain):
        # E-mail-address identities are case-sensitive (SES Developer Guide, creating-identities).
        return f"The identity is the single address {identity.name}, and no other can be used with it."
    return None


def _display_name(text: str) -> str | None:
    if len(text) > MAX_DISPLAY_NAME:
        return f"A display name has at most {MAX_DISPLAY_NAME} characters."
    return None


def _recipient(text: str) -> str | None:
    if len(text) > MAX_ADDRESS:
        return f"A recipient pattern has at most {MAX_ADDRESS} characters."
    if not (text.isascii() and text.isprintable()) or " " in text:
        return "A recipient pattern is written in visible ASCII (internationalised domains as xn--…)."
    if "@" not in text and "*" not in text:
        return "The pattern can never match an address: it has neither an @ nor a *."
    return None


def _cidr(text: str) -> str | None:
    try:
        block = ipaddress.ip_network(text, strict=False) if _CIDR.fullmatch(text) else None
    except ValueError:
        block = None
    if block is None:
        return f"{text[:60]!r} is not an IP address or CIDR block."
    if "/" in text and block.network_address != ipaddress.ip_address(text.partition("/")[0]):
        return f"{text} has bits set behind its mask; the block is written {block}."
    return None


def _window(terms: Terms, now: datetime) -> Iterator[Flaw]:
    aware = True
    for field, moment in (("not_before", terms.not_before), ("expires_at", terms.expires_at)):
        if moment is None:
            continue
        if moment.tzinfo is None or moment.utcoffset() is None:
            aware = False
            yield Flaw(f"/{field}", "The time has no offset; write it like 2030-01-31T12:00:00Z.")
        elif not 1970 < moment.year < LAST_YEAR:
            aware = False
            yield Flaw(f"/{field}", f"The year {moment.year} is out of range.")
    if not aware:
        return
    if terms.expires_at.replace(microsecond=0) <= now:
        yield Flaw("/expires_at", "The end has passed already.")
    # The policy holds whole seconds, so a window has to span one.
    if terms.not_before and first_second(terms.not_before) >= terms.expires_at.replace(microsecond=0):
        yield Flaw("/not_before", "The window ends before it begins.")


def _feedback(terms: Terms) -> Iterator[Flaw]:
    feedback = terms.feedback
    yield from _each("feedback/owner_events", feedback.owner_events, lambda _: None)
    yield from _each("feedback/delegate_events", feedback.delegate_events, lambda _: None)
    if not 1 <= feedback.retention_days <= MAX_RETENTION_DAYS:
        yield Flaw("/feedback/retention_days", f"Events are kept for 1 to {MAX_RETENTION_DAYS} days.")
    if len(feedback.purpose) > MAX_PURPOSE:
        yield Flaw("/feedback/purpose", f"The purpose has at most {MAX_PURPOSE} characters.")
    elif has_hidden(feedback.purpose):
        yield Flaw("/feedback/purpose", "The purpose contains control or invisible characters.")


def _limits(terms: Terms) -> Iterator[Flaw]:
    limits = terms.limits
    for field, rate in (("bounce_rate", limits.bounce_rate), ("complaint_rate", limits.complaint_rate)):
        if rate is not None and not 0 < rate <= 1:  # also refuses NaN, which is not less than anything
            yield Flaw(f"/limits/{field}", "A rate is a fraction above 0 and up to 1; 0.05 is five in a hundred.")
    if limits.sends_per_day is not None and not 1 <= limits.sends_per_day <= MAX_SENDS:
        yield Flaw("/limits/sends_per_day", "The number of sends per day is between 1 and 1,000,000,000.")
    if limits.minimum_sends is not None and not 1 <= limits.minimum_sends <= MAX_SENDS:
        yield Flaw(
            "/limits/minimum_sends", "The number of sends that rates are taken of is between 1 and 1,000,000,000."
        )


def _size(terms: Terms, identity_arn: str) -> Iterator[Flaw]:
    text = document(statements(terms, grant_id=UUID(int=0), identity_arn=identity_arn))
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        yield Flaw(
            "",
            f"The policy would have {len(text.encode())} bytes and SES takes {MAX_DOCUMENT_BYTES}: shorten the lists.",
        )
