"""Shows the logs of all processes of a run as one, each line with the name of its process."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

POLL_S = 0.1


class Follower:
    """Prints what is added to the logs of a directory, as a context manager."""

    def __init__(self, logs: Path, show: Callable[[str, str], None]) -> None:
        """``show`` gets the name of the process and one line."""
        self._logs = logs
        self._show = show
        self._files: dict[Path, BinaryIO] = {}
        self._rest: dict[Path, bytes] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def __enter__(self) -> Self:
        """Begin with what is there already."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the rest, and stop."""
        self._done.set()
        self._thread.join()
        self._look()
        for file in self._files.values():
            file.close()

    def _run(self) -> None:
        while not self._done.wait(POLL_S):
            self._look()

    def _look(self) -> None:
        for path in sorted(self._logs.glob("*.log")):
            if path not in self._files:
                self._files[path] = path.open("rb")
            lines = (self._rest.get(path, b"") + self._files[path].read()).split(b"\n")
            self._rest[path] = lines.pop()
            for line in lines:
                self._show(path.stem, line.decode(errors="replace"))
