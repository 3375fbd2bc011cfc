"""Runs a generator as a process of its own."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from bench.generator import Plan, Sent, Summary, load_result
from broker.local.child import Child, StartError

_TO_BEGIN_S = 120.0  # it reads its messages and connects first


def generate(
    plan: Plan, environment: Mapping[str, str], meanwhile: Callable[[], None] | None = None
) -> tuple[Summary, Sent]:
    """Run a generator to its end; ``meanwhile`` is called while it runs.

    Raises:
        StartError: it failed, or did not end in time.
    """
    file = Path(plan.result).with_suffix(".plan")
    file.write_bytes(msgspec.json.encode(plan))
    words = (sys.executable, "-m", "bench.generator", str(file))
    child = Child.start("generator", words, log=file.with_suffix(".log"), env=environment)
    try:
        if meanwhile is not None:
            meanwhile()
        _wait(child, time.monotonic() + plan.seconds + plan.patience_s + _TO_BEGIN_S)
    finally:
        child.stop()
    return load_result(Path(plan.result))


def _wait(child: Child, deadline: float) -> None:
    while child.running:
        if time.monotonic() > deadline:
            raise StartError("The generator does not end.")
        time.sleep(0.05)
    if child.process.returncode:
        child.check()
