"""A child dies with us, is ended in order, and says why when it dies alone."""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from broker.local import interrupts
from broker.local.child import Child, PortTakenError, StartError
from broker.local.crew import Crew
from broker.local.directories import held_lock, run_directory
from broker.local.processes import answers, at_free_port, listening, termination_as_interrupt
from tests.local.helpers import end, is_gone, read_pid, start_parent, wait_for

SLEEPER = ["sleep", "600"]


def test_what_a_crew_started_ends_with_it(tmp_path: Path) -> None:
    words = ["/bin/sh", "-c", "echo up; exec sleep 600"]
    with Crew(tmp_path / "logs") as crew:
        serving = [crew.serve(name, words, env=os.environ, marker="up") for name in ("first", "second", "third")]
        pids = [each.result(60).child.pid for each in serving]
        ended_before = [is_gone(pid) for pid in pids]

    assert ([False] * 3, [True] * 3) == (ended_before, [is_gone(pid) for pid in pids])


def test_a_child_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = Child.start("api", ["/bin/sh", "-c", "echo the reason >&2; exit 3"], log=tmp_path / "api.log")
    with pytest.raises(StartError) as failure:
        child.wait_until(lambda: False, 60)

    assert f"api ended with exit code 3; the end of its log {tmp_path}/api.log:\nthe reason" == str(failure.value)


def test_a_child_that_is_never_ready_is_reported_and_ended(tmp_path: Path) -> None:
    child = Child.start("api", SLEEPER, log=tmp_path / "log")
    with pytest.raises(StartError, match=r"api was not ready within 0\.1 seconds"):
        child.wait_until(lambda: False, 0.1)

    assert is_gone(child.pid)


def test_a_missing_program_is_a_sentence() -> None:
    with pytest.raises(StartError, match="The program no-such-program is missing or cannot be executed"):
        Child.start("api", ["no-such-program"])


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    farewell = ((signal.SIGTERM, 0.1), (signal.SIGKILL, 10.0))
    words = ["/bin/sh", "-c", 'trap "" TERM; touch up; while :; do sleep 0.02; done']
    child = Child.start("api", words, cwd=tmp_path, farewell=farewell)
    child.wait_until((tmp_path / "up").exists)

    child.stop()

    assert child.process.returncode == -signal.SIGKILL


def test_a_child_gets_its_environment_and_input(tmp_path: Path) -> None:
    words = ["/bin/sh", "-c", "cat; echo $GREETING"]
    child = Child.start("echo", words, log=tmp_path / "log", env={"GREETING": "hello"}, stdin=b"input\n")
    wait_for(lambda: not child.running)

    assert child.tail() == "input\nhello"


