"""How figures are shown: one JSON object on stdout, a table on stderr, files for keeping."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import plot
from bench.run import Result
from broker.local.options import data_directory

_STDERR = Console(stderr=True, highlight=False)


def results_directory() -> Path:
    """Where the figures of a run that begins now are kept, if nothing else is said."""
    return data_directory() / "bench" / "results" / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"


out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=results_directory,
    show_default=".local/bench/results/<UTC time>",
    help="Where the JSON and, if there is one, the plot (SVG) are written.",
)


def say(line: str) -> None:
    """Tell the person at the terminal; stdout is for figures."""
    _STDERR.print(line, style="dim", markup=False, soft_wrap=True)


def as_object(results: Sequence[Result], main: Result, more: Mapping[str, object] | None = None) -> dict[str, object]:
    """The one object: the main scenario's figures, and all of them under ``scenarios`` where there are several."""
    found: dict[str, object] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **msgspec.to_builtins(main)}
    if len(results) > 1:
        found["scenarios"] = [msgspec.to_builtins(result) for result in results]
    return {**found, **(more or {})}


def emit(
    name: str,
    results: Sequence[Result],
    main: Result,
    *,
    as_json: bool,
    out: Path,
    more: Mapping[str, object] | None = None,
) -> None:
    """Print the table, and the object where it is asked for; write both it and a plot to ``out``."""
    show(results)
    keep(name, msgspec.json.encode(as_object(results, main, more)), plot.draw(results), as_json=as_json, out=out)


def keep(name: str, found: bytes, drawing: str | None, *, as_json: bool, out: Path) -> None:
    """Print the object where it is asked for; write it and the plot, where there is one, to ``out``."""
    if as_json:
        click.echo(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_bytes(msgspec.json.format(found, indent=2))
    say(f"written: {out / name}.json")
    if drawing is not None:
        (out / f"{name}.svg").write_text(drawing)
        say(f"written: {out / name}.svg")


def show(results: Sequence[Result]) -> None:
    """Print tables of the figures and of the processor time."""
    table = Table(title=_title(results[0]))
    for heading in ("scenario", "events/s", "deliv./s", "ack ms p50/p95/p99", "event→receiver ms", "SQL/1,000"):
        table.add_column(heading, justify="left" if heading == "scenario" else "right")
    for heading in ("lost", "dupl.", "CPU µs/event", "calib. µs"):
        table.add_column(heading, justify="right")
    for each in results:
        table.add_row(
            each.scenario,
            f"{each.events_per_s:,.0f}",
            f"{each.deliveries_per_s:,.0f}",
            _three(each.ack_ms.p50, each.ack_ms.p95, each.ack_ms.p99),
            _three(each.receive_ms.p50, each.receive_ms.p95, each.receive_ms.p99),
            "-" if each.sql_round_trips_per_1000 is None else f"{each.sql_round_trips_per_1000:.1f}",
            str(each.lost),
            str(each.duplicated),
            _cpu(each),
            f"{each.calibration_us:.1f}",
        )
    width = None if sys.stderr.isatty() else 190
    Console(stderr=True, highlight=False, width=width).print(table)


def _title(first: Result) -> str:
    where = first.machine
    return (
        f"{where.cores} x {where.processor}, Python {where.python}, Postgres {where.postgres}; "
        "everything on this machine, fsync on, signatures verified"
    )


def _three(*values: float) -> str:
    return " / ".join(f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in values)


def _cpu(result: Result) -> str:
    spent = result.cpu_us_per_event
    if spent is None:
        return "-"
    return " ".join(f"{name} {us:.0f}" for name, us in spent.items() if us >= 0.5)
