"""The command behind `broker bench`: `python -m bench` with `deploy` on PYTHONPATH."""

import importlib
import sys
from importlib.util import find_spec

import click

from broker.cli import InSentences
from broker.local.processes import ended_by_signals

_COMMANDS = {
    "deliver": "deliver",
    "growth": "deliver",
    "fair": "fair",
    "revoke": "revoke",
    "faults": "crash",
    "naive": "naive",
    "evaluate": "evaluate",
    "mutate": "mutate",
    "fuzz": "fuzz",
    "trust": "trust",
}


class Benchmarks(InSentences):
    """Each command is imported when it is asked for; it has the name of its function in its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those whose module is there."""
        return [name for name, module in _COMMANDS.items() if find_spec(f"bench.{module}") is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """By name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found = getattr(importlib.import_module(f"bench.{_COMMANDS[cmd_name]}"), cmd_name)
        return found if isinstance(found, click.Command) else None


@click.group(cls=Benchmarks, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Measure the broker on this machine, everything on loopback; figures of two machines do not compare.

    Every command has --json (one object on stdout, all else on stderr) and --seconds. A calibration, the time to decode
    one bounce, is measured with each run: it tells how fast a shared machine was at that moment. Signed messages are
    made before a run and kept for the day, so that the first run of a day takes longer.
    """


if __name__ == "__main__":
    with ended_by_signals():
        main(prog_name="broker bench", args=sys.argv[1:])
