"""The points at which the crash matrix kills: each is in the code once, none is missing, and nothing is paid for it."""

import ast
import os
import signal
import subprocess
import sys
import timeit
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import thread_time

import pytest

from broker import points

ROOT = Path(__file__).parents[2]
REACHING = "from broker.points import reach\nfor point in {points!r}: reach(point)\nprint('alive')"


def reached() -> Iterator[str]:
    """The names that the code reaches; a name that is not written out is none."""
    for folder in ("broker", "workers", "migrations"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                    name = node.args[0]
                    yield name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else "?"


def run(order: str, *names: str, environment: str = "local") -> "subprocess.CompletedProcess[str]":
    """A process that reaches these points under an order."""
    given: Mapping[str, str] = {**os.environ, points.VARIABLE: order, "BROKER_ENVIRONMENT": environment}
    words = (sys.executable, "-c", REACHING.format(points=names))
    return subprocess.run(words, env=given, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


def test_every_point_of_the_table_is_in_the_code_exactly_once() -> None:
    expected = Counter(dict.fromkeys(points.POINTS, 1))

    assert expected == Counter(reached())


def test_there_are_more_than_forty_points() -> None:
    assert len(points.POINTS) >= 40


def test_a_process_dies_at_the_hit_that_it_was_told() -> None:
    died = run("policies.created:2", "policies.created", "policies.read", "policies.created")
    lived = run("policies.created:2", "policies.created", "policies.read")

    assert (-signal.SIGKILL, "") == (died.returncode, died.stdout)
    assert (0, "alive\n") == (lived.returncode, lived.stdout)


def test_who_obeys_an_order_of_a_file_takes_it_away(tmp_path: Path) -> None:
    order = tmp_path / "order"
    order.write_text("policies.read:1")

    assert -signal.SIGKILL == run(f"@{order}", "policies.created", "policies.read").returncode
    assert not order.exists()
    assert 0 == run(f"@{order}", "policies.read").returncode


def test_a_process_of_production_obeys_no_order() -> None:
    assert "alive\n" == run("policies.created:1", "policies.created", environment="production").stdout


@pytest.mark.parametrize("point", ["deliveries.sent", "feedback.stored"])
def test_a_point_costs_nothing_to_speak_of(point: str) -> None:
    """Less than a dict of three costs to make: the hot path passes about three for each delivery, of some 150 µs."""
    names = {"reach": points.reach, "point": point}
    ours = timeit.Timer("reach(point)", timer=thread_time, globals=names)
    dicts = timeit.Timer("dict(a=1, b=2, c=3)", timer=thread_time)

    # Many short rounds in turn: what else the machine does slows down some of each, and not all of one.
    rounds = [(ours.timeit(10_000), dicts.timeit(10_000)) for _ in range(50)]
    cost, yardstick = (min(each) for each in zip(*rounds, strict=True))

    assert cost < 2 * yardstick
