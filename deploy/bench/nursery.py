"""Processes that start in a tenth of a second: all modules are loaded once, and each process is a fork of that one.

`Nursery` is for whoever wants them; `python -m bench.nursery` is what it talks to. A request is one line of JSON, and
so is the answer: the process id.
"""

import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_REAP_EVERY_S = 0.02
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Born:
    """A process of the nursery's."""

    def __init__(self, pid: int) -> None:
        """`pid` is of a process that has just begun."""
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    @property
    def running(self) -> bool:
        """Whether it has not ended (pidfd_open(2): the descriptor is readable once it has)."""
        return not select.select([self._handle], [], [], 0)[0]


class Nursery:
    """Starts processes; `close` ends those that are left."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Loads everything, which takes a few seconds."""
        here = os.pathsep.join([str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])])
        self._process = subprocess.Popen(
            (sys.executable, "-m", "bench.nursery"),
            env={**environment, "PYTHONPATH": here},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, role: str, words: Sequence[str], environment: Mapping[str, str], log: Path) -> Born:
        """The API or a worker, with these words behind its name, in this environment; what it says goes to `log`."""
        log.touch(mode=0o600)
        asked = {"role": role, "words": list(words), "environment": dict(environment), "log": str(log)}
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("The nursery has no pipes.")
        stdin.write(json.dumps(asked).encode() + b"\n")
        stdin.flush()
        return Born(int(stdout.readline()))

    def close(self) -> None:
        """Ends the nursery, and with it all that it started (prctl(2), PR_SET_PDEATHSIG)."""
        self._process.terminate()
        self._process.communicate()


def _serve() -> None:
    _load()
    requests = os.fdopen(0, "rb", buffering=0)
    waiting = b""
    while True:
        if select.select([requests], [], [], _REAP_EVERY_S)[0]:
            read = requests.read(65536)
            if not read:
                return
            *lines, waiting = (waiting + read).split(b"\n")
            for line in lines:
                _bear(json.loads(line))
        _reap()


def _load() -> None:
    import uvicorn.protocols.http.httptools_impl  # noqa: PLC0415, F401 — loaded for those who are born later

    import broker.app  # noqa: PLC0415
    import broker.cli  # noqa: PLC0415, F401
    import workers.main  # noqa: PLC0415, F401

    gc.freeze()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _bear(asked: dict[str, Any]) -> None:
    pid = os.fork()
    if pid:
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        return
    try:
        _become(asked)
    finally:
        os._exit(1)


def _become(asked: dict[str, Any]) -> None:
    """The program that was asked for, as if it had been started by itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    output = os.open(asked["log"], os.O_WRONLY | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(asked["environment"])
    from broker import points  # noqa: PLC0415 — its order is in the environment that was just set

    points.arm(os.environ)
    if asked["role"] == "api":
        from broker.cli import main  # noqa: PLC0415

        main(asked["words"])
    else:
        from workers.main import run  # noqa: PLC0415

        sys.argv = ["workers.main", *asked["words"]]
        run()


if __name__ == "__main__":
    _serve()
