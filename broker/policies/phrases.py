"""Puts the parts of a statement into words, the conditions with what a missing key does."""

from collections.abc import Sequence

from broker.policies.arns import ANYBODY
from broker.policies.compile import has_wildcard
from broker.policies.document import Condition, Statement
from broker.policies.findings import is_negated
from broker.policies.lint_how import ALWAYS, MULTI_VALUED
from broker.policies.lint_refused import UNIQUE_ID
from broker.policies.operators import NULL, as_date
from broker.policies.wording import call, listed, principal, when

_NAMES = {
    "ses:fromaddress": "From",
    "ses:fromdisplayname": "the From name",
    "ses:feedbackaddress": "the Return-Path",
    "ses:recipients": "recipient",
    "ses:apiversion": "the API version",
    "aws:sourceip": "the caller's IP",
    "aws:useragent": "the caller's user agent",
    "aws:principalorgid": "the caller's organization",
    "aws:principalaccount": "the caller's account",
    "aws:principalarn": "the caller's ARN",
    "aws:sourceaccount": "the account that a service acts for",
    "aws:sourcearn": "the resource that a service acts for",
}
_COMPARED = {
    "numericlessthan": "is below",
    "numericlessthanequals": "is at most",
    "numericgreaterthan": "is above",
    "numericgreaterthanequals": "is at least",
    "ipaddress": "is within",
    "notipaddress": "is not within",
}
_TIMES = {
    "datelessthan": "before",
    "datelessthanequals": "until and including",
    "dategreaterthan": "after",
    "dategreaterthanequals": "from",
    "dateequals": "exactly at",
    "datenotequals": "at any time but",
}


def people(statement: Statement) -> str:
    """Whom a statement is about."""
    names = [_named(kind, text) for kind, text in statement.principals] or ["nobody"]
    return f"everybody but {listed(names)}" if statement.not_principal else listed(names)


def _named(kind: str, text: str) -> str:
    if kind != "AWS":
        return f"the service {text[:200]}" if kind == "Service" else f"the {kind} principal {text[:200]}"
    if text == ANYBODY:
        return "anybody"
    if UNIQUE_ID.fullmatch(text):
        return f"a deleted principal ({text})"
    try:
        return principal(text)
    except ValueError:
        return f"{text[:200]!r}"


def calls(statement: Statement) -> str:
    """What a statement is about: the names of the calls."""
    names = [call(action) or action for action in statement.actions] or ["nothing"]
    if not statement.not_action:
        return "every action" if "*" in names else listed([_like(name) for name in names])
    return f"every action but {listed([_like(name) for name in names])}"


def _like(name: str) -> str:
    return f"whatever fits {name}" if has_wildcard(name) else name


def phrase(condition: Condition, *, present: bool) -> str:
    """What has to be so for a condition to hold; `present`: another one sees to it that the key is in the request."""
    if condition.operator == NULL:
        return _presence(condition)
    key = condition.key.lower()
    said = _time(condition) if condition.operator.startswith("date") else _compared(condition, key)
    return f"{said}{_missing(condition, key, present=present)}"


def _presence(condition: Condition) -> str:
    name = _name(condition, condition.key.lower())
    there = {value.lower() for value in condition.values} == {"false"}
    if {value.lower() for value in condition.values} == {"true", "false"}:
        return f"{name} is there or not"
    article = "a " if name == "recipient" else ""
    return f"the request has {article}{name}" if there else f"the request has no {name.removeprefix('the ')}"


def _name(condition: Condition, key: str) -> str:
    return _NAMES.get(key, condition.key[:80])


def _time(condition: Condition) -> str:
    dates = [when(date) if (date := as_date(value)) else f"{value[:40]!r} (no date)" for value in condition.values]
    return f"it is {_TIMES[condition.operator]} {listed(dates, last='or')}"


def _compared(condition: Condition, key: str) -> str:
    if key == "aws:securetransport" and condition.operator == "bool":
        sure = [value.lower() for value in condition.values]
        return "the call comes over TLS" if sure == ["true"] else "the call comes without TLS"
    values = listed([f'"{value}"' if " " in value or not value else value for value in condition.values], last="or")
    return f"{_who(condition, key)} {_verb(condition)} {values}"


def _who(condition: Condition, key: str) -> str:
    """The set operator in words; a key with several values and none is read as the evaluator reads it."""
    name = _name(condition, key)
    many = key in MULTI_VALUED
    if condition.over == "any" or (many and not condition.over and not is_negated(condition)):
        return f"at least one {name}" if many else f"a value of {name}"
    if condition.over == "all" or (many and not condition.over):
        return f"every {name}" if many else f"every value of {name}"
    return name


def _verb(condition: Condition) -> str:
    operator = condition.operator
    if operator in _COMPARED:
        return _COMPARED[operator]
    wild = operator.startswith("arn") or "like" in operator
    fits = "matches" if wild and any(map(has_wildcard, condition.values)) else "is"
    if is_negated(condition):
        fits = "does not match" if fits == "matches" else "is not"
    return f"{fits}, in any letter case," if operator.endswith("ignorecase") else fits


def _missing(condition: Condition, key: str, *, present: bool) -> str:
    if present or key in ALWAYS:
        return ""
    passes = condition.if_exists or condition.over == "all" or (not condition.over and is_negated(condition))
    if not passes:
        return ""
    thing = "recipients" if key in MULTI_VALUED else "one" if key in _NAMES else "it"
    return f" (a request without {thing} passes)"


def all_of(phrases: Sequence[str]) -> str:
    """Several conditions that must hold together; empty for none."""
    if not phrases:
        return ""
    return listed(phrases) if len(phrases) < 3 else f"{'; '.join(phrases[:-1])}; and {phrases[-1]}"
