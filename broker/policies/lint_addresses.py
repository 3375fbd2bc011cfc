"""Finds patterns of addresses and display names that match something else than was meant."""

import re
from collections.abc import Iterator

from broker.policies.arns import is_address
from broker.policies.compile import has_wildcard
from broker.policies.document import Condition
from broker.policies.findings import Code, Finding, Subject, found, is_negated
from broker.policies.lint_what import ADDRESS_KEYS, SENDING, permits
from broker.policies.patterns import within
from broker.policies.wording import listed

_REGEX = re.compile(r"\.[*+](?!$)|^[^@]*\.[*+]$|\\|\[.*\]|^\^|\$$|\(.*\||\{[0-9,]+\}")
_LOOSE = re.compile(r"\*[A-Za-z0-9?-]+(\.[A-Za-z0-9?-]+)+|.*@.*\*", re.DOTALL)  # *example.org, *@example.*
_EXACT = ("stringequals", "stringnotequals", "stringequalsignorecase", "stringnotequalsignorecase")


def addresses(subject: Subject) -> Iterator[Finding]:
    """Everything about the values of SES's address keys in one statement."""
    if subject.statement.allow:
        yield from _from_limit(subject)
    yield from _identity(subject)
    for condition in subject.on(*ADDRESS_KEYS):
        yield from _patterns(subject, condition)
        if is_negated(condition):
            yield from _exclusion(subject, condition)
        elif condition.key.lower() != "ses:fromdisplayname":
            yield from _domains(subject, condition)
        if condition.key.lower() == "ses:fromaddress" and not is_negated(condition):
            yield from _outside(subject, condition)


def _from_limit(subject: Subject) -> Iterator[Finding]:
    """A domain covers every address and sub-domain (SES Developer Guide, creating-identities)."""
    sends = [name for name in SENDING if name != "ses:SendBulkEmail" and permits(subject, name)]
    if not subject.identity.is_domain or not sends:
        return
    domain = subject.identity.name
    limits = [each for each in subject.on("ses:fromaddress") if not _limits_nothing(each, domain)]
    if not limits:
        yield found(
            Code.no_from_limit,
            subject.place,
            f"They may send as any address of {domain} and of its sub-domains, security@ and ceo@ included.",
            f'Add "StringEquals": {{"ses:FromAddress": "newsletter@{domain}"}} with the addresses that are meant.',
        )
    for condition in limits:
        if condition.operator == "stringlike" and f"*@{domain}" in [value.lower() for value in condition.values]:
            yield found(
                Code.any_local_part,
                subject.at(condition),
                f"They may send as any address of {domain} itself, security@ and ceo@ included.",
                "Name the addresses that are meant.",
            )


def _limits_nothing(condition: Condition, domain: str) -> bool:
    # A negated one excludes something, and has findings of its own; to the others a star is a star.
    if condition.operator != "stringlike":
        return False
    return any(within(f"*@{domain}", value) and within(f"*@*.{domain}", value) for value in condition.values)


def _identity(subject: Subject) -> Iterator[Finding]:
    """Which policies count for an address beside its domain: the page and a field test disagree
    (sending-authorization-identity-owner-tasks-policy; amazon-ses-developer-guide, issue 13)."""
    identity = subject.identity
    if identity.is_domain:
        return
    if subject.statement.allow:
        yield found(
            Code.address_identity,
            subject.place,
            f"By AWS's page the policies of {identity.name} outrank those of {identity.domain}; as tested by users, "
            "SES asks the identity whose ARN the sender passes.",
            f"Keep the rules of {identity.name} and {identity.domain} equal, or let only one of them have policies.",
        )
    else:
        yield found(
            Code.deny_on_address,
            subject.place,
            f"By AWS's page this Deny outranks the policies of {identity.domain}; as tested by users, whoever is "
            f"allowed on {identity.domain} passes that ARN instead and sends as {identity.name} all the same.",
            f"Exclude the address by ses:FromAddress in the policies of {identity.domain}.",
        )


def _patterns(subject: Subject, condition: Condition) -> Iterator[Finding]:
    place, values = subject.at(condition), condition.values
    if regex := [value[:80] for value in values if _REGEX.search(value.replace("${", ""))]:
        yield found(
            Code.regex_pattern,
            place,
            f"{listed(regex)} looks like a regular expression; here only * and ? are wildcards, and a dot is a dot.",
            f"Write {listed([re.sub(r'[.][*+]', '*', value) for value in regex])} for any text at that place.",
        )
    if condition.operator in _EXACT and (wild := [value[:80] for value in values if has_wildcard(value)]):
        yield found(
            Code.wildcard_not_read,
            place,
            f"{condition.written} takes the * and ? in {listed(wild)} literally.",
            "Use StringLike or StringNotLike for wildcards.",
        )
    if condition.operator in ("stringlike", "stringnotlike") and condition.key.lower() == "ses:fromdisplayname":
        yield from _exact(subject, condition)
    yield from _case(subject, condition)


def _exact(subject: Subject, condition: Condition) -> Iterator[Finding]:
    plain = [value[:80] for value in condition.values if not has_wildcard(value)]
    if plain:
        yield found(
            Code.exact_match,
            subject.at(condition),
            f"Without a wildcard {condition.written} compares the whole name: only "
            f"{listed(plain, last='or')} itself fits.",
            f"Write {listed([f'*{value}*' for value in plain])} for a name that contains it, "
            "or StringEquals for the whole name.",
        )


def _case(subject: Subject, condition: Condition) -> Iterator[Finding]:
    if condition.key.lower() == "ses:fromdisplayname" or "ignorecase" in condition.operator:
        return
    upper = [value[:80] for value in condition.values if value != value.lower() and "${" not in value]
    if upper:
        yield found(
            Code.address_case,
            subject.at(condition),
            f"{listed(upper)} has upper-case letters; SES compares addresses letter for letter.",
            "Write the addresses as the sender writes them, which is nearly always in lower case.",
        )


def _exclusion(subject: Subject, condition: Condition) -> Iterator[Finding]:
    yield found(
        Code.exclusion_by_spelling,
        subject.at(condition),
        f"{listed([value[:80] for value in condition.values])} excludes one spelling: other letter cases get through, "
        "and a wildcard also hits names that merely contain the letters.",
        "Say what is allowed instead of what is not.",
    )


def _domains(subject: Subject, condition: Condition) -> Iterator[Finding]:
    loose = [value[:80] for value in condition.values if _LOOSE.fullmatch(value)]
    if loose and subject.statement.allow and condition.operator not in _EXACT:
        yield found(
            Code.loose_domain,
            subject.at(condition),
            f"{listed(loose)} also fits domains that merely begin or end like it, which anybody can register.",
            "Write *@example.com for the domain and *@*.example.com for its sub-domains.",
        )


def _outside(subject: Subject, condition: Condition) -> Iterator[Finding]:
    identity = subject.identity
    foreign = [value[:80] for value in condition.values if is_address(value) and not _belongs(subject, value)]
    if foreign:
        yield found(
            Code.from_outside_identity,
            subject.at(condition),
            f"{listed(foreign)} is no address of {identity.name}: SES never asks this policy about it.",
            f"Name addresses of {identity.name}.",
        )


def _belongs(subject: Subject, address: str) -> bool:
    if not subject.identity.is_domain:
        return has_wildcard(address) or address == subject.identity.name
    domain = address.rpartition("@")[2].lower()
    return has_wildcard(domain) or f".{domain}".endswith(f".{subject.identity.domain}")
