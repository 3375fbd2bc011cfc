"""deploy/local sets up once, hands over cleanly, and ends failures with a sentence; a stub plays the interpreter."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests.local.helpers import wait_for

PROJECT = Path(__file__).parents[2]

# Runs what is code for real; plays venv, pip and pytest, and writes each call down. The file `behave` beside it is run
# by every pip.
STUB = f"""#!/bin/sh
here={{here}}
echo "$*" >>"$here/calls"
case "$1 ${{{{2:-}}}}" in
"-m venv")
    for last; do :; done
    mkdir -p "$last/bin"
    cp "$0" "$last/bin/python"
    printf '#!/bin/sh\\necho "broker:"; for word; do echo "[$word]"; done\\n' >"$last/bin/broker"
    chmod +x "$last/bin/broker" ;;
"-m pip") if [ -f "$here/behave" ]; then . "$here/behave"; fi ;;
"-m pytest") pwd; echo "$*" ;;
*) exec {sys.executable} "$@" ;;
esac
"""


class Tree:
    """A copy of the script in a project of a few small files, at a path with a space in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "the project"
        self.python = directory / "bin" / "python3"
        (self.root / "deploy").mkdir(parents=True)
        shutil.copy(PROJECT / "deploy" / "local", self.root / "deploy")
        (self.root / "pyproject.toml").write_text("[project]\n")
        (self.root / "deploy" / "requirements.txt").write_text("some-package==1\n")
        (self.root / "deploy" / "installer.txt").write_text("uv==1\n")
        self.write_program(self.python, STUB.format(here=directory))

    def write_program(self, path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def behave(self, script: str) -> None:
        """Let every pip from now on run these lines of shell."""
        (self.directory / "behave").write_text(script)

    def start(self, *arguments: str, cwd: Path | None = None, **environment: str) -> "subprocess.Popen[str]":
        """Run the script in a process group of its own; only PATH and what is given is in its environment."""
        return subprocess.Popen(  # noqa: S603 — the script under test
            [self.root / "deploy" / "local", *arguments],
            cwd=cwd or self.directory,
            env={"PATH": f"{self.python.parent}:{os.environ['PATH']}", "PYTHON": str(self.python)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, str]:
        """Run the script; give its exit code, stdout and stderr."""
        process = self.start(*arguments, cwd=cwd, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def count(self, call: str) -> int:
        """Tell how many calls of the interpreter held these words."""
        return sum(call in line for line in (self.directory / "calls").read_text().splitlines())


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_second_time_nothing_is_set_up(tree: Tree) -> None:
    first = tree.run("--help")
    installs = tree.count("-m pip")
    second = tree.run("--help")

    assert first[:2] == (0, "broker:\n[--help]\n")
    assert "deploy/local: Installing the pinned packages" in first[2]
    assert second == (0, "broker:\n[--help]\n", "")
    assert tree.count("-m pip") == installs


def test_only_hashed_pins_and_the_project_itself_are_installed(tree: Tree) -> None:
    tree.run()

    calls = (tree.directory / "calls").read_text()
    assert re.findall(
        r"pip.* install .*?(--require-hashes|--no-deps --no-build-isolation).* (-r|--editable) (.+)", calls
    ) == [
        ("--require-hashes", "-r", f"{tree.root}/deploy/installer.txt"),
        ("--require-hashes", "-r", f"{tree.root}/deploy/requirements.txt"),
        ("--no-deps --no-build-isolation", "--editable", str(tree.root)),
    ]


def test_arguments_arrive_as_they_were(tree: Tree) -> None:
    _, out, _ = tree.run("demo", "two words", "", "*")

    assert out == "broker:\n[demo]\n[two words]\n[]\n[*]\n"


def test_the_tests_run_from_the_root_of_the_project(tree: Tree) -> None:
    _, out, _ = tree.run("test", "-k", "a b", cwd=Path("/"))

    assert out == f"{tree.root}\n-m pytest -k a b\n"


def test_all_tests_are_run_side_by_side_and_those_that_were_asked_for_in_one_process(tree: Tree) -> None:
    _, every, _ = tree.run("test")
    _, one, _ = tree.run("test", "tests/app")
    _, named, _ = tree.run("test", TEST_REDIS_URL="redis://127.0.0.1:1/0")

    assert every.endswith("-m pytest --numprocesses 3 --dist loadfile\n")
    assert one.endswith("-m pytest tests/app\n")
    assert named.endswith("-m pytest\n")


@pytest.mark.parametrize("name", ["pyproject.toml", "deploy/requirements.txt", "deploy/installer.txt", "deploy/local"])
def test_a_change_sets_up_again(tree: Tree, name: str) -> None:
    tree.run()
    installs = tree.count("--editable")
    with (tree.root / name).open("a") as file:
        file.write("# changed\n")
    code, _, err = tree.run()

    assert code == 0
    assert "Setting up" in err
    assert tree.count("--editable") == installs + 1


def test_a_project_that_was_moved_is_set_up_anew(tree: Tree) -> None:
    tree.run()
    tree.root = tree.root.rename(tree.directory / "elsewhere")
    code, _, err = tree.run()

    assert code == 0
    assert "Removing a .venv that is unfinished, moved, or of another Python" in err


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "does not match the hash"),
        ("error: Hash mismatch for `click==8`", "does not match the hash"),
        ("Failed to establish a new connection: [Errno 111]", "the package registry cannot be reached"),
        ("error sending request for url", "the package registry cannot be reached"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED]", "certificate is not trusted"),
        ("error: failed to build `x==1`", "may need a C compiler"),
        ("PermissionError: [Errno 13] Permission denied", "cannot be written"),
        ("a new kind of trouble", "the lines above say why"),
    ],
)
def test_a_failing_step_ends_with_one_clear_sentence(tree: Tree, said: str, sentence: str) -> None:
    tree.behave(f"echo '{said}'; exit 1")
    code, out, err = tree.run()

    last = err.splitlines()[-1]
    assert (code, out) == (1, "")
    assert last.startswith("deploy/local: Set-up failed while installing packages: ")
    assert sentence in last
    assert f"    {said}" in err


