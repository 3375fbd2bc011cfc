"""`broker demo`: starts everything, plays the story, reports."""

import contextlib
import shutil
import time
from pathlib import Path

import msgspec
from rich.console import Console

from broker.local.child import StartError
from broker.local.customer import Party
from broker.local.report import Report, show
from broker.local.stack import Plan, Stack, fresh_directory, running
from broker.local.story import play
from broker.local.telling import Teller, Untrue
from broker.local.whereabouts import announced
from broker.local.world import World

RECEIVERS = ("owner", "first", "second")


def run(data_dir: Path, *, as_json: bool, keep: bool) -> int:
    """Plays the demo in a fresh directory under ``data_dir`` and gives the exit code: 0 when all of it was true."""
    console = Console(stderr=as_json, highlight=False)
    show = Showman(console, as_json=as_json)
    try:
        with (
            fresh_directory(data_dir) as directory,
            running(Plan(directory=directory, receivers=RECEIVERS), console.print) as stack,
        ):
            ok = show.play(stack)
            if not ok:
                _keep_logs(stack.logs, data_dir / f"{directory.name}-logs", console)
            if keep:
                with announced(directory, api_url=stack.api_url, aws_url=stack.aws_url):
                    _wait(stack, show.parties, console)
    except StartError as error:
        ok = show.fail(str(error))
    finally:
        show.close()
    return 0 if ok else 1


class Showman:
    """One performance: plays the story once and reports how it went."""

    def __init__(self, console: Console, *, as_json: bool) -> None:
        """Print to ``console``, and one JSON object to stdout if ``as_json``."""
        self._began = time.perf_counter()
        self._console = console
        self._as_json = as_json
        self._teller = Teller(console)
        self._start_ms = 0
        self._world: World | None = None
        self._reported = False

    @property
    def parties(self) -> list[Party]:
        """Who took part."""
        return self._world.parties if self._world else []

    def play(self, stack: Stack) -> bool:
        """Play and report; tell whether everything was true."""
        self._start_ms = self._ms()
        error = None
        try:
            self._world = World(stack)
            play(self._world, self._teller)
        except Untrue as untrue:
            error = str(untrue)
        return self._report(error)

    def fail(self, error: str) -> bool:
        """Report that it did not come to a performance; after one, only say what went wrong since."""
        if self._reported:
            self._console.print(error, style="red", markup=False, soft_wrap=True)
            return False
        return self._report(error)

    def close(self) -> None:
        """Let go of the parties' connections."""
        if self._world:
            self._world.close()

    def _report(self, error: str | None) -> bool:
        self._reported = True
        report = Report(
            ok=error is None,
            steps=self._teller.steps,
            revoke_ms=self._world.revoke_ms if self._world else None,
            removed_ms=self._world.removed_ms if self._world else None,
            event_to_webhook_ms=self._world.event_to_webhook_ms if self._world else None,
            start_ms=self._start_ms or self._ms(),
            total_ms=self._ms(),
            error=error,
        )
        show(report, self._console)
        if self._as_json:
            print(msgspec.json.encode(report).decode(), flush=True)  # noqa: T201 — what stdout is for
        return report.ok

    def _ms(self) -> int:
        return round((time.perf_counter() - self._began) * 1000)


def _keep_logs(logs: Path, where: Path, console: Console) -> None:
    shutil.copytree(logs, where, dirs_exist_ok=True)
    console.print(f"The logs of all processes are kept in {where}", markup=False)


def _wait(stack: Stack, parties: list[Party], console: Console) -> None:
    """Leaves it all running until Ctrl-C, which is then no failure."""
    lines = [
        f"API           {stack.api_url}  (browse {stack.api_url}/schema)",
        f"local AWS     {stack.aws_url}",
        *(f"webhooks      {url}/received  ({name})" for name, url in stack.receivers.items()),
        *(f"{party.name:<14}{party.key}" for party in parties),
        f"database      {stack.environment['BROKER_DATABASE_URL']}",
        f"logs          {stack.logs}",
    ]
    console.print("\nIt is all still running; Ctrl-C ends it. Try `broker trigger --list` with one of the keys.\n")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(0.5)
            stack.check()
