"""What `broker trigger` prints for people."""

import click

from broker.local.scenarios import STORIES
from broker.local.trigger import Came, Report
from broker.local.trigger_watch import MOST_LOOKED_AT, Delivery


def show_stories() -> None:
    """Every scenario with what it does."""
    widest = max(len(name) for name in STORIES)
    for story in STORIES.values():
        click.echo(f"{click.style(story.name.ljust(widest), bold=True)}  {story.summary}")


def show_report(report: Report) -> None:
    """A line per event with its deliveries, then what did not come, or came too often."""
    for note in report.notes:
        click.secho(note, dim=True)
    for came in report.events[:MOST_LOOKED_AT]:
        _show(came)
    if len(report.events) > MOST_LOOKED_AT:
        click.echo(f"… and {len(report.events) - MOST_LOOKED_AT} more.")
    for count in report.missing:
        click.secho(f"✗ {count.count} {count.type} of {count.message_id} did not come", fg="red")
    for count in report.surplus:
        click.secho(f"✗ {count.count} {count.type} of {count.message_id} too many", fg="red")
    events = "1 event" if len(report.events) == 1 else f"{len(report.events)} events"
    click.echo(f"{events} of grant {report.grant_id} in {report.ms} ms.")


def _show(came: Came) -> None:
    whom = came.recipient or (f"hash {came.recipient_hash[:16]}…" if came.recipient_hash else "")
    click.echo(f"{click.style('✓', fg='green')} {came.type:<26} {whom:<40} {came.id}")
    for delivery in came.deliveries or ():
        click.echo(f"    {_told(delivery)}")
    if came.deliveries == []:
        click.secho("    none of your endpoints takes it; it is in GET /v1/events, and in broker listen", dim=True)


def _told(delivery: Delivery) -> str:
    if delivery.state == "pending":
        return f"… pending  {delivery.url}"
    mark = click.style("→", fg="green") if delivery.state == "delivered" else click.style("✗", fg="red")
    answer = str(delivery.status) if delivery.status is not None else delivery.error or "no answer"
    return f"{mark} {answer} in {delivery.latency_ms} ms  {delivery.url}"
