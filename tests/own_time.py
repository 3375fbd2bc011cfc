"""Processor time of a piece of work, and of nothing else that goes on in the process of the tests."""

import gc
from collections.abc import Callable
from time import thread_time
from typing import TypeVar

T = TypeVar("T")


def own_time(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` gives, and the seconds of processor time that its thread took.

    What tests before it left in memory is not looked through meanwhile: that alone can take half a second.
    """
    gc.freeze()
    began = thread_time()
    try:
        found = work()
        return found, thread_time() - began
    finally:
        gc.unfreeze()
