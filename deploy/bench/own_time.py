"""Samples where a process spends its CPU time, from inside: the function that runs, every few milliseconds of it.

Switched on by BENCH_PROFILE, the directory of the JSON file that is written at the end. The timer counts the process's
own CPU time (setitimer(2), ITIMER_PROF), so that waiting costs nothing; work inside C counts for the Python function
that called it.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

VARIABLE = "BENCH_PROFILE"
EVERY = 0.004  # seconds of CPU time

Own = list[tuple[str, float]]


@contextmanager
def sampled(name: str) -> Iterator[None]:
    """Samples inside the block, if that is wanted; `name` is the file's, `load` finds it by that."""
    directory = os.environ.get(VARIABLE)
    if directory is None:
        yield
        return
    seen: Counter[str] = Counter()

    def sample(_number: int, frame: FrameType | None) -> None:
        if frame is not None:
            seen[name_of(frame)] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(directory, f"{name}-{os.getpid()}.json").write_text(json.dumps(seen))


def name_of(frame: FrameType) -> str:
    """`package/module.py:function`, short enough for a table."""
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_code.co_name}"


def load(directory: Path, name: str) -> Own:
    """The functions of all processes of this name by own time, each with its share in percent, the largest first."""
    seen: Counter[str] = Counter()
    for file in directory.glob(f"{name}-*.json"):
        seen.update(json.loads(file.read_text()))
    whole = seen.total()
    return [(function, round(100 * samples / whole, 1)) for function, samples in seen.most_common()]
