"""Decides whether a condition of a statement holds for a request."""

from collections.abc import Callable

from broker.policies.context import Request
from broker.policies.document import Condition
from broker.policies.operators import NULL, OPERATORS
from broker.policies.wildcards import Lookup

FROM_KEY = "ses:fromaddress"


def holds(condition: Condition, request: Request, *, variables: bool, from_case_sensitive: bool = True) -> bool:
    """Whether one key under one operator is satisfied (IAM User Guide, reference_policies_elements_condition_operators,
    reference_policies_multi-value-conditions).

    Several values are an OR, under a negated operator a NOR. A key that is absent fails a positive operator and
    satisfies a negated one, `…IfExists`, `ForAllValues` and `Null: true`; it fails `ForAnyValue` also when that is
    negated. A key that is there with an empty list does the same, but for `…IfExists` (a request with an empty
    aws:TagKeys was seen to fail `ForAnyValue:StringEqualsIfExists`). The empty text is a value like any other. A policy
    variable that the request cannot fill makes its value match nothing, so that a negated operator holds
    (reference_policies_variables, "Policy variables with no value"). A key with several values under an operator
    without a set prefix, which IAM leaves undefined, is read as "any of them" for a positive and "none of them" for a
    negated operator.
    """
    key = condition.key.lower()
    values = request.keys.get(key)
    if condition.operator == NULL:
        return any(wanted.lower() == ("false" if values else "true") for wanted in condition.values)
    operator = OPERATORS[condition.operator]
    if not values:
        absent = condition.if_exists and key not in request.keys
        return absent or condition.over == "all" or (not condition.over and operator.negated)
    lookup: Lookup | None = request.single if variables else None
    compare = operator.compare
    if key == FROM_KEY and not from_case_sensitive:
        compare = _ignoring_case(compare)
    every = condition.over == "all" or (not condition.over and operator.negated)
    for given in values:
        found = False
        for wanted in condition.values:  # a plain loop is twice as fast as any(), and this is where the time goes
            if compare(wanted, given, lookup):
                found = True
                break
        if (found != operator.negated) != every:
            return not every
    return every


def _ignoring_case(compare: Callable[[str, str, Lookup | None], bool]) -> Callable[[str, str, Lookup | None], bool]:
    return lambda wanted, given, lookup: compare(wanted.lower(), given.lower(), lookup)
