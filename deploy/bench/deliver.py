"""`broker bench deliver` and `broker bench growth`: from SNS's POST to the receiver of the webhook, measured."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench import faults as breaking
from bench import report
from bench.run import Options, Result, Scenario, run
from broker.local.options import data_directory

OPEN_RATES = (500.0, 2_000.0, 5_000.0)
MANY = 2_000  # endpoints
CLOSED = 512  # connections
FAULT_RATE = 1_000.0
GROWN_EVENTS, GROWN_PENDING = 1_000_000, 200_000
MOST_WORSE = 1.2  # times


def standard(seconds: float, workers: int) -> list[Scenario]:
    """The set that is run when nothing is asked for; the first is the main one."""
    shapes: list[dict[str, Any]] = [
        {},
        {"fan_out": 3, "endpoints": 3},
        {"fan_out": 10, "endpoints": 10},
        {"endpoints": MANY},
        *({"rate": rate} for rate in OPEN_RATES),
        {"rate": 2_000.0, "endpoints": MANY},
    ]
    return [Scenario(seconds=seconds, workers=workers, connections=CLOSED, **shape) for shape in shapes]


def _common(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option("--seconds", type=click.FloatRange(min=1), default=10, show_default=True,
                         help="How long each scenario is measured, after a warm-up of a second."),
            click.option("--workers", type=click.IntRange(1, 8), default=1, show_default=True,
                         help="Delivery workers."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
            report.out_option,
        )
    ):  # fmt: skip
        function = option(function)
    return function


@click.command()
@_common
@click.option("--rate", type=click.FloatRange(min=1), help="Open loop: so many messages a second.")
@click.option("--closed", "connections", type=click.IntRange(1, 4096), help="Closed loop over so many connections.")
@click.option("--fan-out", type=click.IntRange(1, 40), help="Endpoints that hear each event.  [default: 1]")
@click.option("--endpoints", type=click.IntRange(1, 20_000), help="Endpoints in all.  [default: the fan-out]")
@click.option("--events-before", type=click.IntRange(0), default=0, help="Events that are there already.")
@click.option("--pending-before", type=click.IntRange(0), default=0, help="Pending deliveries that are there already.")
@click.option("--fault", "faults", multiple=True, type=click.Choice([*breaking.NAMES, "all"]),
              help="Break this every three seconds, in turn; may be given several times.")  # fmt: skip
@click.option("--profile", is_flag=True, help="Draw flame graphs of API and workers (needs py-spy) into --out.")
def deliver(*, seconds: float, workers: int, as_json: bool, out: Path, profile: bool, **shape: Any) -> None:
    """Deliver events: generator (signed SNS posts), API, Postgres (fsync on), Redis, workers and sink, all here.

    Without options that shape the load, a set of scenarios is run: closed loop with fan-out 1, 3 and 10 and with 2,000
    endpoints, open loop at 500, 2,000 and 5,000 messages a second. Figures of the first stand at the top of the JSON.

    \b
    events_per_s      acknowledged within the window after the warm-up, by its length
    deliveries_per_s  all deliveries, by the time from the first message to the last receipt
    ack_ms            from when a message was due to its 200 (in open loop a stall counts for all that had to wait)
    receive_ms        from when a message was due to its webhook's arrival at the sink
    lost              deliveries of acknowledged messages that did not arrive
    duplicated        arrivals beyond the first
    """
    chosen = {name: value for name, value in shape.items() if value}
    scenarios = [_scenario(seconds, workers, chosen)] if chosen or profile else standard(seconds, workers)
    flames = out if profile else None
    options = Options(data_dir=data_directory() / "bench", say=report.say, profile=flames)
    results = [run(scenario, options) for scenario in scenarios]
    if flames is not None:
        report.say(f"flame graphs: {', '.join(str(path) for path in sorted(flames.glob('*.svg')))}")
    report.emit("deliver", results, results[0], as_json=as_json, out=out)
    _judge(results)


@click.command()
@_common
@click.option("--rate", type=click.FloatRange(min=1), help="Open loop instead of a closed one.")
@click.option("--events", type=click.IntRange(0), default=GROWN_EVENTS, show_default=True, help="Events before.")
@click.option("--pending", type=click.IntRange(0), default=GROWN_PENDING, show_default=True, help="Pending before.")
def growth(
    *, seconds: float, workers: int, as_json: bool, out: Path, rate: float | None, events: int, pending: int
) -> None:
    """Deliver into empty tables, and into tables of a long life; judges the ratio of the two: no more than 1.2."""
    options = Options(data_dir=data_directory() / "bench", say=report.say)
    empty = Scenario(seconds=seconds, workers=workers, rate=rate or 0.0, connections=CLOSED)
    full = Scenario(
        seconds=seconds, workers=workers, rate=rate or 0.0, connections=CLOSED, events_before=events,
        pending_before=pending,
    )  # fmt: skip
    results = [run(empty, options), run(full, options)]
    ratios = grown(*results)
    within = stays_within(*results)
    more = {"growth": ratios, "within_1_2": within}
    report.emit("growth", results, results[1], as_json=as_json, out=out, more=more)
    report.say("  ".join(f"{name}: x {value}" for name, value in ratios.items()))
    report.say(f"{'PASSED' if within else 'FAILED'}: events/s and deliveries/s no more than x {MOST_WORSE} worse")
    _judge(results)


def grown(empty: Result, full: Result) -> dict[str, float]:
    """How much worse it became, per figure: 1.0 is as before, 1.2 a fifth slower."""
    pairs = {
        "events": (empty.events_per_s, full.events_per_s),
        "deliveries": (empty.deliveries_per_s, full.deliveries_per_s),
        "ack_p99": (full.ack_ms.p99, empty.ack_ms.p99),
        "receive_p99": (full.receive_ms.p99, empty.receive_ms.p99),
        "postgres_cpu": tuple((each.cpu_us_per_event or {}).get("postgres", 0.0) for each in (full, empty)),
    }
    return {name: round(over / under, 2) if under else 0.0 for name, (over, under) in pairs.items()}


def stays_within(empty: Result, full: Result) -> bool:
    """Whether neither events nor deliveries a second became more than 1.2 times worse."""
    pairs = ((empty.events_per_s, full.events_per_s), (empty.deliveries_per_s, full.deliveries_per_s))
    return all(0 < before <= after * MOST_WORSE for before, after in pairs)


def _scenario(seconds: float, workers: int, chosen: dict[str, Any]) -> Scenario:
    fan_out = chosen.get("fan_out", 1)
    if "rate" in chosen and "connections" in chosen:
        raise click.UsageError("--rate is an open loop and --closed is not: choose one.")
    broken = breaking.named(chosen.get("faults", ()))
    if broken and "connections" not in chosen:
        chosen = {"rate": FAULT_RATE, **chosen}
    return Scenario(
        **{
            **chosen, "seconds": seconds, "workers": workers, "fan_out": fan_out, "faults": broken,
            "endpoints": max(fan_out, chosen.get("endpoints", fan_out)),
        }
    )  # fmt: skip


def _judge(results: Sequence[Result]) -> None:
    """Losing anything, or sending twice without a fault, is a failure whatever the figures are."""
    for each in results:
        if each.lost or each.misdelivered or each.left_pending or (each.duplicated and not each.faults):
            report.say(f"FAILED: {each.scenario}: {each.lost} lost, {each.duplicated} duplicated, "
                       f"{each.misdelivered} misdelivered, {each.left_pending} left pending")  # fmt: skip
            raise SystemExit(1)
