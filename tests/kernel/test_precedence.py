"""Those who revoke go first: the others give way, with their process and with its session."""

import subprocess
import sys
from pathlib import Path

import pytest

from broker.precedence import MOST
from workers.main import GIVES_WAY, QUEUES

GROUP = Path("/proc/self/autogroup")
SAYS = """
import os, pathlib
from broker.precedence import give_way
before = os.nice(0)
give_way({nice})
group = pathlib.Path("/proc/self/autogroup")
print(os.nice(0) - before, group.read_text().rsplit(None, 1)[-1] if group.exists() else None)
"""


def say(nice: int, *, session: bool) -> tuple[int, str]:
    """By how much a process lowered itself, and how low its session stands."""
    done = subprocess.run(
        [sys.executable, "-"],
        input=SAYS.format(nice=nice),
        start_new_session=session,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    lowered, group = done.stdout.split()
    return int(lowered), group


@pytest.mark.parametrize("nice", [0, 5])
def test_a_server_lowers_itself_and_the_session_that_is_its_own(nice: int) -> None:
    """Between sessions Linux does not look at nice values of processes."""
    assert (nice, str(nice) if GROUP.exists() else "None") == say(nice, session=True)


def test_the_session_of_somebody_else_stays_as_it_is() -> None:
    """A command in a terminal must not slow the terminal down."""
    ours = GROUP.read_text().rsplit(None, 1)[-1] if GROUP.exists() else "None"

    assert (5, ours) == say(5, session=False)


def test_those_who_revoke_go_first_then_those_who_deliver() -> None:
    """The breaker's sums come last, and no worker is forgotten."""
    order = sorted(QUEUES, key=lambda name: GIVES_WAY.get(name, 0))

    assert {"policy", "all"} == set(order[:2])
    assert {"delivery", "feedback"} == set(order[2:4])
    assert "control" == order[4]
    assert max(GIVES_WAY.values()) < MOST
