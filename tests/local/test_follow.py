"""Following the logs of several processes as one."""

from pathlib import Path

from broker.local.follow import Follower
from tests.local.helpers import wait_for


def test_lines_come_whole_and_with_the_name_of_their_process(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    (tmp_path / "api.log").write_text("before\n")
    with Follower(tmp_path, lambda name, line: seen.append((name, line))):
        wait_for(lambda: len(seen) == 1)
        with (tmp_path / "worker.log").open("w") as log:
            log.write("half of a ")
            log.flush()
            with (tmp_path / "api.log").open("a") as other:
                other.write("after\n")
            wait_for(lambda: len(seen) == 2)
            log.write("line\n")

    assert [("api", "before"), ("api", "after"), ("worker", "half of a line")] == seen


def test_what_was_written_last_is_shown_too(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    with Follower(tmp_path, lambda name, line: seen.append((name, line))):
        (tmp_path / "api.log").write_text("stopped\n")

    assert [("api", "stopped")] == seen
