"""The commands for developers: `broker listen` and `broker trigger`."""

import re
import sys
from collections.abc import Container, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click
import msgspec

from broker.local.child import StartError
from broker.local.options import (
    api_option,
    data_directory,
    json_option,
    key_option,
    run_option,
    state_directory,
)

# Each command imports what it needs: `broker --help` has to answer at once.

if TYPE_CHECKING:
    from broker.local.listen import Start

_AGO = re.compile(r"(\d{1,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.command(short_help="Bring your events to your own machine.")
@click.option(
    "--forward-to", "target", metavar="URL", required=True, help="Your server, such as http://localhost:3000/hook."
)
@api_option
@key_option
@click.option("--types", metavar="LIST", help="Only these, such as email.*,grant.revoked; default all.")
@click.option(
    "--since",
    metavar="WHEN",
    default="cursor",
    help="cursor: where the last run ended, the first time now (default); now; 30m, 2h, 3d; or a time with its offset.",
)
@click.option("--from-start", is_flag=True, help="Begin with the first event that the broker still has.")
@click.option(
    "--secret", envvar="BROKER_LISTEN_SECRET", metavar="WHSEC", help="Sign with this; default one of your own, kept."
)
@json_option
@run_option
def listen(
    *,
    target: str,
    api: str | None,
    api_key: str | None,
    types: str | None,
    since: str,
    from_start: bool,
    secret: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Bring your tenant's events to your own machine: live, signed, in order.

    Each is what a webhook gets, byte for byte, signed as in Standard Webhooks with the secret that is printed at the
    start and stays the same. A key with the scope read is enough. What your server answers is shown and not tried
    again; while nothing listens there, events wait. The next run goes on where this one ended.
    """
    from broker.local.listen import Options, run
    from broker.local.listen_screen import Lines, Table
    from broker.local.listen_state import find_secret
    from broker.local.processes import ended_by_signals

    directory = state_directory()
    options = Options(
        target=target,
        types=_types(types),
        start=_start(since, from_start=from_start),
        secret=secret or find_secret(directory),
        directory=directory,
    )
    with ended_by_signals():
        run(_api(api, data_dir), _key(api_key), options, Lines() if as_json else Table())


def _api(given: str | None, data_dir: Path | None) -> str:
    from broker.local.whereabouts import find

    if given:
        return given
    run = find(data_dir or data_directory())
    if run is None:
        raise click.UsageError("No local run is under way: say with --api (or BROKER_API_URL) where the broker is.")
    return run.api_url


def _key(given: str | None) -> str:
    if not given:
        raise click.UsageError("An API key is needed: in BROKER_API_KEY, or with --api-key.")
    return given


def _types(given: str | None) -> list[str]:
    from broker.webhooks.events import unknown_types

    wanted = [name.strip() for name in (given or "").split(",") if name.strip()]
    if unknown := unknown_types(wanted):
        raise click.BadParameter(f"there is no event type {', '.join(unknown)}.", param_hint="--types")
    return wanted


def _start(since: str, *, from_start: bool) -> "Start | datetime":
    from broker.local.listen import Start

    if from_start:
        if since != "cursor":
            raise click.UsageError("Either --since or --from-start.")
        return Start.FIRST
    if since in {"cursor", "now"}:
        return Start(since)
    if ago := _AGO.fullmatch(since):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(since)
    except ValueError as error:
        raise click.BadParameter(f"{since} is no time; write 2026-02-20T10:00:00Z.", param_hint="--since") from error
    if found.tzinfo is None:
        raise click.BadParameter("a time needs its offset from UTC, such as Z.", param_hint="--since")
    return found


@click.command(short_help="Make feedback in a local run.")
@click.argument("scenarios", nargs=-1, metavar="SCENARIO…")
@click.option("--list", "listed", is_flag=True, help="List the scenarios.")
@click.option("--grant", type=click.UUID, help="Whose mail it is; default your only active grant.")
@click.option("--recipient", "recipients", multiple=True, metavar="ADDRESS", help="Repeat it for several recipients.")
@click.option("--count", type=click.IntRange(1, 10_000), help="How often; of burst, how many mails (default 50).")
@click.option(
    "--wait", "patience_s", type=click.FloatRange(0.1, 600), default=15.0, show_default=True, metavar="SECONDS"
)
@api_option
@key_option
@click.option("--aws", metavar="URL", help="The local AWS; default that of the local run.")
@json_option
@run_option
def trigger(
    *,
    scenarios: tuple[str, ...],
    listed: bool,
    grant: UUID | None,
    recipients: tuple[str, ...],
    count: int | None,
    patience_s: float,
    api: str | None,
    api_key: str | None,
    aws: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Fire synthetic SES events, such as email.bounced, through the whole path of a local broker.

    The local AWS publishes what SES would, signed by its SNS, to the topic of the grant's identity. The broker checks
    the signature, attributes, stores and delivers it. Works with `broker up` and `broker demo --keep`, never with the
    real AWS. Exit code 1 if an event did not come, or came twice.
    """
    from broker.local.scenarios import STORIES
    from broker.local.trigger import Options, run
    from broker.local.trigger_screen import show_report, show_stories

    if listed:
        show_stories()
        return
    _check_scenarios(scenarios, STORIES)
    api_url = _api(api, data_dir)
    options = Options(
        api_url=api_url,
        key=_key(api_key),
        aws_url=_aws(aws, api_url, data_dir),
        stories=scenarios,
        grant=str(grant) if grant else None,
        recipients=recipients,
        count=count,
        patience_s=patience_s,
    )
    report = run(options)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        show_report(report)
    sys.exit(0 if report.ok else 1)


def _check_scenarios(given: Sequence[str], known: Container[str]) -> None:
    if not given:
        raise click.UsageError("Say what to trigger, such as email.bounced; --list shows all.")
    if unknown := [name for name in given if name not in known]:
        raise click.UsageError(f"There is no scenario {', '.join(unknown)}; --list shows all.")


def _aws(given: str | None, api_url: str, data_dir: Path | None) -> str:
    from broker.local.whereabouts import find

    if given:
        return given
    run = find(data_dir or data_directory(), api_url=api_url.rstrip("/"))
    if run is None:
        raise click.UsageError("No local run with this API is under way: say with --aws where its local AWS is.")
    if not run.aws_url:
        raise StartError(
            "This broker works with the real AWS, where broker trigger does nothing: send to "
            "bounce@simulator.amazonses.com or complaint@simulator.amazonses.com instead."
        )
    return run.aws_url
