"""`broker bench faults`: kills the API, the worker and the migration at every named point, and counts what was lost.

Real processes on a real Postgres, Redis and local AWS. A process that is told to die ends itself by SIGKILL at its
point (broker/points.py) and is started again at once. Then everything must come to rest and hold: each event was made
once and came to both parties, the deliveries of each tenant are all accounted for (I1), every grant is what its paper
says, SES holds the policies that the paper wants and no other, and no due row is left behind. Leases of the process
that died are wound forward to half a second, so that the time to recover is that of the broker and not of a clock.
"""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import crash_run, report
from bench.crash_points import AIMS
from bench.crash_result import Crash, Result, result_of
from broker.local.directories import run_directory
from broker.local.options import data_directory


@click.command()
@click.argument("points", nargs=-1)
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each point.")
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="The first seed.")
@click.option("--seconds", type=click.FloatRange(min=1), default=None, help="Begin no run after so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@report.out_option
def faults(*, points: tuple[str, ...], seeds: int, first: int, seconds: float | None, as_json: bool, out: Path) -> None:
    """Kill at every point of the code that changes something, and count what is lost. POINTS: those that begin so.

    \b
    killed      runs in which a process died at the point, of those made
    recover ms  from the kill until what was under way was as it has to be, the start of a new process included
    resent      webhooks that came again under the same id, as "at least once" allows: no more than one for each kill
    duplicated  events that became two, and webhooks that came more often than that
    stuck       grants, policies and due rows that nobody brought in order
    """
    try:
        wanted = crash_run.known(points)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    with run_directory(data_directory() / "bench") as directory:
        plan = crash_run.Plan(points=wanted, seeds=seeds, first=first, seconds=seconds)
        crashes, machine, calibration_us = crash_run.measure(plan, directory, report.say)
    found = result_of(crashes, machine=machine, calibration_us=calibration_us)
    _show(found)
    report.keep("faults", msgspec.json.encode(found), None, as_json=as_json, out=out)
    if found.survived < found.runs:
        raise SystemExit(1)


def _show(found: Result) -> None:
    table = Table(title=f"{found.points} points, {found.runs} runs, {found.survived} survived")
    table.add_column("point")
    table.add_column("scenario")
    for heading in ("killed", "recover ms", "resent", "lost", "duplicated", "stuck"):
        table.add_column(heading, justify="right")
    for point in dict.fromkeys(crash.point for crash in found.crashes):
        table.add_row(point, AIMS[point].scenario, *_row([each for each in found.crashes if each.point == point]))
    table.add_section()
    figures = (found.resent, found.lost, found.duplicated, found.stuck)
    table.add_row("all", "", f"{found.killed}/{found.runs}", f"p99 {found.recover_ms_p99:,.0f}", *map(str, figures))
    Console(stderr=True, highlight=False, width=130).print(table)
    for crash in found.crashes:
        if not crash.survived:
            report.say(f"{crash.point}, seed {crash.seed}, hit {crash.hit}: {crash.why}")


def _row(crashes: list[Crash]) -> list[str]:
    times = [each.recover_ms for each in crashes if each.recover_ms is not None]
    sums = [sum(getattr(each, name) for each in crashes) for name in ("resent", "lost", "duplicated", "stuck")]
    return [f"{len(times)}/{len(crashes)}", " ".join(f"{each:,.0f}" for each in times), *map(str, sums)]
