"""What the API answers about deliveries counted and latencies measured."""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries by what became of them: created = delivered + pending + dead + cancelled + missing, and missing is 0.

    `created`: an event, or its being sent again, times the endpoints that were to get it. `dead`: given up, and not
    sent again since. `cancelled`: its endpoint was deleted before.
    """

    created: int
    delivered: int
    pending: int
    dead: int
    cancelled: int
    missing: int


class UsageDay(Totals, frozen=True, kw_only=True):
    """The deliveries of the events of one day (UTC), whenever they were delivered."""

    day: date


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """All days from `first` to `last` on which there was anything, oldest first, as they were at one moment."""

    first: date
    last: date
    total: Totals
    days: Sequence[UsageDay]


class StageLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds, at most 10 % (or 1 ms) off; null where nothing was measured.

    `negative` of them ended before they began, by two clocks that differ; they count as nothing.
    """

    count: int
    negative: int
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """The way of an event: SES's own time → here → stored for good → first attempt → accepted with a 2xx."""

    ses_to_received: StageLatency
    received_to_committed: StageLatency
    committed_to_attempted: StageLatency
    attempted_to_accepted: StageLatency


class LatencyHour(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured in the hour that begins at `hour`."""

    hour: datetime
    stages: Latency


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """All hours from `first` to `last` with anything measured, oldest first, and all of them together."""

    first: datetime
    last: datetime
    stages: Latency
    hours: Sequence[LatencyHour]
