"""Who hears what in a fair run: tenants with many endpoints, each of which hears grants of its own. Pure.

Message ``n`` belongs to group ``n % groups`` (bench.messages); here every group's grant is heard by one endpoint, so
that the load on each endpoint is known beforehand.
"""

from collections.abc import Collection, Sequence

import msgspec

from bench.generator import Sent
from bench.match import Percentiles, percentiles
from bench.sink import Receipts

PER_TENANT = 20  # the most endpoints of a tenant


class Ear(msgspec.Struct, frozen=True):
    """One endpoint: its number is its place in the layout. ``bad``: one of those that may misbehave."""

    tenant: int
    groups: tuple[int, ...]
    bad: bool = False


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What the endpoints that count got. ``missing``: events of theirs that never came; ``again``: that came twice."""

    ms: Percentiles
    events: int
    missing: int
    again: int


def halves(endpoints: int) -> list[Ear]:
    """Each endpoint hears one group; every other one may turn bad, so that each tenant has as many of both kinds."""
    return [Ear(number // PER_TENANT, (number,), bad=number % 2 == 1) for number in range(endpoints)]


def flood(*, others: int, times: int) -> list[Ear]:
    """``others`` tenants with one endpoint and one group each, and one that has ``times`` groups on 20 endpoints."""
    quiet = [Ear(number, (number,)) for number in range(others)]
    loud = range(others, others + times)
    return quiet + [Ear(others, tuple(loud[first::PER_TENANT])) for first in range(min(PER_TENANT, times))]


def heard(
    layout: Sequence[Ear], counted: Collection[int], sent: Sent, receipts: Receipts, *, groups: int, warm_s: float
) -> Heard:
    """From event to receiver, for the endpoints in ``counted``.

    Events of the first ``warm_s`` seconds do not count: connections open, statements are planned, windows widen.
    """
    ears = {group: number for number, ear in enumerate(layout) for group in ear.groups}
    begin = (sent.due[0] if sent.due else 0.0) + warm_s
    wanted = {
        number: due for number, due in enumerate(sent.due) if due >= begin and ears.get(number % groups) in counted
    }
    came: dict[int, float] = {}
    again = 0
    for number, at in zip(receipts.numbers, receipts.times, strict=True):
        if number in wanted:
            again += number in came
            came.setdefault(number, at)
    return Heard(
        ms=percentiles([at - wanted[number] for number, at in came.items()]),
        events=len(wanted),
        missing=len(wanted) - len(came),
        again=again,
    )
