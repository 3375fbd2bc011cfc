"""`broker bench fair`: what healthy receivers notice when others hang, drip, reset or fail, or one tenant floods.

100 endpoints, 20 each of 5 tenants, and every event is for one of them; half of each tenant's endpoints turn bad, at a
receiver process of their own. What counts is the time from when an event was due at SNS to its arrival at a healthy
endpoint, against the same endpoints in the same load while nobody is bad. Each load begins with empty tables on servers
of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from bench import plot, report
from bench.fair_layout import flood, halves
from bench.fair_run import Load, Phase, measure
from bench.flow import Flow
from bench.machine import Machine
from bench.match import Percentiles
from bench.stack import Say
from broker.local.options import data_directory

KINDS: Mapping[str, str] = {"hang": "hang", "drip": "drip", "reset": "reset", "500": "fail"}
"""Kinds of trouble, and how the sink calls them in its paths."""

ENDPOINTS = 100
OTHERS, TIMES = 5, 100  # tenants beside the one that floods, and how much more than each of them that one has


class Against(Flow, frozen=True, kw_only=True):
    """Healthy endpoints in trouble, and without. `lost` and `duplicated` are of the healthy ones' events.

    The figures of `Flow` are those in trouble; `receive_ms` is `healthy_ms`.
    """

    healthy_ms: Percentiles
    baseline_ms: Percentiles
    ratio_p99: float
    lost: int
    duplicated: int
    worker_mb: float
    calibration_us: float


class Result(Flow, frozen=True, kw_only=True):
    """What `--json` prints. `ratio_p99` is the worst of `kinds`; `healthy_ms` and `baseline_ms` are those of it.

    The figures of `Flow` are those of the load in which nobody is bad, or floods.
    """

    rate: float
    seconds: float
    endpoints: int
    workers: int
    timeout_s: float
    healthy_ms: Percentiles | None
    baseline_ms: Percentiles | None
    ratio_p99: float | None
    kinds: dict[str, Against]
    flood: Against | None
    lost: int
    duplicated: int
    calibration_us: float
    machine: Machine


def against(phase: Phase, baseline: Phase) -> Against:
    """The two beside each other."""
    worse, usual = phase.heard.ms, baseline.heard.ms
    return Against(
        **msgspec.structs.asdict(phase.flow),
        healthy_ms=worse,
        baseline_ms=usual,
        ratio_p99=round(worse.p99 / usual.p99, 2) if usual.p99 else 0.0,
        lost=phase.heard.missing,
        duplicated=phase.heard.again,
        worker_mb=phase.worker_mb,
        calibration_us=phase.calibration_us,
    )


def _halves(load: Load, kinds: Sequence[str], data_dir: Path, say: Say) -> tuple[dict[str, Against], Phase]:
    say("== nobody is bad")
    baseline = measure(load, data_dir, say)
    found = {}
    for kind in kinds:
        say(f"== half of the endpoints: {kind}")
        found[kind] = against(measure(msgspec.structs.replace(load, manner=KINDS[kind]), data_dir, say), baseline)
    return found, baseline


def _flood(rate: float, load: Load, data_dir: Path, say: Say) -> tuple[Against, Phase]:
    """`rate` is that of each of the others; the one that floods has a hundred times as much."""
    layout, counted = flood(others=OTHERS, times=TIMES), frozenset(range(OTHERS))
    alone = msgspec.structs.replace(load, layout=layout, counted=counted, groups=OTHERS, rate=rate * OTHERS)
    say("== nobody floods")
    baseline = measure(alone, data_dir, say)
    say(f"== one tenant floods with {rate * TIMES:g} events/s")
    flooded = msgspec.structs.replace(alone, groups=OTHERS + TIMES, rate=rate * (OTHERS + TIMES))
    return against(measure(flooded, data_dir, say), baseline), baseline


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=15, show_default=True,
              help="How long each load is measured, after a warm-up of two.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=10), default=1_200, show_default=True, help="Events a second.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only these kinds of trouble.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1), default=15, show_default=True,
              help="Deadline of a webhook, in seconds.")  # fmt: skip
@click.option("--flood/--no-flood", "with_flood", default=True, show_default=True, help="Let one tenant flood, too.")
@click.option("--flood-only", is_flag=True, help="Let one tenant flood, and nothing else.")
@click.option("--flood-rate", type=click.FloatRange(0.1), default=15, show_default=True,
              help="Events a second of each of the five other tenants; the flood is a hundred times that.")  # fmt: skip
@click.option("--endpoints", type=click.IntRange(2, 400), default=ENDPOINTS, show_default=True, help="In all.")
@click.option("--workers", type=click.IntRange(1, 8), default=1, show_default=True, help="Delivery workers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@report.out_option
def fair(
    *,
    seconds: float,
    rate: float,
    kinds: tuple[str, ...],
    timeout_s: float,
    with_flood: bool,
    flood_only: bool,
    flood_rate: float,
    endpoints: int,
    workers: int,
    as_json: bool,
    out: Path,
) -> None:
    """Half of the endpoints hang, drip a byte a second, reset or answer 500: what do the healthy ones notice?

    And what do small tenants notice beside one that floods?

    \b
    healthy_ms   from when an event was due to its arrival at a healthy endpoint, while others are bad
    baseline_ms  the same endpoints under the same load, while nobody is
    ratio_p99    of the two; "kinds" has it for each kind, "flood" for the tenants beside one that floods
    """
    data_dir = data_directory() / "bench"
    load = Load(
        layout=halves(endpoints),
        counted=frozenset(range(0, endpoints, 2)),
        groups=endpoints,
        rate=rate,
        seconds=seconds,
        workers=workers,
        timeout_s=timeout_s,
    )
    found: dict[str, Against] = {}
    flooded = None
    baselines = []
    if not flood_only:
        found, baseline = _halves(load, kinds or tuple(KINDS), data_dir, report.say)
        baselines.append(baseline)
    if with_flood or flood_only:
        flooded, baseline = _flood(flood_rate, load, data_dir, report.say)
        baselines.append(baseline)
    result = _result(load, found, flooded, baselines[0])
    report.say(told(result))
    report.keep("fair", msgspec.json.encode(result), drawn(result), as_json=as_json, out=out)
    if result.lost or result.duplicated:
        raise SystemExit(1)


def _result(load: Load, kinds: dict[str, Against], flooded: Against | None, baseline: Phase) -> Result:
    worst = max(kinds.values(), key=lambda each: each.ratio_p99, default=None)
    everything = [*kinds.values(), *([flooded] if flooded else [])]
    return Result(
        **msgspec.structs.asdict(baseline.flow),
        rate=load.rate,
        seconds=load.seconds,
        endpoints=len(load.layout),
        workers=load.workers,
        timeout_s=load.timeout_s,
        healthy_ms=worst.healthy_ms if worst else None,
        baseline_ms=worst.baseline_ms if worst else None,
        ratio_p99=worst.ratio_p99 if worst else None,
        kinds=kinds,
        flood=flooded,
        lost=sum(each.lost for each in everything),
        duplicated=sum(each.duplicated for each in everything),
        calibration_us=max(each.calibration_us for each in everything),
        machine=baseline.machine,
    )


def told(result: Result) -> str:
    """The figures as lines."""
    lines = [
        f"{'':10}{'healthy ms p50/p95/p99':>28}{'baseline ms':>28}{'p99 ratio':>10}{'lost':>6}{'dupl.':>6}{'MB':>6}"
    ]
    for name, each in (result.kinds | ({"flood": result.flood} if result.flood else {})).items():
        healthy, usual = (" / ".join(f"{ms:.0f}" for ms in _three(of)) for of in (each.healthy_ms, each.baseline_ms))
        tail = f"{each.ratio_p99:10.2f}{each.lost:6}{each.duplicated:6}{each.worker_mb:6.0f}"
        lines.append(f"{name:10}{healthy:>28}{usual:>28}{tail}")
    return "\n".join(lines)


def drawn(result: Result) -> str:
    """The figures as a plot: those of the calm first, then those in trouble."""
    calm = plot.Row.of("fair, nobody is bad", result)
    troubled = result.kinds | ({"flood": result.flood} if result.flood else {})
    return plot.draw([calm, *(plot.Row.of(f"fair, {name}", each) for name, each in troubled.items())])


def _three(found: Percentiles) -> tuple[float, float, float]:
    return found.p50, found.p95, found.p99
