"""Finds what SES refuses when a policy is stored; this alone makes an error of the linter."""

import re
from collections.abc import Iterable, Iterator, Mapping

from broker.policies.arns import ANYBODY, parse_principal
from broker.policies.compile import MAX_DOCUMENT_BYTES
from broker.policies.document import MAX_READ, Document, DocumentError, Statement, read
from broker.policies.findings import Code, Finding, Place, Severity, Subject, found
from broker.policies.lint_structure import close_to, unreadable
from broker.policies.validate import KNOWN_KEYS, refusals

MAX_POLICIES = 20  # of one identity (SES Developer Guide, policy-anatomy)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SID = re.compile(r"[A-Za-z0-9]*")
_ACTION = re.compile(r"ses:[A-Za-z*?]+", re.IGNORECASE)
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com(\.cn)?")
UNIQUE_ID = re.compile(r"A(ID|RO)A[A-Z0-9]{12,20}")  # what IAM puts in place of a principal that was deleted


def of_set(documents: Mapping[str, object]) -> Iterator[Finding]:
    """More policies than an identity takes."""
    if len(documents) > MAX_POLICIES:
        yield found(
            Code.too_many_policies,
            Place(list(documents)[MAX_POLICIES]),
            f"There are {len(documents)} policies; an identity takes {MAX_POLICIES}.",
            "Put several statements into one policy.",
        )


def of_policy(name: str, text: str, identity_arn: str) -> Iterator[Finding]:
    """The name, the size, and what keeps the document from being read."""
    place = Place(name)
    if not _NAME.fullmatch(name):
        yield found(
            Code.policy_name,
            place,
            f"{name[:80]!r} is no name of a policy: it has 1 to 64 letters, digits, dashes and underscores.",
            "Choose another name.",
        )
    yield from _size(place, text)
    try:
        document = read(text)
    except DocumentError as error:
        yield from unreadable(place, text, str(error)) if len(text) <= MAX_READ else ()
        return
    yield from _sids(place, document)


def rest(name: str, text: str, identity_arn: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """What the model of SES refuses although no check here has found an error."""
    if not any(each.severity is Severity.error for each in findings):
        for sentence in refusals(text, identity_arn=identity_arn, name=name):
            yield found(Code.refused, Place(name), sentence, "Change what the sentence names.")


def _size(place: Place, text: str) -> Iterator[Finding]:
    size = len(text.encode(errors="replace"))
    if size > MAX_DOCUMENT_BYTES:
        yield found(
            Code.too_large,
            place,
            f"The policy has {size} bytes; SES takes {MAX_DOCUMENT_BYTES}.",
            "Leave white space out, join statements that say the same, or spread them over several policies.",
        )


def _sids(place: Place, document: Document) -> Iterator[Finding]:
    seen: set[str] = set()
    for statement in document.statements:
        if statement.sid and statement.sid in seen:
            yield found(
                Code.duplicate_sid,
                Place(place.policy, statement.sid),
                f"The Sid {statement.sid[:80]!r} is used twice in one policy.",
                "Give each statement a Sid of its own, or none.",
            )
        seen.add(statement.sid or "")


def of_statement(subject: Subject) -> Iterator[Finding]:
    """Principals, actions, the resource and the keys of one statement that could be read."""
    statement, place = subject.statement, subject.place
    if not _SID.fullmatch(statement.sid or ""):
        yield found(
            Code.invalid_sid,
            place,
            f"The Sid {statement.sid or ''!r:.90} has characters other than letters and digits.",
            "Use letters and digits only.",
        )
    yield from _principals(subject)
    yield from _actions(place, statement)
    arn = str(subject.identity)
    if statement.not_resource or statement.resources != (arn,):
        yield found(
            Code.resource,
            place,
            f"The resource is {_shown(statement.resources)}; it has to be the identity that the policy hangs on.",
            f'Write "Resource": "{arn}".',
        )
    yield from _keys(subject)


def _principals(subject: Subject) -> Iterator[Finding]:
    if not subject.statement.principals:
        yield found(Code.invalid_principal, subject.place, "The statement names no principal.", "Name at least one.")
    for kind, named in subject.statement.principals:
        if not _is_principal(kind, named, subject.identity.partition):
            yield found(
                Code.invalid_principal,
                subject.place,
                f"{named[:200]!r} is no {kind} principal that SES can find in partition {subject.identity.partition}.",
                "Name an account id of twelve digits, the ARN of an IAM user or role, or a service (with wildcards, "
                'only "*" alone is one).',
            )


def _is_principal(kind: str, named: str, partition: str) -> bool:
    if kind == "Service":
        return _SERVICE.fullmatch(named) is not None
    if kind != "AWS":
        return False
    if named == ANYBODY or UNIQUE_ID.fullmatch(named):
        return True
    try:
        return parse_principal(named).partition in (None, partition)
    except ValueError:
        return False


def _actions(place: Place, statement: Statement) -> Iterator[Finding]:
    if not statement.actions:
        yield found(Code.invalid_action, place, "The statement names no action.", "Name at least one, ses:SendEmail.")
    for action in statement.actions:
        if action != "*" and not _ACTION.fullmatch(action):
            yield found(
                Code.invalid_action,
                place,
                f"{action[:80]!r} is not an action of SES.",
                "Write it as ses:SendEmail: the prefix, a colon, the name of the call.",
            )


def _keys(subject: Subject) -> Iterator[Finding]:
    for condition in subject.statement.conditions:
        if condition.key not in KNOWN_KEYS:
            yield _unknown_key(subject.at(condition), condition.key)
        if not condition.values:
            yield found(
                Code.no_value, subject.at(condition), "The condition has no value.", "Give it one, or take it out."
            )


def _unknown_key(place: Place, key: str) -> Finding:
    """SES was seen to refuse even `AWS:SourceAccount` (amazon-cognito-developer-guide, issue 41)."""
    close = close_to(key, KNOWN_KEYS)
    if close is None:
        return found(
            Code.unknown_key,
            place,
            f"SES knows no condition key {key[:80]!r} and refuses the policy.",
            "Use one of the keys that SES lists: ses:FromAddress, ses:FromDisplayName, ses:FeedbackAddress, "
            "ses:Recipients, aws:CurrentTime, aws:SecureTransport, aws:SourceIp.",
        )
    case = " Letter case counts here, although IAM ignores it." if close.lower() == key.lower() else ""
    return found(
        Code.misspelt_key, place, f"The key {key[:80]!r} is misspelt.{case}", f"Did you mean {close}? Write it so."
    )


def _shown(texts: tuple[str, ...]) -> str:
    return ", ".join(text[:200] for text in texts[:3]) or "nothing"
