"""How a demo ended: a small table for people, one JSON object for programs."""

import msgspec
from rich.console import Console
from rich.table import Table

from broker.local.telling import Step


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``ok`` only when every step was played and every claim in it was checked and true. Times in milliseconds.

    ``revoke_ms``: from asking for the revocation until SES was read a second time without the access;
    ``removed_ms``: until it was read so for the first time. ``event_to_webhook_ms``: from SNS's time of the bounce to
    the later of both parties' receivers. None: the story did not come so far.
    """

    ok: bool
    steps: list[Step]
    revoke_ms: int | None
    removed_ms: int | None
    event_to_webhook_ms: int | None
    start_ms: int
    total_ms: int
    error: str | None = None


def show(report: Report, console: Console) -> None:
    """Prints the table."""
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("step")
    table.add_column("checks", justify="right")
    table.add_column("time", justify="right")
    table.add_row("Starting everything", "", _seconds(report.start_ms))
    for number, step in enumerate(report.steps, 1):
        mark = "" if step.ok else " [red]failed[/red]"
        table.add_row(f"{number}  {step.name}{mark}", str(len(step.checks)), _seconds(step.ms))
    table.add_section()
    table.add_row("Revocation: asked → gone from SES", "", _milliseconds(report.removed_ms))
    table.add_row("Revocation: asked → confirmed by a second read", "", _milliseconds(report.revoke_ms))
    table.add_row("Bounce: event → both webhooks", "", _milliseconds(report.event_to_webhook_ms))
    table.add_row("All of it", "", _seconds(report.total_ms))
    console.print()
    console.print(table)
    console.print()
    if report.ok:
        console.print("[green]Every step was checked and true.[/green]")
    else:
        console.print("The demo failed. ", style="red", end="")
        console.print(report.error or "", markup=False, highlight=False, soft_wrap=True)


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"


def _milliseconds(ms: int | None) -> str:
    return "-" if ms is None else f"{ms} ms"
