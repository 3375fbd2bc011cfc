"""Says in one sentence why a statement decided, or what kept it from applying."""

from broker.policies.context import Caller
from broker.policies.document import Condition, Statement
from broker.policies.operators import NULL, OPERATORS

_SHOWN = 3  # values of a long list that a sentence names
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
_VERBS = {
    "datelessthan": "is not before",
    "datelessthanequals": "is after",
    "dategreaterthan": "is not after",
    "dategreaterthanequals": "is before",
    "ipaddress": "is not within",
    "notipaddress": "is within",
    "numericlessthan": "is not below",
    "numericlessthanequals": "is above",
    "numericgreaterthan": "is not above",
    "numericgreaterthanequals": "is below",
}


def allowed(statement: Statement) -> str:
    """Why a send was allowed."""
    return f"Statement {statement.label} allows it."


def denied(statement: Statement) -> str:
    """Why a send was denied outright."""
    return f"Statement {statement.label} denies it."


def other_resource(statement: Statement, identity_arn: str) -> str:
    """The statement is about another identity."""
    return f"Statement {statement.label} is about {_listed(statement.resources)}, not about {identity_arn}."


def other_caller(statement: Statement, caller: Caller) -> str:
    """The statement is about somebody else."""
    who = caller.arn or caller.service or caller.account or "An unknown caller"
    named = _listed(tuple(text for _, text in statement.principals))
    return f"{who} is {'one' if statement.not_principal else 'none'} of {named}."


def other_action(statement: Statement, action: str) -> str:
    """The statement is about other calls."""
    return f"{action} is {'one' if statement.not_action else 'none'} of {_listed(statement.actions)}."


def failed(condition: Condition, values: tuple[str, ...]) -> str:
    """The condition that the request does not satisfy, and those of its values that do not."""
    name = _NAMES.get(condition.key.lower(), condition.key[:80])
    if condition.operator == NULL:
        return _sentence(
            f"{name} is {'in' if values else 'not in'} the request, and must {'not ' if values else ''}be."
        )
    wanted = _listed(condition.values)
    if not values:
        return _sentence(f"{name} is not in the request, and is compared with {wanted}.")
    operator = OPERATORS[condition.operator]
    verb = _VERBS.get(condition.operator, "matches" if operator.negated else "does not match")
    if condition.key.lower() == "aws:securetransport":
        return _sentence(f"{name} is {_listed(values)}, and must be {wanted}.")
    return _sentence(f"{name} {_listed(values)} {verb} {wanted}.")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _listed(values: tuple[str, ...]) -> str:
    shown = ", ".join(f'"{value[:120]}"' for value in values[:_SHOWN]) or "nothing"
    more = len(values) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
