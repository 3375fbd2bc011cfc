"""Says why a statement that somebody wrote cannot be put into terms, one sentence for each thing that has no place."""

from collections.abc import Iterator

from broker.policies.arns import ANYBODY, parse_principal
from broker.policies.cells import CLOCK, RECIPIENTS, asks_for_key
from broker.policies.compile import has_wildcard
from broker.policies.document import Condition, Statement
from broker.policies.evaluate import names_resource
from broker.policies.findings import present
from broker.policies.lint_refused import UNIQUE_ID
from broker.policies.lint_what import ADDRESS_KEYS, SENDING
from broker.policies.operators import NULL, as_date, as_network

SOURCE_IP, TLS = "aws:sourceip", "aws:securetransport"
_SENDING = frozenset(name.lower() for name in SENDING)
_DATES = ("datelessthan", "datelessthanequals", "dategreaterthan", "dategreaterthanequals")
_EXACT = ("stringequals", "stringlike")


def reasons(statement: Statement, identity_arn: str) -> Iterator[str]:
    """Every reason against one statement."""
    label = f"Statement {statement.label[:80]}"
    if not statement.allow:
        yield f"{label} is a Deny, and terms only say what is permitted."
        return
    yield from (f"{label} {why}" for why in (*_elements(statement, identity_arn), *_principals(statement)))
    yield from (f"{label} {why}" for why in (*_actions(statement), *_repeated(statement)))
    yield from (f"{label} {why}" for each in statement.conditions for why in _condition(each, statement))


def _elements(statement: Statement, identity_arn: str) -> Iterator[str]:
    for negated, name, whom in (
        (statement.not_principal, "NotPrincipal", "who may send"),
        (statement.not_action, "NotAction", "how they may send"),
        (statement.not_resource, "NotResource", "from where"),
    ):
        if negated:
            yield f"has {name}: terms name {whom}, and not what is left out."
    if any("${" in text for text in statement.resources):
        yield "has a policy variable in its Resource, which terms have not."
    elif not statement.not_resource and not names_resource(statement, identity_arn):
        yield f"is about another resource than {identity_arn}, so that it permits nothing here."


def _principals(statement: Statement) -> Iterator[str]:
    if statement.not_principal:
        return
    if not statement.principals:
        yield "names no principal."
    for kind, text in statement.principals:
        if kind != "AWS":
            yield f"lets the {kind.lower()} principal {text[:200]} send; terms name AWS accounts, users and roles."
        elif text == ANYBODY:
            yield "lets anybody send; terms name who may."
        elif UNIQUE_ID.fullmatch(text):
            yield f"names {text}, which is what IAM leaves of a principal that was deleted."
        elif (why := _not_a_principal(text)) is not None:
            yield why


def _not_a_principal(text: str) -> str | None:
    try:
        kind = parse_principal(text).kind
    except ValueError:
        return f"names {text[:200]!r}, which is no account, user or role."
    if kind in ("session", "federated"):
        return f"names the single session {text[:200]}; terms name the role or the user."
    return None


def _actions(statement: Statement) -> Iterator[str]:
    if statement.not_action:
        return
    for action in statement.actions:
        if has_wildcard(action):
            yield (
                f"has the action {action[:80]}, which stands for more than the ways of sending that terms know, "
                "SendBounce among it: write the actions out."
            )
        elif action.lower() not in _SENDING:
            yield f"has the action {action[:80]}, which is none of the ways of sending that terms know."


def _repeated(statement: Statement) -> Iterator[str]:
    """A second limit on the same key, which has to hold as well; terms have one list for each."""
    for key in dict.fromkeys(each.key.lower() for each in statement.conditions if each.key.lower() != CLOCK):
        limits = [each for each in statement.conditions if each.key.lower() == key and each.operator != NULL]
        if len(limits) > 1:
            yield f"has {len(limits)} conditions on {limits[0].key[:80]} that must hold together; terms hold one."


def _condition(condition: Condition, statement: Statement) -> Iterator[str]:
    key, name = condition.key.lower(), f"the condition {condition.written[:80]} {condition.key[:80]}"
    if condition.operator == NULL:
        if not _is_guard(condition, statement):
            yield f"has {name}: terms say nothing of whether a key is there."
    elif key not in (*ADDRESS_KEYS, SOURCE_IP, TLS, CLOCK):
        yield f"has {name}, a key that terms have not."
    elif condition.if_exists:
        yield f"has {name}: it lets in requests without the key, which terms cannot say."
    elif any("${" in value for value in condition.values):
        yield f"has {name} with a policy variable, which terms have not."
    elif (why := _unlike_terms(condition, key)) is not None:
        yield f"has {name}{why}"


def _is_guard(condition: Condition, statement: Statement) -> bool:
    """Whether a Null condition only asks for a key that a limit of terms asks for, too."""
    key = condition.key.lower()
    limits = [each for each in statement.conditions if each.key.lower() == key and each.operator != NULL]
    return present(statement, key) and any(asks_for_key(each) or key == RECIPIENTS for each in limits)


def _unlike_terms(condition: Condition, key: str) -> str | None:
    """How the operator or the values differ from what terms mean; None where they do not."""
    if key == CLOCK:
        good = condition.operator in _DATES and not condition.over and all(map(as_date, condition.values))
        return None if good and condition.values else ": terms have one beginning and one end."
    if key == SOURCE_IP:
        good = condition.operator == "ipaddress" and condition.over in ("", "any")
        return None if good and all(map(as_network, condition.values)) else ": terms have CIDR blocks to send from."
    if key == TLS:
        good = condition.operator == "bool" and not condition.over
        sure = {value.lower() for value in condition.values} == {"true"}
        return None if good and sure else ": terms can require TLS and nothing else about it."
    return _unlike_addresses(condition, key)


def _unlike_addresses(condition: Condition, key: str) -> str | None:
    if condition.operator.endswith("ignorecase"):
        return ": terms compare upper and lower case as SES does by default, and this does not."
    if condition.operator not in _EXACT:
        return ": terms list what is permitted, and not what is excluded or ordered."
    if condition.operator == "stringequals" and any(map(has_wildcard, condition.values)):
        return " with * or ? taken as ordinary characters; in terms they are wildcards."
    if key == RECIPIENTS and condition.over != "all":
        return ": one fitting recipient is enough for it, and terms are about every recipient (ForAllValues)."
    if key != RECIPIENTS and condition.over == "all":
        return ": it lets in requests without the key, which terms cannot say."
    return None if condition.values else " without a value, which nothing satisfies."
