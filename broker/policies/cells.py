"""Takes a document of Allows apart into who may do what under which conditions, to compare two documents as wholes."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from broker.policies.arns import plain
from broker.policies.compile import BULK, has_wildcard
from broker.policies.document import Condition, Document, Statement
from broker.policies.findings import is_negated, present
from broker.policies.lint_what import ADDRESS_KEYS
from broker.policies.operators import NULL, as_date, as_network
from broker.policies.witness import satisfied

CLOCK, RECIPIENTS = "aws:currenttime", "ses:recipients"
_ENDS = ("datelessthan", "datelessthanequals")
EVER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)

Need = tuple[str, str, bool, str, frozenset[str]]  # operator, set prefix, IfExists, key in lower case, values


class Cell(msgspec.Struct, frozen=True):
    """The conditions of one principal and one action: from and until when, with recipients for certain, and the rest.

    `until` is the first moment at which it is over, `guarded` that a request without recipients is refused.
    """

    since: datetime
    until: datetime
    guarded: bool
    needs: frozenset[Need]

    def is_within(self, other: "Cell") -> bool:
        """Whether this is the same, or the same for a shorter time or with the guard added."""
        return (
            self.needs == other.needs
            and self.since >= other.since
            and self.until <= other.until
            and (self.guarded or not other.guarded)
        )


Cells = Mapping[tuple[str, str], frozenset[Cell]]


def cells(document: Document) -> Cells:
    """Principal and action, in lower case → the conditions under which it is permitted, any of which is enough.

    Only for Allows that name principals and actions, without wildcards, and one resource, and without variables: the
    others cannot be compared like this. What never applies is left out: SES tells a policy no addresses of a
    SendBulkEmail call (Service Authorization Reference, Amazon SES v2).
    """
    found: dict[tuple[str, str], set[Cell]] = {}
    for statement in document.statements:
        people = {plain(principal) for _, principal in statement.principals}
        for action in {action.lower() for action in statement.actions}:
            conditions = conditions_of(statement, action)
            if conditions is None:
                continue
            cell = _cell(statement, conditions)
            for principal in people:
                found.setdefault((principal, action), set()).add(cell)
    return {place: frozenset(several) for place, several in found.items()}


def is_within(inner: Cells, outer: Cells) -> bool:
    """Whether the first permits the same as the second to everybody, or the same in less time or with the guard."""
    return inner.keys() == outer.keys() and all(_only(inner[at], outer[at]) for at in inner)


def _only(inner: frozenset[Cell], outer: frozenset[Cell]) -> bool:
    return len(inner) == len(outer) == 1 and next(iter(inner)).is_within(next(iter(outer)))


def conditions_of(statement: Statement, action: str) -> list[Condition] | None:
    """The conditions that say something about a call; None where they can never be satisfied."""
    conditions = list(statement.conditions)
    if action.lower() == BULK.lower():
        addressed = [each for each in conditions if each.key.lower() in ADDRESS_KEYS]
        if not all(satisfied([each], None) for each in addressed):
            return None
        conditions = [each for each in conditions if each not in addressed]
    return conditions


def _cell(statement: Statement, conditions: Iterable[Condition]) -> Cell:
    since, until = EVER
    needs: set[Need] = set()
    guarded = False
    for each in conditions:
        bound = bound_of(each)
        if bound is not None and each.operator in _ENDS:
            until = min(until, bound)
        elif bound is not None:
            since = max(since, bound)
        elif each.operator == NULL and each.key.lower() == RECIPIENTS and present(statement, RECIPIENTS):
            guarded = True
        elif not _is_implied(each, statement):
            needs.add(_need(each))
    return Cell(since, until, guarded, frozenset(needs))


def bound_of(condition: Condition) -> datetime | None:
    """The one moment of a bound of the window; several values are an OR, so that the most generous one counts."""
    dates = [date for value in condition.values if (date := as_date(value)) is not None and EVER[0] < date < EVER[1]]
    plainly = condition.key.lower() == CLOCK and not (condition.over or condition.if_exists)
    if not (plainly and dates) or len(dates) != len(condition.values):
        return None
    match condition.operator:
        case "datelessthan":
            return max(dates)
        case "datelessthanequals":
            return max(dates) + _INSTANT
        case "dategreaterthanequals":
            return min(dates)
        case "dategreaterthan":
            return min(dates) + _INSTANT
    return None


def _is_implied(condition: Condition, statement: Statement) -> bool:
    """Whether this only asks for a key that another condition asks for anyway."""
    key = condition.key.lower()
    return (
        condition.operator == NULL
        and present(statement, key)
        and any(
            each.key.lower() == key and each.operator != NULL and asks_for_key(each) for each in statement.conditions
        )
    )


def asks_for_key(condition: Condition) -> bool:
    """Whether a request without the key does not satisfy this."""
    return not (condition.if_exists or condition.over == "all" or (not condition.over and is_negated(condition)))


def _need(condition: Condition) -> Need:
    operator, over = condition.operator, condition.over
    # Without a wildcard StringLike is StringEquals, and ForAnyValue is what a positive operator means anyway.
    if operator == "stringlike" and not any(map(has_wildcard, condition.values)):
        operator = "stringequals"
    if over == "any" and not is_negated(condition):
        over = ""
    values = condition.values
    if operator.endswith("ipaddress"):
        values = tuple(str(as_network(value) or value) for value in values)
    if operator == "bool":
        values = tuple(value.lower() for value in values)
    return operator, over, condition.if_exists, condition.key.lower(), frozenset(values)
