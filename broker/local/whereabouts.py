"""Where a local run can be found: a file in its directory says so while it runs, and the other commands look there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from broker.local.child import StartError

NAME = "running.json"


class Running(msgspec.Struct, frozen=True):
    """A local run. `aws_url` is empty where it works with the real AWS."""

    pid: int
    api_url: str
    aws_url: str


@contextlib.contextmanager
def announced(directory: Path, *, api_url: str, aws_url: str) -> Iterator[None]:
    """Say in the run's own directory where it is, until the end of the block."""
    path = directory / NAME
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(Running(os.getpid(), api_url, aws_url)))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find(data_dir: Path, *, api_url: str | None = None) -> Running | None:
    """The run whose data are under ``data_dir``, of those with this API if one is given; None when there is none.

    Raises:
        StartError: there are several.
    """
    found = (_read(path) for path in sorted(data_dir.glob(f"*/{NAME}")))
    runs = [run for run in found if run is not None and api_url in {None, run.api_url}]
    if len(runs) > 1:
        listed = ", ".join(f"{run.api_url} (local AWS {run.aws_url or 'none'})" for run in runs)
        raise StartError(f"Several local runs are under way: {listed}. Say which with --api and, to trigger, --aws.")
    return next(iter(runs), None)


def _read(path: Path) -> Running | None:
    """A run that was killed leaves its file behind."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        run = msgspec.json.decode(path.read_bytes(), type=Running)
        if _lives(run.pid):
            return run
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
