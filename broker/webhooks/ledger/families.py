"""The metrics by name: pure, from what was read to what Prometheus is told.

Units are seconds and plain numbers; what only grows ends in `_total`. All but the last are those of the whole
installation: add up nothing over several processes that are scraped.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.webhooks.counts import Overview
from broker.webhooks.ledger.ledger import BOUNDS, Count, Stage, Sums, percentiles, slots_of
from broker.webhooks.ledger.levels import Level

EVERY = 4  # every fourth slot ends a bucket, so each is about twice as long as the one before

_TALLIES: Mapping[Count, tuple[str, str, str]] = {
    Count.ATTEMPTS: ("broker_attempts", "outcome", "HTTP attempts at deliveries, by the class of the answer."),
    Count.FEEDBACK: ("broker_feedback", "outcome", "Feedback by what became of it: events by recipient, or messages."),
    Count.QUARANTINED: ("broker_quarantined", "reason", "Feedback messages that were not to be trusted, or not read."),
    Count.BATCHES: ("broker_ingest_batches", "", "Batches of feedback messages that were committed."),
    Count.MESSAGES: ("broker_ingest_messages", "", "Feedback messages in those batches."),
    Count.REFUSED: ("broker_refused", "by", "Requests that were answered with 503."),
    Count.QUEUED: ("broker_queue_messages", "outcome", "Messages that came by SQS, by what became of them."),
}


_LEVELS: Mapping[Level, tuple[str, str]] = {
    Level.WAITING: ("broker_sqs_waiting_messages", "Messages of feedback that wait in SQS."),
    Level.IN_FLIGHT: ("broker_sqs_in_flight_messages", "Messages that were received and are not deleted yet."),
    Level.DEAD: ("broker_sqs_dead_messages", "Messages in the dead-letter queue, which somebody has to look at."),
}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says. `tenants`: sums of the running hour and the one before. `tallies` by name and label."""

    deliveries: Overview
    dead_kept: int
    lanes: int
    lanes_held: int
    deltas: int
    astray: Mapping[str, int]
    tallies: Mapping[tuple[str, str], int]
    latencies: Sums
    tenants: Mapping[UUID, Sums]
    levels: Mapping[tuple[str, str], tuple[int, datetime]] = {}
    """By name and label: the last reading, and when it was made."""


class Families(Collector):
    """Metrics in the form that the client library writes."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All of them, in order."""
        return self._families


def families_of(reading: Reading) -> list[Metric]:
    """Everything that the database knows."""
    return [
        *_deliveries(reading),
        *_tables(reading),
        *_tallies(reading),
        *_levels(reading),
        _stages(reading),
        _by_tenant(reading),
    ]


def queue_of(waiting: int) -> Metric:
    """What only this process knows."""
    return GaugeMetricFamily(
        "broker_ingest_queue_messages", "Messages that wait to be stored in this process.", waiting
    )


def _deliveries(reading: Reading) -> list[Metric]:
    found = reading.deliveries
    return [
        CounterMetricFamily("broker_deliveries_created", "Deliveries made, or made again.", found.created),
        CounterMetricFamily("broker_deliveries_delivered", "Deliveries accepted with a 2xx.", found.delivered),
        CounterMetricFamily("broker_deliveries_cancelled", "Deliveries whose endpoint was deleted.", found.cancelled),
        GaugeMetricFamily("broker_deliveries_dead", "Deliveries given up and not sent again since.", found.dead),
        GaugeMetricFamily("broker_deliveries_dead_kept", "Dead deliveries that can be sent again.", reading.dead_kept),
        GaugeMetricFamily("broker_deliveries_pending", "Deliveries still to be made.", found.pending),
        GaugeMetricFamily(
            "broker_deliveries_missing",
            "Created, and nothing became of them: always 0.",
            found.missing,
        ),
        GaugeMetricFamily(
            "broker_deliveries_oldest_pending_seconds", "Age of the oldest event pending.", found.oldest_seconds or 0
        ),
        GaugeMetricFamily(
            "broker_deliveries_overdue_seconds",
            "How long a delivery has been due to an endpoint that takes any and does not fail.",
            found.overdue_seconds or 0,
        ),
    ]


def _tables(reading: Reading) -> list[Metric]:
    astray = GaugeMetricFamily(
        "broker_default_partition_rows", "Rows that lie in the partition of no day.", labels=["table"]
    )
    for table, number in sorted(reading.astray.items()):
        astray.add_metric([table], number)
    return [
        GaugeMetricFamily("broker_lanes", "Endpoints that were ever made.", reading.lanes),
        GaugeMetricFamily("broker_lanes_held", "Endpoints that a worker is delivering to.", reading.lanes_held),
        GaugeMetricFamily("broker_delivery_deltas", "Changes of counters that are to be summed up.", reading.deltas),
        astray,
    ]


def _tallies(reading: Reading) -> list[Metric]:
    made: list[Metric] = []
    for count, (name, label, about) in _TALLIES.items():
        family = CounterMetricFamily(name, about, labels=[label] if label else [])
        labels = sorted(each for known, each in reading.tallies if known == count)
        for each in labels or ([] if label else [""]):
            family.add_metric([each] if label else [], reading.tallies.get((count, each), 0))
        made.append(family)
    return made


def _levels(reading: Reading) -> list[Metric]:
    made: list[Metric] = []
    for level, (name, about) in _LEVELS.items():
        family = GaugeMetricFamily(name, about, labels=["region"])
        for (known, label), (value, _) in sorted(reading.levels.items()):
            if known == level:
                family.add_metric([label], value)
        made.append(family)
    read = GaugeMetricFamily(
        "broker_sqs_read_timestamp_seconds", "When the queues were looked into.", labels=["region"]
    )
    for (known, label), (_, at) in sorted(reading.levels.items()):
        if known == Level.DEAD:
            read.add_metric([label], at.timestamp())
    return [*made, read]


def _stages(reading: Reading) -> Metric:
    family = HistogramMetricFamily("broker_latency_seconds", "How long each stage of an event took.", labels=["stage"])
    for stage in Stage:
        seconds = reading.latencies.seconds[stage]
        family.add_metric([stage.name.lower()], _buckets(slots_of(reading.latencies, stage)), seconds)
    return family


def _buckets(slots: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative; what is less than nothing is in the first."""
    ends = range(1, len(BOUNDS), EVERY)
    return [*((f"{BOUNDS[end]:.6g}", float(sum(slots[: end + 1]))) for end in ends), ("+Inf", float(sum(slots)))]


def _by_tenant(reading: Reading) -> Metric:
    family = GaugeMetricFamily(
        "broker_tenant_latency_seconds",
        "Percentiles of the last one to two hours, of the tenants with the most events.",
        labels=["tenant", "stage", "percentile"],
    )
    for tenant_id, sums in reading.tenants.items():
        for stage in Stage:
            found = percentiles(sums, stage)
            for name, value in (("50", found.p50), ("95", found.p95), ("99", found.p99)):
                if value is not None:
                    family.add_metric([str(tenant_id), stage.name.lower(), name], value)
    return family
