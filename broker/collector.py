"""Python's garbage collector, set for a server that makes many short-lived objects and few cycles.

By default it looks through the young objects after every 700 new ones: at thousands of messages a second that was a
fifth of all work. After every 50,000 it stood still for 40 ms each time, and a revocation with it. What was loaded at
the start is never garbage, so it is left out altogether.
"""

import gc

YOUNG, MIDDLE, OLD = 10_000, 50, 100


def settle() -> None:
    """To be called once everything is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
