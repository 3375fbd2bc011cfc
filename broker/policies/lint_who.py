"""Finds principals that are too many, gone, or not those that were meant."""

from collections.abc import Iterator

from broker.policies.arns import ANYBODY, IdentityArn, covers, parse_principal
from broker.policies.document import Condition
from broker.policies.findings import Code, Finding, Subject, found, is_negated
from broker.policies.lint_refused import UNIQUE_ID
from broker.policies.wording import listed

# Keys that say who calls; those of the caller's organisation or account can stand in for a principal.
_WHO = ("aws:principalorgid", "aws:principalaccount", "aws:principalarn", "aws:sourceaccount", "aws:sourcearn")
_SOURCE = ("aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid")


def who(subject: Subject) -> Iterator[Finding]:
    """Everything about the principals of one statement."""
    if subject.statement.not_principal:
        yield _not_principal(subject)
    elif ("AWS", ANYBODY) in subject.statement.principals and subject.statement.allow:
        yield _anybody(subject)
    yield from _each(subject)
    if subject.statement.allow:
        yield from _services(subject)
    elif _reaches_owner(subject, subject.identity):
        yield found(
            Code.deny_covers_owner,
            subject.place,
            f"The Deny also covers the owner's own account {subject.identity.account_id}.",
            "Name the principals that it is meant for; a Deny wins over every Allow, the owner's own included.",
        )


def _anybody(subject: Subject) -> Finding:
    """AWS shows `*` once, tied down by aws:PrincipalOrgID (sending-authorization-policy-examples)."""
    narrowing = [each for each in subject.on(*_WHO) if _narrows(each)]
    if narrowing:
        keys = listed([each.key for each in narrowing])
        return found(
            Code.principal_by_condition,
            subject.place,
            f"Everybody is allowed, and only the condition on {keys} keeps the rest of the world out.",
            "Name the accounts where you can: then a misspelt condition cannot open the identity to all.",
        )
    return found(
        Code.open_principal,
        subject.place,
        "Anybody with an AWS account may do this; no condition says who calls.",
        "Name the account, the IAM user or the role that is meant.",
    )


def _narrows(condition: Condition) -> bool:
    wide = any(set(value) <= {"*", "?"} for value in condition.values)
    return not (is_negated(condition) or condition.if_exists or condition.over == "all" or wide)


def _not_principal(subject: Subject) -> Finding:
    names = listed([text[:200] for _, text in subject.statement.principals] or ["nobody"])
    if subject.statement.allow:
        detail = f"Everybody in the world but {names} is allowed: NotPrincipal in an Allow."
    else:
        detail = f"Everybody but {names} is denied; a user is spared only if its account is listed beside it."
    return found(Code.not_principal, subject.place, detail, "Use Principal and name those that are meant.")


def _each(subject: Subject) -> Iterator[Finding]:
    for kind, text in subject.statement.principals:
        if kind != "AWS":
            continue
        if UNIQUE_ID.fullmatch(text):
            yield found(
                Code.deleted_principal,
                subject.place,
                f"{text} is what is left of a {'user' if text.startswith('AID') else 'role'} that was deleted; "
                "one of the same name that was made again is another.",
                "Take it out, or name the ARN of the one that is meant.",
            )
        elif _kind(text) in ("session", "federated"):
            yield found(
                Code.session_principal,
                subject.place,
                f"{text[:200]} is one session: the next one has another name and is not let in.",
                "Name the role or the user.",
            )


def _kind(text: str) -> str:
    try:
        return parse_principal(text).kind
    except ValueError:
        return ""


def _services(subject: Subject) -> Iterator[Finding]:
    """The confused deputy: a service acts for any of its customers (IAM User Guide, confused-deputy)."""
    services = [text for kind, text in subject.statement.principals if kind == "Service"]
    if services and not any(_narrows(each) for each in subject.on(*_SOURCE)):
        yield found(
            Code.service_without_source,
            subject.place,
            f"{listed(services)} may send for every customer of AWS, not only for you.",
            "Add StringEquals aws:SourceAccount with your account id, and ArnLike aws:SourceArn with your resource.",
        )


def _reaches_owner(subject: Subject, identity: IdentityArn) -> bool:
    owner = identity.account_id
    named = [text for kind, text in subject.statement.principals if kind == "AWS"]
    if any(_narrows(each) or is_negated(each) for each in subject.on("aws:principalaccount", "aws:principalorgid")):
        return False
    if subject.statement.not_principal:
        return not any(covers(text, owner) for text in named)
    return any(covers(text, owner) for text in named)
