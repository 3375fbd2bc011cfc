"""Local runs from outside: `broker up` serves, and no local run leaves anything behind, however it is ended."""

import signal
from pathlib import Path

import httpx
import pytest

from tests.local.helpers import is_gone, wait_for
from tests.local.programs import SLOW_S, Program, run_broker, started


def everything_of(program: Program) -> list[int]:
    """Give what it has started, once it has; one list, as a short-lived child may be gone at a second look."""
    found: list[int] = []

    def started_something() -> bool:
        found[:] = program.children()
        return bool(found)

    wait_for(started_something)
    return found


def test_up_serves_shows_all_logs_and_leaves_nothing_behind(tmp_path: Path, port: int) -> None:
    data = tmp_path / "data"
    with started(tmp_path / "output", "up", "--port", str(port), "--data-dir", data) as program:
        program.wait_until_it_says("Ctrl-C ends everything")
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/tenants",
            json={"name": "Example AG", "roles": ["owner"]},
            trust_env=False,
            timeout=SLOW_S,
        )
        program.wait_until_it_says(r"api │ .*request .*/v1/tenants")
        program.wait_until_it_says(r"policy-worker │ .*worker ready")
        children = everything_of(program)
        code = program.end(signal.SIGINT)

        assert answer.status_code == 201
        assert code == 130
        assert [] == [pid for pid in children if not is_gone(pid)]
        assert [] == list(data.iterdir())
        assert "Traceback" not in program.output()


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path, port: int) -> None:
    with started(tmp_path / "output", "sandbox", "--port", str(port)) as other:
        other.wait_until_it_says("listens")

        done = run_broker("up", "--port", str(port), "--data-dir", tmp_path)

    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Starting Postgres", signal.SIGINT),
        ("Starting the API", signal.SIGTERM),
        ("Letters Ltd registers", signal.SIGINT),
    ],
)
def test_a_demo_that_is_interrupted_leaves_nothing_behind(moment: str, number: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started(tmp_path / "output", "demo", "--data-dir", data) as program:
        program.wait_until_it_says(moment)
        children = everything_of(program)
        code = program.end(number)

        assert code == 130
        assert [] == [pid for pid in children if not is_gone(pid)]
        assert [] == list(data.iterdir())
        assert "Traceback" not in program.output()


def test_what_a_killed_demo_leaves_running_ends_by_itself(tmp_path: Path) -> None:
    with started(tmp_path / "output", "demo", "--data-dir", tmp_path / "data") as program:
        program.wait_until_it_says("Starting the API")
        children = everything_of(program)
        program.end(signal.SIGKILL)

        wait_for(lambda: all(is_gone(pid) for pid in children))
