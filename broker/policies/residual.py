"""Finds policies that are not ours and still let somebody send after a grant has ended."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from broker.policies.arns import ANYBODY, covers, related
from broker.policies.document import Condition, DocumentError, Statement, read
from broker.policies.evaluate import names_action, names_resource
from broker.policies.operators import as_date
from broker.policies.plan import is_ours
from broker.policies.terms import ACTION_TO_IAM, Action

_ENDS = ("datelessthan", "datelessthanequals")
_CLOCKS = ("aws:currenttime", "aws:epochtime")


def still_allowed(
    observed: Mapping[str, str],
    *,
    principals: Iterable[str],
    actions: Iterable[Action | str],
    identity_arn: str,
    now: datetime,
) -> list[str]:
    """Names of foreign policies that still let any of these principals use any of these actions, sorted.

    `observed` is every policy on the identity (name → document); `actions` are those of terms or IAM names. This errs
    on the side of naming: an Allow counts whatever conditions it has, unless its end has passed or an unconditional
    Deny of a foreign policy shuts it; a policy that cannot be read counts. Denies of ours do not, since they are taken
    away.
    """
    asked = [
        (principal, name)
        for principal in principals
        for action in actions
        for name in (ACTION_TO_IAM[Action(action)] if action in tuple(Action) else (action,))
    ]
    denies: list[Statement] = []
    allows: list[tuple[str, Statement]] = []
    found: set[str] = set()
    for policy, text in observed.items():
        if is_ours(policy):
            continue
        try:
            statements = read(text).statements
        except DocumentError:
            found.add(policy)
            continue
        denies += [statement for statement in statements if not statement.allow and not statement.conditions]
        allows += [(policy, statement) for statement in statements if statement.allow and not _is_over(statement, now)]
    for policy, allow in allows:
        if names_resource(allow, identity_arn) and any(
            _lets_in(allow, principal, action) and not _is_shut(allow, denies, (principal, action), identity_arn)
            for principal, action in asked
        ):
            found.add(policy)
    return sorted(found)


def within(inner: str, outer: str) -> bool:
    """Whether the identity `inner` is an address or a subdomain of the domain `outer`, upper or lower case."""
    if "@" in outer:
        return False
    name = inner.rpartition("@")[2].lower()
    return (name == outer.lower() and "@" in inner) or name.endswith(f".{outer.lower()}")


def _is_over(statement: Statement, now: datetime) -> bool:
    return any(_has_passed(condition, now) for condition in statement.conditions)


def _has_passed(condition: Condition, now: datetime) -> bool:
    """Whether this is an end, on a clock that each request carries, of which every value has passed."""
    if condition.operator not in _ENDS or condition.key.lower() not in _CLOCKS or condition.if_exists or condition.over:
        return False
    ends = [as_date(value) for value in condition.values]
    strict = condition.operator == "datelessthan"
    return all(end is not None and (end <= now if strict else end < now) for end in ends)


def _lets_in(allow: Statement, principal: str, action: str) -> bool:
    if not names_action(allow, action):
        return False
    if allow.not_principal:
        return not any(covers(named, principal) for named in _aws(allow))
    return any(related(named, principal) for named in _aws(allow))


def _is_shut(allow: Statement, denies: Iterable[Statement], asked: tuple[str, str], identity_arn: str) -> bool:
    """Whether everything that this Allow gives to this principal is denied without condition.

    What it gives is the narrower of what it names and what is asked for: a user of an account that is asked about.
    """
    principal, action = asked
    given = [principal if covers(named, principal) else named for named in _aws(allow) if related(named, principal)]
    if allow.not_principal:
        given = [principal]
    return all(
        any(
            names_action(deny, action) and names_resource(deny, identity_arn) and _denies_all_of(deny, who)
            for deny in denies
        )
        for who in given
    )


def _denies_all_of(deny: Statement, who: str) -> bool:
    # NotPrincipal in a Deny is left out of account: naming a policy too many is the safe mistake here.
    return not deny.not_principal and any(covers(named, who) for named in _aws(deny))


def _aws(statement: Statement) -> list[str]:
    return [named for kind, named in statement.principals if kind == "AWS" or named == ANYBODY]
