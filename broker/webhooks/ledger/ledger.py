"""Latencies and tallies of this process, summed in memory until somebody takes them; no I/O.

A latency costs two list increments and a search among 120 bounds, since `record` stands on the hot path.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from uuid import UUID

import msgspec

GROWTH = 1.2
FINEST = 0.001  # seconds; below it a latency is known to a millisecond only

# Slot n holds what is at most BOUNDS[n] seconds and more than the bound before it; slot 0 what is less than nothing,
# and the last one, beyond all bounds, what is longer than 25 days.
BOUNDS = (math.nextafter(0.0, -1.0), *(FINEST * GROWTH**step for step in range(119)))
WIDTH = len(BOUNDS) + 1


class Stage(IntEnum):
    """The way of an event; each stage says which clocks are compared. The order is that of the stored numbers.

    `SES_TO_RECEIVED`: the time SES wrote into the message, against our clock when it came. These are the clocks of two
    parties: what comes out negative counts as nothing, in a slot of its own.
    `RECEIVED_TO_COMMITTED`: one process' monotonic clock, from the request to the end of the commit.
    `COMMITTED_TO_ATTEMPTED`: the database's clock, from the delivery's being made (or sent again) to its being fetched;
    then the worker's monotonic clock, to the first POST.
    `ATTEMPTED_TO_ACCEPTED`: from the first POST to the 2xx. One worker's monotonic clock where the first attempt is
    accepted; from the first failure on, the database's.
    """

    SES_TO_RECEIVED = 0
    RECEIVED_TO_COMMITTED = 1
    COMMITTED_TO_ATTEMPTED = 2
    ATTEMPTED_TO_ACCEPTED = 3


class Count(StrEnum):
    """What is tallied over all processes, each with one label."""

    ATTEMPTS = "attempts"
    """By outcome: `2xx` … `5xx`, or `none` where there was no answer."""
    FEEDBACK = "feedback"
    """Events by outcome: `stored`, `repeated`; messages: `quarantined`, `ignored`, `dropped`, `own`, `unheard`."""
    QUARANTINED = "quarantined"
    """Messages in quarantine, by reason."""
    BATCHES = "batches"
    """Batches that ingest has committed; no label."""
    MESSAGES = "messages"
    """Messages in these batches; no label."""
    REFUSED = "refused"
    """Requests answered 503, by `ingest` or `api`."""
    QUEUED = "queued"
    """Messages of queues: `received`, of these `repeated`, then `deleted` or `left`; `unread` ones are quarantined."""


SIZE = WIDTH * len(Stage)


class Sums(msgspec.Struct):
    """Latencies of one tenant, or of all: a number for each slot of each stage, and the seconds of each stage."""

    counts: list[int]
    seconds: list[float]


class Taken(msgspec.Struct, frozen=True):
    """What was noted since the last time; to be written, or given back."""

    by_tenant: Mapping[UUID, Sums]
    of_all: Sums
    tallies: Mapping[tuple[Count, str], int]

    @property
    def is_empty(self) -> bool:
        """Nothing to write."""
        return not self.by_tenant and not self.tallies


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of one stage, in seconds, at most 10 % (or a millisecond) off; None where nothing was noted."""

    count: int
    negative: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Ledger:
    """Of one process, in one event loop. Somebody takes and writes it every few seconds (`service.keep`).

    It is a ledger of latencies, not of events: a crash loses what was noted since the last time. What must be exact is
    counted in the transactions themselves (`counts`).
    """

    def __init__(self) -> None:
        self._by_tenant: dict[UUID, Sums] = {}
        self._of_all = _nothing()
        self._tallies: dict[tuple[Count, str], int] = {}

    def record(self, tenant_id: UUID, stage: Stage, seconds: float) -> None:
        """Notes that this stage of one of the tenant's events took so long."""
        sums = self._by_tenant.get(tenant_id)
        if sums is None:
            sums = self._by_tenant[tenant_id] = _nothing()
        slot = stage * WIDTH + bisect_left(BOUNDS, seconds)
        sums.counts[slot] += 1
        self._of_all.counts[slot] += 1
        if seconds > 0:
            sums.seconds[stage] += seconds
            self._of_all.seconds[stage] += seconds

    def count(self, what: Count, label: str = "", *, number: int = 1) -> None:
        """Notes that something happened `number` times."""
        key = (what, label)
        self._tallies[key] = self._tallies.get(key, 0) + number

    def take(self) -> Taken:
        """Everything noted since the last call, which is then forgotten."""
        taken = Taken(self._by_tenant, self._of_all, self._tallies)
        self._by_tenant, self._of_all, self._tallies = {}, _nothing(), {}
        return taken

    def give_back(self, taken: Taken) -> None:
        """Notes again what could not be written."""
        for tenant_id, sums in taken.by_tenant.items():
            _add(self._by_tenant.setdefault(tenant_id, _nothing()), sums)
        _add(self._of_all, taken.of_all)
        for (what, label), number in taken.tallies.items():
            self.count(what, label, number=number)


def _nothing() -> Sums:
    return Sums([0] * SIZE, [0.0] * len(Stage))


def _add(to: Sums, sums: Sums) -> None:
    to.counts = [one + other for one, other in zip(to.counts, sums.counts, strict=True)]
    to.seconds = [one + other for one, other in zip(to.seconds, sums.seconds, strict=True)]


def add_up(rows: Sequence[Sums]) -> Sums:
    """The sum of several."""
    total = _nothing()
    for row in rows:
        _add(total, row)
    return total


def sums_of(histograms: Sequence[Sequence[int]], seconds: Sequence[float]) -> Sums:
    """From what `histogram_of` made of each stage, in their order."""
    counts = [number for each in histograms for number in (*each, *[0] * (WIDTH - len(each)))]
    return Sums(counts, list(seconds))


def histogram_of(sums: Sums, stage: Stage) -> Sequence[int]:
    """The numbers of one stage, without the zeros at the end: most of what there is ends within seconds."""
    slots = slots_of(sums, stage)
    end = next((slot for slot in range(WIDTH, 0, -1) if slots[slot - 1]), 0)
    return slots[:end]


def slots_of(sums: Sums, stage: Stage) -> Sequence[int]:
    """The numbers of one stage, one for each slot."""
    return sums.counts[stage * WIDTH : (stage + 1) * WIDTH]


def percentiles(sums: Sums, stage: Stage) -> Percentiles:
    """Pure: what the histogram says of one stage."""
    slots = slots_of(sums, stage)
    count = sum(slots)
    if not count:
        return Percentiles(count=0, negative=0)
    return Percentiles(
        count=count,
        negative=slots[0],
        mean=sums.seconds[stage] / count,
        p50=quantile(slots, 0.5),
        p95=quantile(slots, 0.95),
        p99=quantile(slots, 0.99),
    )


def quantile(slots: Sequence[int], share: float) -> float:
    """The nearest-rank quantile in seconds: the middle, by ratio, of its slot, at most √1.2 - 1 = 9.6 % off.

    Within a millisecond the middle is half of it; what is less than nothing counts as nothing.
    """
    rank = max(1, math.ceil(share * sum(slots)))
    seen = 0
    for slot, number in enumerate(slots):
        seen += number
        if seen >= rank:
            return _middle(slot)
    raise ValueError("a histogram of nothing has no quantile")


def _middle(slot: int) -> float:
    if slot <= 1:
        return slot * FINEST / 2
    if slot >= len(BOUNDS):
        return BOUNDS[-1]
    return math.sqrt(BOUNDS[slot - 1] * BOUNDS[slot])
