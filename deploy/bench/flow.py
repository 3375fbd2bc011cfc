"""What every benchmark tells of the events that went through: the same figures under the same names."""

import msgspec

from bench.generator import Sent, Summary
from bench.match import Percentiles, percentiles, rate
from bench.sink import Receipts


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Events through the broker; they mean what they mean in ``bench.match.Account``. ``None``: not measured.

    ``sql_round_trips_per_1000`` deliveries, of API and delivery workers over their whole life.
    """

    events_per_s: float | None
    deliveries_per_s: float | None
    ack_ms: Percentiles | None
    receive_ms: Percentiles | None
    sql_round_trips_per_1000: float | None


NOTHING = Flow(events_per_s=None, deliveries_per_s=None, ack_ms=None, receive_ms=None, sql_round_trips_per_1000=None)


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What was acknowledged, and what came to one receiver, whoever else got something."""

    events_per_s: float
    ack_ms: Percentiles
    deliveries: int
    deliveries_per_s: float


def passed(summary: Summary, sent: Sent, receipts: Receipts, *, warm_up_s: float) -> Passed:
    """Of messages that are for one endpoint each: rates and acknowledgements after the warm-up, and all deliveries."""
    begin, end = summary.started + warm_up_s, summary.ended
    pairs = list(zip(sent.due, sent.acked, strict=True))
    first: dict[int, float] = {}
    for number, at in zip(receipts.numbers, receipts.times, strict=True):
        if 0 <= number - summary.first < len(pairs):
            first[number] = min(at, first.get(number, at))
    return Passed(
        events_per_s=rate(sum(1 for _, acked in pairs if acked and begin <= acked <= end), end - begin),
        ack_ms=percentiles([acked - due for due, acked in pairs if acked and begin <= due <= end]),
        deliveries=len(first),
        deliveries_per_s=rate(len(first), max(first.values(), default=0.0) - summary.started),
    )


def per_thousand(round_trips: int | None, deliveries: int) -> float | None:
    """Round trips per 1,000 deliveries; None where either is not known."""
    return None if round_trips is None or not deliveries else round(round_trips * 1000 / deliveries, 1)
