"""`broker bench mutate`: changes the policy engine in a thousand small ways, and says which no test notices.

The tool is mutmut. It works on a copy of `broker/policies` and `tests/policies`, so that nothing here is touched. A
change that makes no difference to anybody (an equivalent mutant) is explained in mutants.toml beside this file; what
survives and is not explained there is a gap in the tests, and makes the command fail.
"""

import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec

from bench import report
from broker.cli import fail
from broker.local.options import data_directory

ROOT = Path(__file__).resolve().parents[2]
EXPLAINED = Path(__file__).with_name("mutants.toml")
MODULES = ("evaluate", "operators", "conditions", "wildcards", "compile", "deny", "narrow", "withdraw")
_COPIED = ("broker/__init__.py", "broker/policies", "tests/__init__.py", "tests/policies")
_TIMED = "test_hostile.py"  # would fail under mutmut, which makes everything slow

_PROJECT = f"""
[tool.mutmut]
source_paths = ["broker"]
only_mutate = {[f"broker/policies/{module}.py" for module in MODULES]}
pytest_add_cli_args_test_selection = ["tests/policies"]
use_git_change_detection = false

[tool.pytest.ini_options]
addopts = "-q -p no:cacheprovider"
asyncio_mode = "auto"
"""

# What a cache remembers from before the change would hide it, and a search that is random would find other things in
# every run.
_CONFTEST = """
import sys

import pytest
from hypothesis import settings

settings.register_profile("mutate", derandomize=True, deadline=None, database=None)
settings.load_profile("mutate")


@pytest.fixture(autouse=True)
def _cold():
    for name, module in list(sys.modules.items()):
        if name.startswith("broker.policies."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
"""

_RESULT = re.compile(r"\s*(broker\.policies\.\S+): (.+)")


class Mutant(msgspec.Struct, frozen=True):
    """One change: what stood there, what stands there instead, each in one line; `why` it is equivalent, if it is."""

    function: str
    old: str
    new: str
    why: str = ""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How many mutants there are, were tried and were noticed, and those that were not.

    `stale` are explanations that fit no survivor of a whole run.
    """

    at: str
    tool: str
    seconds: float
    mutants: int
    tried: int
    noticed: int
    explained: list[Mutant]
    unexplained: list[Mutant]
    stale: list[Mutant]


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=1800.0,
    show_default=True,
    help="Stop after so long, wherever it is.",
)
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, help="How many tests at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, everything else on stderr.")
@report.out_option
def mutate(*, names: tuple[str, ...], seconds: float, processes: int, as_json: bool, out: Path) -> None:
    """Change the policy engine in a thousand small ways, and print the changes that no test notices.

    NAMES, such as broker.policies.wildcards.*, choose a part of them; default all: the evaluator (evaluate, operators,
    conditions, wildcards), the compiler (compile), and who is denied and what goes at a revoke (deny, narrow,
    withdraw).
    """
    if find_spec("mutmut") is None:
        fail("this needs mutmut: pip install 'ses-delegation-broker[dev]'")
    found = measure(names, seconds=seconds, processes=processes)
    report.say(f"{found.noticed} of {found.tried} changes were noticed, {len(found.explained)} make no difference")
    for mutant in found.unexplained:
        report.say(f"not noticed, in {mutant.function}:\n  - {mutant.old}\n  + {mutant.new}")
    for mutant in found.stale:
        report.say(f"explained, but no survivor, in {mutant.function}:\n  - {mutant.old}\n  + {mutant.new}")
    if found.tried < found.mutants:
        report.say(f"the time ended before {found.mutants - found.tried} of {found.mutants} were tried")
    report.keep("mutate", msgspec.json.encode(found), None, as_json=as_json, out=out)
    sys.exit(1 if found.unexplained else 0)


def measure(names: Sequence[str], *, seconds: float, processes: int) -> Figures:
    """Run the tool for at most so long."""
    directory = data_directory() / "bench" / "mutate"
    _lay_out(directory)
    began = time.monotonic()
    _run(directory, ["run", "--max-children", str(processes), *names], seconds)
    states = _states(directory)
    tried = {name: state for name, state in states.items() if state != "not checked"}
    survivors = [_shown(directory, name) for name, state in tried.items() if state in ("survived", "no tests")]
    explained, unexplained, stale = sort_out(survivors, explanations())
    return Figures(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        tool=f"mutmut {version('mutmut')}",
        seconds=round(time.monotonic() - began, 1),
        mutants=len(states),
        tried=len(tried),
        noticed=len(tried) - len(survivors),
        explained=explained,
        unexplained=unexplained,
        stale=stale if len(tried) == len(states) else [],
    )


def explanations() -> list[Mutant]:
    """What mutants.toml says."""
    return msgspec.convert(tomllib.loads(EXPLAINED.read_text())["equivalent"], list[Mutant])


def sort_out(survivors: Iterable[Mutant], known: Sequence[Mutant]) -> tuple[list[Mutant], list[Mutant], list[Mutant]]:
    """Survivors with their explanation, those without one, and explanations that fit none."""
    why = {(each.function, each.old, each.new): each for each in known}
    explained, unexplained = [], []
    for mutant in survivors:
        found = why.get((mutant.function, mutant.old, mutant.new))
        if found is None:
            unexplained.append(mutant)
        else:
            explained.append(found)
    return explained, unexplained, [each for each in known if each not in explained]


def read_diff(name: str, diff: str) -> Mutant:
    """What `mutmut show` prints of one mutant."""
    lines = diff.splitlines()
    old = " ".join(line[1:].strip() for line in lines if line.startswith("-") and not line.startswith("---"))
    new = " ".join(line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++"))
    module, _, mangled = name.removeprefix("broker.policies.").partition(".")
    function = (
        mangled.rpartition("__mutmut_")[0].replace("ǁ", ".").removeprefix("x").removeprefix("_").removeprefix(".")
    )
    return Mutant(f"{module}.{function}", old, new)


def _lay_out(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    for name in _COPIED:
        source, target = ROOT / name, directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", _TIMED))
        else:
            shutil.copy(source, target)
    (directory / "pyproject.toml").write_text(_PROJECT)
    (directory / "tests" / "conftest.py").write_text(_CONFTEST)


def _run(directory: Path, words: Sequence[str], seconds: float) -> str:
    log = directory / f"{words[0]}.log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603 — our own words
            [sys.executable, "-m", "mutmut", *words], cwd=directory, stdout=output, stderr=subprocess.STDOUT
        )
        for end in (None, process.terminate, process.kill):
            if end is not None:
                end()
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds if end is None else 10)
                break
    return log.read_text(errors="replace")


def _states(directory: Path) -> Mapping[str, str]:
    found = (_RESULT.match(line) for line in _run(directory, ["results", "--all", "true"], 60).splitlines())
    states = {match[1]: match[2] for match in found if match}
    if set(states.values()) <= {"not checked"}:
        fail(f"mutmut tried nothing; {directory / 'run.log'} says why")
    return states


def _shown(directory: Path, name: str) -> Mutant:
    return read_diff(name, _run(directory, ["show", name], 60))
