"""Those who revoke go first: the others give way, with their process and with its session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.local.crew import Crew
from broker.local.environment import LOCAL_SETTINGS, without_cloud
from broker.local.stack import API_READY, BROKER, WORKER_READY
from broker.precedence import MOST
from broker.settings import Settings
from workers.main import GIVES_WAY, QUEUES

GROUP = Path("/proc/self/autogroup")
SAYS = """
import os, pathlib
from broker.precedence import give_way
before = os.nice(0)
give_way({nice})
group = pathlib.Path("/proc/self/autogroup")
print(os.nice(0) - before, group.read_text() if group.exists() else "")
"""


def standing(words: list[str]) -> str:
    """The nice value of a session in what Linux says of it: ``/autogroup-7 nice 5``, or nothing where it has none."""
    return words[-1] if words else "None"


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
    lowered, *group = done.stdout.split()
    return int(lowered), standing(group)


@pytest.mark.parametrize("nice", [0, 5])
def test_a_server_lowers_itself_and_the_session_that_is_its_own(nice: int) -> None:
    """Between sessions Linux does not look at nice values of processes."""
    assert (nice, str(nice) if GROUP.exists() else "None") == say(nice, session=True)


def test_the_session_of_somebody_else_stays_as_it_is() -> None:
    """A command in a terminal must not slow the terminal down."""
    ours = standing(GROUP.read_text().split() if GROUP.exists() else [])

    assert (5, ours) == say(5, session=False)


def test_those_who_revoke_go_first_then_those_who_deliver() -> None:
    """The breaker's sums come last, and no worker is forgotten."""
    order = sorted(QUEUES, key=lambda name: GIVES_WAY.get(name, 0))

    assert {"policy", "all"} == set(order[:2])
    assert {"delivery", "feedback"} == set(order[2:4])
    assert "control" == order[4]
    assert max(GIVES_WAY.values()) < MOST


def test_the_programs_themselves_give_way(settings: Settings, redis_url: str, tmp_path: Path) -> None:
    """An API that was asked to, and the workers unasked."""
    environment = {
        **without_cloud(os.environ),
        **LOCAL_SETTINGS,
        "BROKER_DATABASE_URL": settings.database_url,
        "BROKER_REDIS_URL": redis_url,
        "BROKER_SECRET_KEYS": settings.secret_keys,
        "BROKER_API_KEY_PEPPER": settings.api_key_pepper,
        "BROKER_AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "BROKER_AWS_ACCOUNT_ID": "999999999999",
        "BROKER_AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    ours = os.getpriority(os.PRIO_PROCESS, 0)

    with Crew(tmp_path) as crew:
        port = crew.reserve()
        words = (*BROKER, "api", "--port", str(port), "--nice", "3")
        begun = {"api": crew.serve("api", words, env=environment, marker=API_READY, port=port, path="/health/live")}
        for name in ("policy", "delivery", "control"):
            begun[name] = crew.serve(name, (*BROKER, "worker", name), env=environment, marker=WORKER_READY)
        pids = {name: server.result().child.pid for name, server in begun.items()}
        nice = {name: os.getpriority(os.PRIO_PROCESS, pid) - ours for name, pid in pids.items()}

    assert {"api": 3, "policy": 0, "delivery": 5, "control": 10} == nice
