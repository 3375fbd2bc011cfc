"""`broker bench naive`: the same work the usual way, done well, and the broker beside it in the same minutes.

The usual way: a Litestar route verifies, parses and attributes a message with the broker's own functions, stores the
event and its deliveries in one ORM session, commits, and enqueues one arq job per delivery (poll every 10 ms, 100 jobs
at once, no results kept); a job loads its delivery in an ORM session of its own, renders and signs as the broker does,
posts with a pooled httpx client while no connection to Postgres is held, writes the attempt and deletes the delivery.
Same Postgres with fsync, same Redis, same messages, generator and sink. It is spared some of the broker's work:
row-level security, decryption of secrets, custom headers, the checks on receivers' addresses.
"""

import sys
from pathlib import Path

import click
import msgspec

from bench import own_time, report
from bench.deliver import CLOSED
from bench.run import Options, Result, Scenario, run
from bench.stack import Programs
from broker.local.directories import run_directory
from broker.local.options import data_directory

PROGRAMS = Programs(
    api=(sys.executable, "-m", "bench.naive_app", "{port}"),
    worker=(sys.executable, "-m", "bench.naive_worker"),
    worker_ready="naive worker ready",
    control=(),
)
SHOWN = 12  # functions of a profile


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Functions by their share of the process's own CPU time, in percent, the largest first."""

    api: own_time.Own
    worker: own_time.Own


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=10, show_default=True,
              help="How long each of the two is measured, after a warm-up of a second.")  # fmt: skip
@click.option("--closed", "connections", type=click.IntRange(1, 4096), default=CLOSED, show_default=True,
              help="Closed loop over so many connections.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 8), default=1, show_default=True, help="The broker's workers.")
@click.option("--naive-workers", type=click.IntRange(1, 8), default=2, show_default=True,
              help="The naive system's workers; two make the most of two cores.")  # fmt: skip
@click.option("--alone", is_flag=True, help="The naive system only, without the broker beside it.")
@click.option("--profile", is_flag=True, help="Tell where the naive system spends its CPU time; costs it a little.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@report.out_option
def naive(
    *,
    seconds: float,
    connections: int,
    workers: int,
    naive_workers: int,
    alone: bool,
    profile: bool,
    as_json: bool,
    out: Path,
) -> None:
    """Do the broker's work the usual way, done well: an ORM session and an arq job for each delivery, httpx.

    The broker does the same right after it, and the ratio of the two is told: figures of one machine at one time.
    The JSON has the figures of the naive system at the top and under "naive", and the broker's under "broker".
    """
    data_dir = data_directory() / "bench"
    report.say("== naive")
    shape = Scenario(seconds=seconds, connections=connections, workers=naive_workers)
    found, where = measure(shape, data_dir, profile=profile)
    results, more = [found], {"naive": msgspec.to_builtins(found)}
    if not alone:
        shape = msgspec.structs.replace(shape, workers=workers)
        report.say("== the broker")
        ours = _named("the broker", run(shape, Options(data_dir=data_dir, say=report.say)))
        results.append(ours)
        more |= {"broker": msgspec.to_builtins(ours), **ratios(ours, found)}
    if where is not None:
        more["profile"] = msgspec.to_builtins(where)
    report.emit("naive", results, found, as_json=as_json, out=out, more=more)
    if not alone:
        report.say("  ".join(f"{name}: {value:g}" for name, value in ratios(ours, found).items()))
    for name, functions in (msgspec.to_builtins(where) if where else {}).items():
        report.say(f"own time, naive {name}: " + ", ".join(f"{function} {share:g} %" for function, share in functions))


def measure(shape: Scenario, data_dir: Path, *, profile: bool) -> tuple[Result, Profile | None]:
    """The naive system under this load, with its profile where that is wanted."""
    with run_directory(data_dir) as directory:
        settings = {own_time.VARIABLE: str(directory)} if profile else {}
        options = Options(data_dir=data_dir, say=report.say, programs=PROGRAMS, settings=settings)
        result = _named("naive", run(shape, options))
        if not profile:
            return result, None
        api, worker = (own_time.load(directory, name)[:SHOWN] for name in ("api", "worker"))
        return result, Profile(api=api, worker=worker)


def ratios(ours: Result, other: Result) -> dict[str, float]:
    """How many times as much the broker does: of deliveries, of events, and of deliveries per CPU second."""
    pairs = {
        "ratio_deliveries_per_s": (ours.deliveries_per_s, other.deliveries_per_s),
        "ratio_events_per_s": (ours.events_per_s, other.events_per_s),
        "ratio_cpu_per_event": (_cpu(other), _cpu(ours)),
    }
    return {name: round(over / under, 1) if under else 0.0 for name, (over, under) in pairs.items()}


def _cpu(result: Result) -> float:
    """CPU µs per event of what does the work, without generator and sink."""
    spent = result.cpu_us_per_event or {}
    return sum(spent.get(name, 0.0) for name in ("api", "worker", "postgres", "redis"))


def _named(who: str, result: Result) -> Result:
    return msgspec.structs.replace(result, scenario=f"{who}: {result.scenario}")
