"""`broker up`: everything for development, in the foreground, with the logs of all processes as one."""

import contextlib
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import click

from broker.local.child import StartError
from broker.local.directories import held_lock
from broker.local.follow import Follower
from broker.local.processes import listening
from broker.local.stack import Plan, Stack, fresh_directory, running
from broker.local.whereabouts import announced

USUAL_PORT = 8000
_COLOURS = cycle(("cyan", "green", "yellow", "magenta", "blue"))


def run(data_dir: Path, *, sandbox: bool, port: int | None) -> None:
    """Runs until Ctrl-C.

    With the local AWS, which remembers nothing, every run begins empty. With the real one the data are kept in
    ``data_dir/up``, and only one run at a time can have them.
    """
    with _directory(data_dir, sandbox=sandbox) as directory:
        plan = Plan(directory=directory, keep=not sandbox, sandbox=sandbox, port=_choose(port))
        with (
            running(plan, click.echo) as stack,
            announced(directory, api_url=stack.api_url, aws_url=stack.aws_url),
            Follower(stack.logs, _Printer().show),
        ):
            _welcome(stack)
            while True:
                time.sleep(0.5)
                stack.check()


@contextlib.contextmanager
def _directory(data_dir: Path, *, sandbox: bool) -> Iterator[Path]:
    if sandbox:
        with fresh_directory(data_dir) as fresh:
            yield fresh
        return
    kept = data_dir / "up"
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    with held_lock(kept / "run.lock", whose=f"The data in {kept}", patience_s=2):
        yield kept


def _choose(port: int | None) -> int | None:
    if port is not None:
        if listening(port):
            raise StartError(f"Something listens at port {port} already; choose another --port.")
        return port
    return None if listening(USUAL_PORT) else USUAL_PORT


def _welcome(stack: Stack) -> None:
    lines = [
        "",
        f"API         {stack.api_url}   browse {stack.api_url}/schema",
        f"local AWS   {stack.aws_url}   (give it to boto3 or aws --endpoint-url)"
        if stack.aws_url
        else "AWS         the real one",
        f"database    {stack.environment['BROKER_DATABASE_URL']}",
        "",
        "Begin by registering a tenant; the answer holds its API key:",
        f"  curl -s {stack.api_url}/v1/tenants -H 'content-type: application/json' \\",
        """    -d '{"name": "Example AG", "roles": ["owner"]}'""",
        "",
        "With its key in BROKER_API_KEY, `broker listen --forward-to URL` brings its events to your own server, and",
        "`broker trigger email.bounced` makes some.",
        "",
        "Ctrl-C ends everything.",
        "",
    ]
    click.echo("\n".join(lines))


class _Printer:
    """Prints each line behind the name of its process, every process in a colour of its own."""

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}

    def show(self, name: str, line: str) -> None:
        colour = self._colours.setdefault(name, next(_COLOURS))
        click.echo(f"{click.style(f'{name:>15} │', fg=colour)} {line}")
