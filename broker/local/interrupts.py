"""Ctrl-C that is not lost: raised where nobody can catch it, it would be printed and forgotten.

That happens while a module is imported or an object is finalised (Python Reference, object.__del__). So it is
remembered, too, and whatever takes its time looks for it.
"""

import threading
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
