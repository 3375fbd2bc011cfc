"""Ctrl-C that is not lost: raised where nobody can catch it, it would be printed and forgotten.

That happens while a module is imported or an object is finalised (Python Reference, object.__del__). So it is
remembered, too, and whatever takes its time looks for it.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType

ASKED = threading.Event()


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A handler of signals: asks to end, now and, if that is lost, at the next look."""
    ASKED.set()
    raise KeyboardInterrupt


def look() -> None:
    """Raises KeyboardInterrupt once somebody has asked to end."""
    if ASKED.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def unprinted() -> Iterator[None]:
    """What is remembered is not printed as well, with a traceback of where it was lost."""
    before = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not (ASKED.is_set() and lost.exc_type is KeyboardInterrupt):
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