def test_the_keys_of_the_terminal_do_not_reach_a_child(tmp_path: Path) -> None:
    child = Child.start("sleeper", SLEEPER, log=tmp_path / "log")
    session = os.getsid(child.pid)
    child.stop()

    assert child.pid == session


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    children: list[Child] = []
    thread = threading.Thread(target=lambda: children.append(Child.start("sleeper", SLEEPER, log=tmp_path / "log")))
    thread.start()
    thread.join()
    child = children[0]
    # The launcher has become the command: from here on the death signal is armed.
    wait_for(lambda: b"sleep" in Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")[0])
    running = child.running
    child.stop()

    assert running


# The child itself says its id, once it is what it is to become.
PARENT = """
import sys
from broker.local.child import Child
from broker.local.processes import termination_as_interrupt
with termination_as_interrupt():
    words = ["/bin/sh", "-c", sys.argv[1] + "echo $$; while :; do sleep 0.05; done"]
    Child.start("sleeper", words).wait_until(lambda: False, 60)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_parent_that_is_ended_while_it_starts_leaves_nothing_behind(sign: signal.Signals) -> None:
    parent = start_parent(PARENT, "")
    pid = read_pid(parent)
    was_there = not is_gone(pid)
    parent.send_signal(sign)
    wait_for(lambda: is_gone(pid))
    end(parent)

    assert was_there


# An interrupt of the main thread just when another has begun, and, of a crew, when its child has said its id.
INTERRUPTED = """
import os, sys, threading
from pathlib import Path
from broker.local.child import Child
from broker.local.crew import Crew
what, told = sys.argv[1], Path(sys.argv[2])
class Interrupting(threading.Thread):
    def start(self):
        super().start()
        if threading.current_thread() is threading.main_thread():
            if what == "crew":
                print(told.read_text(), end="")
            raise KeyboardInterrupt
threading.Thread = Interrupting
os.mkfifo(told)
words = ["/bin/sh", "-c", 'echo $$ >"$0"; exec sleep 600', told]
try:
    if what == "child":
        Child.start("sleeper", words)
    else:
        with Crew(told.parent) as crew:
            crew.serve("sleeper", words, env={}, marker="never said")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(("what", "started"), [("child", 0), ("crew", 1)])
def test_an_interrupt_in_the_moment_a_thread_begins_leaves_nothing_behind(
    what: str, started: int, tmp_path: Path
) -> None:
    """Its pool would not know of the thread, and would wait for it for ever when the process ends."""
    parent = start_parent(INTERRUPTED, what, tmp_path / "pid")
    try:
        said, _ = parent.communicate(timeout=60)
    finally:
        parent.kill()
    *pids, last = said.split()

    assert ("interrupted", 0, started) == (last, parent.returncode, len(pids))
    wait_for(lambda: all(is_gone(int(pid)) for pid in pids))


def test_a_stubborn_child_does_not_outlive_a_killed_parent() -> None:
    parent = start_parent(PARENT, 'trap "" TERM; ')
    pid = read_pid(parent)
    parent.kill()
    wait_for(lambda: is_gone(pid))
    end(parent)

    assert is_gone(pid)


def test_termination_unwinds_like_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_lost_race_for_a_port_is_run_again_with_another() -> None:
    tried: list[int] = []

    def start(port: int) -> int:
        tried.append(port)
        if len(tried) < 3:
            raise PortTakenError
        return port

    assert at_free_port(start) == tried[2]


def test_a_port_that_was_asked_for_is_not_replaced() -> None:
    def start(port: int) -> int:
        raise PortTakenError(str(port))

    with pytest.raises(PortTakenError, match=r"^7$"):
        at_free_port(start, 7)


def test_an_http_server_is_seen_to_answer(tmp_path: Path, port: int) -> None:
    before = listening(port), answers(port)
    words: list[str | Path] = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        tmp_path,
    ]
    server = Child.start("web", words, log=tmp_path / "web.log")
    server.wait_until(lambda: listening(port) and answers(port))  # each look gives a slow machine a second or two
    missing = answers(port, "/missing")
    server.stop()

    assert before == (False, False)
    assert not missing


def test_runs_side_by_side_share_no_directory(tmp_path: Path) -> None:
    with run_directory(tmp_path / "local") as one, run_directory(tmp_path / "local") as other:
        distinct = one != other
        mode = one.stat().st_mode & 0o777
        (one / "file").touch()

    assert distinct
    assert mode == 0o700
    assert list((tmp_path / "local").iterdir()) == []


def test_a_directory_in_use_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with (
        held_lock(tmp_path / "lock", whose="The database in x"),
        pytest.raises(StartError, match="The database in x is in use by another run; stop that or choose another"),
        held_lock(tmp_path / "lock", whose="The database in x", patience_s=0.1),
    ):
        pass


def test_a_child_keeps_the_lock_that_it_was_given(tmp_path: Path) -> None:
    with held_lock(tmp_path / "lock", whose="It") as lock:
        child = Child.start("sleeper", SLEEPER, log=tmp_path / "log", keep_open=[lock])
    with pytest.raises(StartError), held_lock(tmp_path / "lock", whose="It", patience_s=0.1):
        pass
    child.kill()

    with held_lock(tmp_path / "lock", whose="It") as again:
        assert again > 0


def test_a_ctrl_c_that_was_lost_is_found_at_the_next_look() -> None:
    """Raised in a finaliser it is only printed (Python Reference, object.__del__)."""
    with contextlib.suppress(KeyboardInterrupt), termination_as_interrupt():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interrupts.look()

    interrupts.look()


class Finalised:
    """Somebody asks to end while this is finalised, as may happen while a module is imported."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_ctrl_c_that_was_lost_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever presses it is to see no traceback of code that had nothing to do with it."""
    with termination_as_interrupt():
        Finalised()
        with pytest.raises(KeyboardInterrupt):
            interrupts.look()

    assert "" == capsys.readouterr().err