def test_a_failed_set_up_is_not_taken_for_a_finished_one(tree: Tree) -> None:
    tree.behave("exit 1")
    tree.run()
    tree.behave("exit 0")
    code, out, err = tree.run()

    assert (code, out) == (0, "broker:\n")
    assert "Removing a .venv that is unfinished" in err


def test_going_back_after_a_failed_change_sets_up_again(tree: Tree) -> None:
    tree.run()
    pins = tree.root / "deploy" / "requirements.txt"
    before = pins.read_text()
    pins.write_text("other-package==1\n")
    tree.behave("exit 1")
    tree.run()
    pins.write_text(before)
    tree.behave("exit 0")
    code, _, err = tree.run()

    assert code == 0
    assert "Setting up" in err


def test_an_interrupted_set_up_is_begun_anew(tree: Tree) -> None:
    tree.behave(f"touch {tree.directory}/busy; exec sleep 600")
    process = tree.start()
    wait_for((tree.directory / "busy").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    tree.behave("exit 0")
    code, out, err = tree.run()

    assert (code, out) == (0, "broker:\n")
    assert "Removing a .venv that is unfinished" in err


def test_ctrl_c_says_so_and_ends_it(tree: Tree) -> None:
    tree.behave(f"touch {tree.directory}/busy; exec sleep 600")
    process = tree.start()
    wait_for((tree.directory / "busy").exists)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode != 0
    assert err.splitlines()[-1] == "deploy/local: Interrupted; the next run sets up anew."


def test_two_at_once_set_up_once(tree: Tree) -> None:
    tree.behave(f"touch {tree.directory}/busy; while [ ! -e {tree.directory}/go ]; do sleep 0.05; done")
    one = tree.start("one")
    wait_for((tree.directory / "busy").exists)
    two = tree.start("two")
    assert two.stderr is not None
    waiting = two.stderr.readline()
    (tree.directory / "go").touch()

    assert waiting == "deploy/local: Another set-up is going on here; waiting for it …\n"
    assert one.communicate(timeout=60)[0] == "broker:\n[one]\n"
    assert two.communicate(timeout=60) == ("broker:\n[two]\n", "")
    assert tree.count("--editable") == 1


def test_an_interpreter_that_does_not_work_is_passed_over(tree: Tree) -> None:
    tree.write_program(tree.directory / "shims" / "python3.13", "#!/bin/sh\nexit 127\n")
    tree.write_program(tree.directory / "shims" / "python3", "#!/bin/sh\nexit 1\n")
    path = f"{tree.directory / 'shims'}:{tree.python.parent}:{tools_only(tree)}"
    code, _, err = tree.run(PYTHON="", PATH=path)

    assert code == 0
    assert f"with {tree.python} (" in err


def test_without_a_python_there_is_one_sentence(tree: Tree) -> None:
    code, out, err = tree.run("demo", PYTHON="", PATH=str(tools_only(tree)))

    assert (code, out) == (1, "")
    assert err == (
        "deploy/local: No Python 3.11 or newer with its venv module was found; "
        "install one (Debian: apt install python3-venv) or set PYTHON to it.\n"
    )


def test_a_wrong_python_is_said_to_be(tree: Tree) -> None:
    code, _, err = tree.run(PYTHON="/bin/false")

    assert code == 1
    assert err == "deploy/local: PYTHON=/bin/false is not a working Python 3.11 or newer with its venv module.\n"


def tools_only(tree: Tree) -> Path:
    """Make a directory for PATH that holds what the script calls, but no Python."""
    directory = tree.directory / "tools"
    directory.mkdir()
    for name in ["sh", "cat", "chmod", "cksum", "cmp", "cp", "cut", "dirname", "grep", "head", "mkdir", "mv", "rm"]:
        found = shutil.which(name)
        assert found is not None
        (directory / name).symlink_to(found)
    return directory


def test_every_pin_has_hashes_and_no_address() -> None:
    text = (PROJECT / "deploy" / "requirements.txt").read_text() + (PROJECT / "deploy" / "installer.txt").read_text()
    pins = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]

    assert [pin for pin in pins if not re.match(r"[a-z0-9._-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", pin)] == []
    assert re.findall(r"https?:|file:|--index|--find|@ ", text) == []


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values()), "hatchling"]
    wanted.append("editables")  # what hatchling needs for an editable install
    names = {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in wanted}
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", (PROJECT / "deploy" / "requirements.txt").read_text(), re.MULTILINE))

    assert names - pinned == set()
