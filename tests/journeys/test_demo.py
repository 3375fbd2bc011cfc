"""The demo as a test: the whole story on real processes, twice side by side, and under the other dialect of SES."""

import io
import json
import re
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from broker.local.stack import Plan, running
from broker.local.story import STEPS, play
from broker.local.telling import Teller
from broker.local.world import World
from tests.local.programs import SLOW_S, started

# What a process logs of trouble that nobody foresaw (broker/due.py, workers/watch.py, workers/main.py).
FAILED = re.compile("work failed|sweep failed|a part of the worker ended|Traceback")
RECEIVERS = ("owner", "first", "second")

# The other value of every switch that the story touches and that leaves it as it is; SES's pace of one call per second
# only makes it slow.
OTHER_DIALECT = {
    "missing_policy_status": 200,
    "bare_account_as_root": False,
    "deleted_principal_as_id": False,
    "return_path_key_absent": False,
    "source_arn_covers_from": True,
    "source_key": "SourceOwner",
    "from_case_sensitive": False,
    "stale_reads_seconds": 1,
}


def test_two_demos_at_once_are_green_and_print_one_json_object_each(tmp_path: Path) -> None:
    with ExitStack() as stack:
        programs = [
            stack.enter_context(started(tmp_path / name, "demo", "--json", "--data-dir", tmp_path / "data"))
            for name in ("one", "two")
        ]
        codes = [program.process.wait(SLOW_S) for program in programs]
        printed = [program.output() for program in programs]

    assert [0, 0] == codes, "\n".join(printed)
    for text in printed:
        [line] = [line for line in text.splitlines() if line.startswith("{")]
        told = json.loads(line)
        assert (True, [name for name, _ in STEPS]) == (told["ok"], [step["name"] for step in told["steps"]])
        assert all(step["ok"] and step["checks"] for step in told["steps"])
        assert told["revoke_ms"] >= 1000  # the second read is at least a second after the first
        assert told["event_to_webhook_ms"] > 0
    assert [] == list((tmp_path / "data").iterdir())


def test_the_story_holds_under_the_other_dialect(tmp_path: Path) -> None:
    screen = io.StringIO()
    teller = Teller(Console(file=screen, width=120))
    with running(Plan(directory=tmp_path, receivers=RECEIVERS), lambda _: None) as stack:
        world = World(stack)
        world.aws.set_dialect(**OTHER_DIALECT)
        try:
            play(world, teller)
        finally:
            world.close()

    assert [True] * len(STEPS) == [step.ok for step in teller.steps], screen.getvalue()
    logs = {log.name: log.read_text() for log in tmp_path.rglob("*.log")}
    assert logs
    assert {} == {name: text for name, text in logs.items() if FAILED.search(text)}


def test_a_demo_that_cannot_start_says_so_in_json_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with started(tmp_path / "output", "demo", "--json", "--data-dir", tmp_path / "file" / "data") as program:
        code = program.process.wait(SLOW_S)

        [line] = [line for line in program.output().splitlines() if line.startswith("{")]
        told = json.loads(line)
        assert (1, False, []) == (code, told["ok"], told["steps"])
        assert "cannot be used" in told["error"]
