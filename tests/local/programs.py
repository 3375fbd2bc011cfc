"""The command `broker` as a process of its own, and what the tests see of it from outside."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.local.helpers import wait_for

BROKER = [sys.executable, "-m", "broker.cli"]
SLOW_S = 300  # the machine may be busy with other tests


def clean_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment with these BROKER_* settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    return {**kept, **(settings or {})}


def run_broker(*arguments: str | Path, settings: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `broker` to its end."""
    return subprocess.run(  # noqa: S603 — our own words
        [*BROKER, *map(str, arguments)],
        env=clean_environment(settings),
        capture_output=True,
        text=True,
        timeout=SLOW_S,
        check=False,
    )


class Program:
    """A `broker` that runs; its output is in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        """Made by `started`."""
        self.process = process
        self._output = output

    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(errors="replace")

    def wait_until_it_says(self, text: str) -> str:
        """Wait until its output holds a match of the pattern ``text``; gives the match, or its first group."""

        def said() -> bool:
            assert self.process.poll() is None, self.output()
            return re.search(text, self.output()) is not None

        wait_for(said, SLOW_S)
        match = re.search(text, self.output())
        assert match is not None
        return match.group(match.lastindex or 0)

    def children(self) -> list[int]:
        """Process ids of what it has started."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if stat.read_text().rpartition(")")[2].split()[1] == str(self.process.pid):
                    found.append(int(stat.parent.name))
        return found

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SLOW_S)


@contextlib.contextmanager
def started(output: Path, *arguments: str | Path, settings: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Start `broker`, its output going to a file; it is made to end at the end."""
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 — our own words
            [*BROKER, *map(str, arguments)], env=clean_environment(settings), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield Program(process, output)
    finally:
        process.kill()
        process.wait()
