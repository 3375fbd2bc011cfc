"""Looks for values that satisfy every condition on a key, to show what a statement permits or that it never applies."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from broker.policies.compile import has_wildcard
from broker.policies.conditions import holds
from broker.policies.context import Caller, Request
from broker.policies.document import Condition
from broker.policies.findings import is_negated
from broker.policies.operators import NULL, as_date, as_network

Values = tuple[str, ...] | None  # of one key in a request; None is a request without it

_NOBODY = Caller(None, None, None, ())
_STEP = timedelta(seconds=1)
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def satisfied(conditions: Sequence[Condition], values: Values, *, variables: bool = False) -> bool:
    """Whether a request with just these values of the one key of all these conditions satisfies them."""
    keys = {} if values is None or not conditions else {conditions[0].key.lower(): values}
    request = Request(_NOBODY, "", keys)
    return all(holds(condition, request, variables=variables) for condition in conditions)


def moments(conditions: Sequence[Condition]) -> list[datetime]:
    """Times of which one lies in every stretch that the date conditions can tell apart, in order."""
    bounds = sorted({date for each in conditions for value in each.values if (date := as_date(value)) is not None})
    if not bounds:
        return []
    between = [one + (two - one) / 2 for one, two in pairwise(bounds)]
    return sorted({*bounds, *between, max(bounds[0], _FIRST) - _STEP, min(bounds[-1], _LAST) + _STEP})


def open_until(conditions: Sequence[Condition], now: datetime) -> tuple[bool, bool]:
    """Whether conditions on aws:CurrentTime and aws:EpochTime are ever satisfied, and whether they are now or later."""
    open_at = [moment for moment in [*moments(conditions), now] if _open(conditions, moment)]
    return bool(open_at), any(moment >= now for moment in open_at)


def _open(conditions: Sequence[Condition], moment: datetime) -> bool:
    seconds = f"{moment.timestamp():.6f}"
    request = Request(_NOBODY, "", {"aws:currenttime": (moment.isoformat(),), "aws:epochtime": (seconds,)})
    return all(holds(condition, request, variables=False) for condition in conditions)


def candidates(conditions: Sequence[Condition]) -> Iterator[Values]:
    """Values worth trying for the key of these conditions; complete for dates and IP blocks, a sample for texts."""
    for moment in moments([each for each in conditions if each.operator.startswith("date")]):
        yield (moment.isoformat(),)
    for condition in conditions:
        for value in condition.values:
            yield from _around(condition, value)
    flags: tuple[Values, ...] = (("true",), ("false",))
    texts: tuple[Values, ...] = (("other@elsewhere.example",),)
    # Whichever fits first is shown to people as an example.
    yield from flags + texts if any(each.operator in (NULL, "bool") for each in conditions) else texts + flags
    yield None


def _around(condition: Condition, value: str) -> Iterator[Values]:
    if condition.operator.endswith("ipaddress"):
        network = as_network(value)
        if network is not None:
            first, last = int(network.network_address), int(network.broadcast_address)
            top = 2**network.max_prefixlen - 1
            for number in {first, last, max(first - 1, 0), min(last + 1, top)}:
                yield (str(type(network.network_address)(number)),)
    elif "like" in condition.operator:
        yield (value.replace("*", "any").replace("?", "x"),)
        yield (value.replace("*", "").replace("?", "x"),)
    else:
        yield (value,)


def sample(conditions: Sequence[Condition], *, variables: bool = False) -> tuple[bool, Values]:
    """Whether some values satisfy all these conditions on one key, and such values."""
    for values in candidates(conditions):
        if satisfied(conditions, values, variables=variables):
            return True, values
    return False, None


def contradictory(conditions: Sequence[Condition]) -> bool:
    """Whether surely no request satisfies all these conditions on one key.

    Sure where the candidates are complete: dates, IP blocks, presence, and texts of which one operator names all.
    """
    if sample(conditions)[0]:
        return False
    return all(_is_complete(each) for each in conditions) or any(_names_all(each) for each in conditions)


def _is_complete(condition: Condition) -> bool:
    return (
        condition.operator in (NULL, "bool")
        or condition.operator.startswith("date")
        or "ipaddress" in condition.operator
    )


def _names_all(condition: Condition) -> bool:
    exact = condition.operator == "stringequals" or (
        condition.operator == "stringlike" and not any(map(has_wildcard, condition.values))
    )
    return exact and not (is_negated(condition) or condition.if_exists or condition.over)
