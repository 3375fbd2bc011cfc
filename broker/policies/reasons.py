"""Says in one sentence why a statement decided, or what kept it from applying."""

from collections.abc import Sequence

from broker.policies.context import Caller
from broker.policies.document import Condition, Statement
from broker.policies.operators import NULL, OPERATORS

SHOWN = 3  # values of a long list, or conditions, that a sentence names
_NAMES = {
    "ses:fromaddress": "From",
    "ses:fromdisplayname": "From name",
    "ses:feedbackaddress": "Return-Path",
    "ses:recipients": "recipient",
    "aws:currenttime": "the time",
    "aws:epochtime": "the time",
    "aws:sourceip": "the source IP",
    "aws:securetransport": "TLS to SES",
}
_MATCHES = ("matches", "does not match")
# How a value that satisfies the operator stands to the policy's, and how one that does not.
_VERBS = {
    "datelessthan": ("is before", "is not before"),
    "datelessthanequals": ("is not after", "is after"),
    "dategreaterthan": ("is after", "is not after"),
    "dategreaterthanequals": ("is not before", "is before"),
    "ipaddress": ("is within", "is not within"),
    "notipaddress": ("is not within", "is within"),
    "numericlessthan": ("is below", "is not below"),
    "numericlessthanequals": ("is not above", "is above"),
    "numericgreaterthan": ("is above", "is not above"),
    "numericgreaterthanequals": ("is not below", "is below"),
}

Seen = tuple[Condition, tuple[str, ...]]
"""A condition and those values of the request that decided it."""


def decided(statement: Statement, held: Sequence[Seen], *, policy: int | None) -> str:
    """Which statement allowed or denied a send, and by which conditions, of which `held` are the first `SHOWN`.

    `policy` is the place of the document where there are several.
    """
    where = "" if policy is None else f" of policies[{policy}]"
    what = f"Statement {_short(statement.label)}{where} {'allows' if statement.allow else 'denies'} it"
    if not held:
        return f"{what}."
    more = len(statement.conditions) - len(held)
    rest = f"; and {more} more condition{'' if more == 1 else 's'}" if more else ""
    return f"{what}: {'; '.join(_told(*each, held=True) for each in held)}{rest}."


def other_resource(statement: Statement, identity_arn: str) -> str:
    """The statement is about another identity."""
    kept = "everything but " if statement.not_resource else ""
    return (
        f"Statement {_short(statement.label)} is about {kept}{_listed(statement.resources)}, "
        f"not about `{_short(identity_arn)}`."
    )


def other_caller(statement: Statement, caller: Caller) -> str:
    """The statement is about somebody else."""
    who = caller.arn or caller.service or caller.account
    named = _listed(tuple(text for _, text in statement.principals))
    shown = f"The caller `{_short(who)}`" if who else "The unknown caller"
    return f"{shown} is {'one' if statement.not_principal else 'none'} of {named}."


def other_action(statement: Statement, action: str) -> str:
    """The statement is about other calls."""
    return (
        f"The action `{_short(action)}` is {'one' if statement.not_action else 'none'} of {_listed(statement.actions)}."
    )


def failed(missed: Sequence[Seen], *, more: int) -> str:
    """The conditions that the request does not satisfy, and those of its values that do not; `more` are not shown."""
    sentences = [_told(*each, held=False) for each in missed]
    if more > 0:
        sentences.append(f"{more} more condition{' is' if more == 1 else 's are'} not satisfied")
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in sentences)


def _told(condition: Condition, values: tuple[str, ...], *, held: bool) -> str:
    name = _NAMES.get(condition.key.lower(), f"`{_short(condition.key)}`")
    if condition.operator == NULL:
        there = f"{name} is {'in' if values else 'not in'} the request"
        return there if held else f"{there}, and must {'not ' if values else ''}be"
    if not values:
        return f"{name} is not in the request" + ("" if held else f", and is compared with {_listed(condition.values)}")
    if condition.key.lower() == "aws:securetransport":
        return f"{name} is {_listed(values)}" + ("" if held else f", and must be {_listed(condition.values)}")
    negated = OPERATORS[condition.operator].negated
    verbs = _VERBS.get(condition.operator, _MATCHES[::-1] if negated else _MATCHES)
    one = "one of " if held and not negated and len(condition.values) > 1 else ""
    return f"{name} {_listed(values)} {verbs[0 if held else 1]} {one}{_listed(condition.values)}"


def _listed(values: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{_short(value)}`" for value in values[:SHOWN]) or "nothing"
    more = len(values) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"
