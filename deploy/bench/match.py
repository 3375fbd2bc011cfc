"""What became of every message: latencies, and what was lost, came twice or came to the wrong endpoint. Pure."""

from collections.abc import Sequence

import msgspec

from bench.generator import Sent, Summary
from bench.sink import Receipts


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A run, counted. Latencies are of what was due in the window: after the warm-up, before the generator ended.

    ``events_per_s``: acknowledged within the window, by its length. ``deliveries_per_s``: all different deliveries, by
    the time from the first message to the last receipt, warm-up and drain included. ``receive_ms`` counts from when the
    message was due to the arrival of each of its webhooks. ``lost``: deliveries of acknowledged messages that did not
    arrive; ``duplicated``: arrivals beyond the first; ``misdelivered``: arrivals at an endpoint of somebody else, or of
    nothing that was sent.
    """

    acknowledged: int
    events_per_s: float
    deliveries: int
    deliveries_per_s: float
    ack_ms: Percentiles
    receive_ms: Percentiles
    lost: int
    duplicated: int
    misdelivered: int
    unacknowledged: int
    retried: int


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of all do not exceed ("nearest rank"); 0.0 of none."""
    if not ordered:
        return 0.0
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(len(ordered), max(1, rank)) - 1]


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Of latencies in seconds, in any order."""
    ordered = sorted(seconds)
    return Percentiles(*(round(percentile(ordered, share) * 1000, 1) for share in (0.5, 0.95, 0.99)))


def account(
    summary: Summary, sent: Sent, receipts: Receipts, *, groups: int, fan_out: int, warm_up_s: float = 0.0
) -> Account:
    """Match what was sent with what came in; message ``n`` is for endpoints ``n % groups * fan_out`` and the next."""
    begin, end = summary.started + warm_up_s, summary.ended
    first = summary.first
    arrived = bytearray(len(sent.due) * fan_out)
    latencies: list[float] = []
    duplicated = misdelivered = 0
    last = summary.started
    for number, endpoint, at in zip(*receipts, strict=True):
        place, slot = number - first, endpoint - number % groups * fan_out
        if not (0 <= place < len(sent.due) and 0 <= slot < fan_out):
            misdelivered += 1
            continue
        index = place * fan_out + slot
        if arrived[index]:
            duplicated += 1
            continue
        arrived[index] = 1
        last = max(last, at)
        if begin <= sent.due[place] <= end:
            latencies.append(at - sent.due[place])
    acked = [place for place, at in enumerate(sent.acked) if at]
    came = sum(sum(arrived[place * fan_out : (place + 1) * fan_out]) for place in acked)
    in_window = sum(1 for place in acked if begin <= sent.acked[place] <= end)
    deliveries = sum(arrived)
    return Account(
        acknowledged=len(acked),
        events_per_s=rate(in_window, end - begin),
        deliveries=deliveries,
        deliveries_per_s=rate(deliveries, last - summary.started),
        ack_ms=percentiles([sent.acked[p] - sent.due[p] for p in acked if begin <= sent.due[p] <= end]),
        receive_ms=percentiles(latencies),
        lost=len(acked) * fan_out - came,
        duplicated=duplicated,
        misdelivered=misdelivered,
        unacknowledged=len(sent.due) - len(acked),
        retried=sum(tries - 1 for tries in sent.tries if tries > 1),
    )


def rate(count: int, seconds: float) -> float:
    """So many a second; 0.0 of no time."""
    return round(count / seconds, 1) if seconds > 0 else 0.0
