"""One child process: started so that it dies with us, asked to end before it is made to."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import ParamSpec, Self, TypeVar

How = ParamSpec("How")
Made = TypeVar("Made")

# Each signal in turn, and the seconds that the child then has.
Farewell = tuple[tuple[signal.Signals, float], ...]
GENTLE: Farewell = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

_LAUNCHER = Path(__file__).with_name("launch.py")


class StartError(Exception):
    """A local server could not be started; the text is for the person at the terminal."""


class PortTakenError(StartError):
    """A server ended because somebody else listens at its port."""


@dataclass(frozen=True)
class RunAs:
    """As whom a command runs: ``wrapper`` comes before it, ``uid`` and ``gid`` are taken on (-1: our own)."""

    wrapper: tuple[str, ...] = ()
    uid: int = -1
    gid: int = -1

    def command(self, command: Sequence[str | Path], death_signal: signal.Signals = signal.SIGKILL) -> list[str]:
        """Give the whole command line; its first word must be found on PATH or be a path."""
        program = shutil.which(str(command[0]))
        if program is None:
            raise StartError(f"The program {command[0]} is missing or cannot be executed.")
        guard = (sys.executable, "-I", "-S", str(_LAUNCHER), os.getpid(), int(death_signal), self.uid, self.gid)
        return [str(word) for word in (*self.wrapper, *guard, program, *command[1:])]


OURSELVES = RunAs()


class Child:
    """A running child process, its log and how it wants to be ended."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path | None, farewell: Farewell) -> None:
        self.name = name
        self.process = process
        self.log = log
        self._farewell = farewell

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        run_as: RunAs = OURSELVES,
        stdin: bytes = b"",
        keep_open: Sequence[int] = (),
        farewell: Farewell = GENTLE,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Self:
        """Start ``command`` in a session of its own, so that Ctrl-C at the terminal reaches us alone.

        Output goes to ``log`` (begun anew) or, without one, where ours goes; ``env`` None means our own environment.
        ``death_signal`` is what the child gets when we die without a word (Linux only; elsewhere an orphan may stay).
        """
        words = run_as.command(command, death_signal)
        output = None if log is None else os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            process = _fork(
                subprocess.Popen,
                words,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=tuple(keep_open),
                start_new_session=True,
            )
        finally:
            if output is not None:
                os.close(output)
        child = cls(name, process, log, farewell)
        child._feed(stdin)
        return child

    @property
    def pid(self) -> int:
        """Process id of the command itself (the launcher becomes it)."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Tell whether the child has not ended yet."""
        return self.process.poll() is None

    def tail(self, lines: int = 15) -> str:
        """Give the last lines of the log."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Poll ``ready`` until it is true; when that fails or is interrupted, the child is stopped.

        Raises:
            StartError: the child ended, or the seconds of ``deadline_s`` went by.
        """
        try:
            self._poll(ready, deadline_s)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise ``StartError`` (or ``PortTakenError``), with the end of the log, when the child has ended by itself."""
        if not self.running:
            kind = PortTakenError if "address already in use" in self.tail().lower() else StartError
            raise kind(self._obituary(f"ended with {self._exit()}"))

    def stop(self) -> None:
        """End the child and wait for it; do nothing when it has ended already."""
        for sign, patience in self._farewell:
            if not self.running:
                return
            self.process.send_signal(sign)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue

    def kill(self) -> None:
        """End the child at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def _poll(self, ready: Callable[[], bool], deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise StartError(self._obituary(f"was not ready within {deadline_s:g} seconds"))
            time.sleep(0.02)

    def _feed(self, stdin: bytes) -> None:
        pipe = self.process.stdin
        if pipe is None:
            return
        try:
            pipe.write(stdin)
            pipe.close()
        except BrokenPipeError:
            pass  # it has ended already: whoever waits for it says so, with its log

    def _exit(self) -> str:
        code = self.process.returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _obituary(self, what: str) -> str:
        tail = self.tail()
        return f"{self.name} {what}; the end of its log {self.log}:\n{tail}" if tail else f"{self.name} {what}."


def fulfil(future: "Future[Made]", make: Callable[[], Made]) -> None:
    """Make it, unless the future was cancelled before, and let the future know what came of it."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        made = make()
    except BaseException as error:  # noqa: BLE001 — who waits for the future gets it, or would wait for ever
        future.set_exception(error)
    else:
        future.set_result(made)


def _fork(
    start: Callable[How, subprocess.Popen[bytes]], *words: How.args, **more: How.kwargs
) -> subprocess.Popen[bytes]:
    """Start a process from the thread that does so for all; an interrupt, whenever it comes, leaves none behind."""
    future: Future[subprocess.Popen[bytes]] = Future()
    try:
        _forks().put(partial(fulfil, future, partial(start, *words, **more)))
        return future.result()
    except KeyboardInterrupt:
        if not future.cancel() and future.exception() is None:
            future.result().kill()
        raise


@cache
def _forks() -> "SimpleQueue[Callable[[], None]]":
    """What a thread of its own does one after the other, which lives as long as the process.

    Linux sends the death signal when the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG), so that a child that
    is started from a short-lived thread would die with that. Not the thread of a pool: one whose beginning is
    interrupted is forgotten by its pool, and a process that ends would wait for it for ever.
    """
    forks: SimpleQueue[Callable[[], None]] = SimpleQueue()
    threading.Thread(target=_do_all, args=(forks,), name="forker", daemon=True).start()
    return forks


def _do_all(forks: "SimpleQueue[Callable[[], None]]") -> None:
    while True:
        forks.get()()
