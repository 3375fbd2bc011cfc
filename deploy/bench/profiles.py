"""Flame graphs of the API and the workers under load, by py-spy: it looks from outside, and costs them little."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bench.stack import Stack
from broker.local.child import Child, StartError

_RATE = 200  # looks a second


class Timed(Protocol):
    """What says how long the load lasts."""

    @property
    def seconds(self) -> float: ...

    @property
    def warm_up_s(self) -> float: ...


def _find_py_spy() -> str:
    """The program.

    Raises:
        StartError: it is not installed.
    """
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise StartError("There is no py-spy: install ses-delegation-broker[bench].")
    return found


class Profiler:
    """Records while the load lasts, where a directory is given."""

    def __init__(self, directory: Path | None, servers: Stack, timed: Timed) -> None:
        """Write to ``directory``; None: do nothing."""
        self._directory = directory or Path()
        self._wanted = directory is not None
        self._servers = servers
        self._timed = timed

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Record within the block: one SVG for each process."""
        if not self._wanted:
            yield
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        program = _find_py_spy()
        children = [self._begin(program, name, pid) for name, pid in self._targets()]
        try:
            yield
        finally:
            for child in children:
                child.process.wait(timeout=60)

    def _targets(self) -> list[tuple[str, int]]:
        pids = self._servers.pids
        return [("api", pids["api"][0]), *((f"worker-{n}", pid) for n, pid in enumerate(pids["worker"], 1))]

    def _begin(self, program: str, name: str, pid: int) -> Child:
        seconds = round(self._timed.seconds + self._timed.warm_up_s)
        words = (
            program, "record", "--pid", str(pid), "--output", str(self._directory / f"{name}.svg"),
            "--duration", str(seconds), "--rate", str(_RATE), "--nonblocking",
        )  # fmt: skip
        return Child.start(f"py-spy {name}", words, log=self._servers.directory / "logs" / f"py-spy-{name}.log")
