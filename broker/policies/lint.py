"""Lints the policies of an identity: what SES would refuse, what is dangerous, and what is of no use."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from broker.policies import lint_refused
from broker.policies.arns import IdentityArn, covers, parse_identity_arn
from broker.policies.document import MAX_READ, VARIABLES_SINCE, DocumentError, read
from broker.policies.findings import Code, Finding, Place, Severity, Subject, found
from broker.policies.lint_addresses import addresses
from broker.policies.lint_how import how
from broker.policies.lint_reach import reach
from broker.policies.lint_structure import is_storable
from broker.policies.lint_what import SENDING, permits, what
from broker.policies.lint_who import who

Check = Callable[[Subject], Iterator[Finding]]

_CHECKS: Sequence[Check] = (lint_refused.of_statement, who, what, how, addresses, reach)
MAX_TOGETHER = 400  # statements that are compared with each other; 20 policies of 4 KB hold about 220 that say anything
_ORDER = list(Severity)
_BULK = ("ses:SendBulkEmail", "ses:SendBulkTemplatedEmail")
_VERSIONS = (VARIABLES_SINCE, "2008-10-17")  # IAM User Guide, reference_policies_elements_version


def lint(documents: Mapping[str, str | Mapping[str, object]], *, identity_arn: str, now: datetime) -> list[Finding]:
    """Everything to say about these policies, which hang together on one identity; the worst first.

    `documents` are the policies by name, as text or as decoded JSON. Without an error SES would store them, as far as
    its checks are known. ValueError where `identity_arn` is none.
    """
    identity = parse_identity_arn(identity_arn)
    findings = [*lint_refused.of_set(documents)]
    subjects: list[Subject] = []
    for name, policy in documents.items():
        text = policy if isinstance(policy, str) else _text(policy)
        own = list(lint_refused.of_policy(name, text, identity_arn))
        statements = _subjects(name, text, identity, now)
        own += [finding for subject in statements for check in _CHECKS for finding in check(subject)]
        own += _version(statements)
        findings += [*own, *lint_refused.rest(name, text, identity_arn, own)]
        subjects += statements
    findings += _together(subjects[:MAX_TOGETHER])
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def _text(policy: Mapping[str, object]) -> str:
    try:
        return json.dumps(policy, separators=(",", ":"))
    except RecursionError:
        return "[" * MAX_READ  # whoever reads this says that it is nested too deeply


def is_bad(findings: Sequence[Finding]) -> bool:
    """Whether there is an error or a danger among them."""
    return any(finding.severity in (Severity.error, Severity.danger) for finding in findings)


def _subjects(name: str, text: str, identity: IdentityArn, now: datetime) -> list[Subject]:
    try:
        document = read(text)
    except DocumentError:
        return []
    if not is_storable(text):
        return []
    return [Subject(name, document, statement, identity, now) for statement in document.statements]


def _version(subjects: Sequence[Subject]) -> Iterator[Finding]:
    if not subjects:
        return
    place, document = Place(subjects[0].name), subjects[0].document
    if document.version not in _VERSIONS:
        yield found(
            Code.unknown_version,
            place,
            f"{document.version[:40]!r} is no version of the policy language.",
            f'Write "Version": "{VARIABLES_SINCE}".',
        )
    elif document.version != VARIABLES_SINCE:
        yield found(
            Code.no_version,
            place,
            f"Without Version {VARIABLES_SINCE} the policy is read by the language of 2008.",
            f'Write "Version": "{VARIABLES_SINCE}".',
        )


def _together(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """What only all policies of the identity together show."""
    allows = [subject for subject in subjects if subject.statement.allow]
    denies = [subject for subject in subjects if not subject.statement.allow]
    for subject in allows:
        beside = [other for other in allows if _same_people(subject, other)]
        yield from _raw(subject, beside)
        yield from _pair(subject, beside)
        yield from _denied(subject, denies)


def _denied(subject: Subject, denies: Sequence[Subject]) -> Iterator[Finding]:
    deny = next((each for each in denies if _covers(each, subject)), None)
    if deny is not None:
        yield found(
            Code.denied_anyway,
            subject.place,
            f"Statement {deny.statement.label} of policy {deny.name} denies all of it, and a Deny wins.",
            "Take one of the two out.",
        )


def _same_people(one: Subject, other: Subject) -> bool:
    return all(
        any(kind == also and covers(text, named) for also, text in other.statement.principals)
        for kind, named in one.statement.principals
    )


def _raw(subject: Subject, beside: Sequence[Subject]) -> Iterator[Finding]:
    """SMTP needs ses:SendRawEmail, as does API v2 with raw content (SES Developer Guide, control-user-access)."""
    raw = any(permits(other, "ses:SendRawEmail") for other in beside)
    formatted = any(permits(other, "ses:SendEmail") for other in beside)
    if permits(subject, "ses:SendEmail") and not raw:
        yield found(
            Code.send_without_raw,
            subject.place,
            "SMTP and raw messages, those with attachments in most libraries, are refused: they need ses:SendRawEmail.",
            "Add ses:SendRawEmail, or tell the sender to use SendEmail with simple content only.",
        )
    if permits(subject, "ses:SendRawEmail") and not formatted:
        yield found(
            Code.raw_only,
            subject.place,
            "Only SMTP and raw messages are permitted; SendEmail with simple content is refused.",
            "Add ses:SendEmail if the sender's library uses it.",
        )


def _pair(subject: Subject, beside: Sequence[Subject]) -> Iterator[Finding]:
    """API v2's SendBulkEmail was seen to need both (django-anymail's SES page)."""
    for one, other in (_BULK, _BULK[::-1]):
        if permits(subject, one) and not any(permits(each, other) for each in beside):
            yield found(
                Code.bulk_without_pair,
                subject.place,
                f"{one} is permitted without {other}; API v2's SendBulkEmail needs both.",
                f"Add {other}, or take {one} out if the sender does not send in bulk by API v2.",
            )


def _covers(deny: Subject, allow: Subject) -> bool:
    if deny.statement.conditions or deny.statement.not_principal or allow.statement.not_principal:
        return False
    reached = [name for name in SENDING if permits(allow, name)]
    return bool(reached) and _same_people(allow, deny) and all(permits(deny, name) for name in reached)
