"""Directories of local runs: a fresh one per run, or one that only one run at a time may use."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from broker.local.child import StartError


@contextlib.contextmanager
def run_directory(base: Path) -> Iterator[Path]:
    """Give a fresh private directory under ``base`` and remove it at the end: runs side by side share nothing."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=base))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def held_lock(path: Path, *, whose: str, patience_s: float = 15.0) -> Iterator[int]:
    """Hold an exclusive lock on ``path`` and give its file descriptor.

    A child that gets the descriptor (``keep_open``) goes on holding the lock when we are gone: who gets the lock knows
    that no such child is left.

    Raises:
        StartError: another run held it for all of ``patience_s`` seconds.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        deadline = time.monotonic() + patience_s
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise StartError(f"{whose} is in use by another run; stop that or choose another --data-dir.")
            time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
