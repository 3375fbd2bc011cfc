"""Tells a story step by step in plain words, and stops it where a claim turns out false."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec
from rich.console import Console

from broker.local import interrupts

POLL_S = 0.02
PATIENCE_S = 30.0

Found = TypeVar("Found")


class Untrue(Exception):
    """What the story claims is not what happened; the text says both."""


class Check(msgspec.Struct, frozen=True):
    """One claim that was checked; `ms` is since the one before."""

    text: str
    ok: bool
    ms: int


class Step(msgspec.Struct):
    """One step of the story. `ok` only when it ended and every claim in it was true."""

    name: str
    ok: bool = False
    ms: int = 0
    checks: list[Check] = msgspec.field(default_factory=list)


class Teller:
    """Prints what happens and keeps it for the report."""

    def __init__(self, console: Console) -> None:
        """Print to ``console``."""
        self.console = console
        self.steps: list[Step] = []
        self._last = time.perf_counter()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Everything within is one step.

        Raises:
            Untrue: also for what went wrong outside of a claim, as one sentence.
        """
        interrupts.look()
        began = self._last = time.perf_counter()
        step = Step(name)
        self.steps.append(step)
        self.console.print(f"\n[bold]{len(self.steps)}  {name}[/bold]")
        try:
            yield
            step.ok = True
        except Untrue as error:
            self._check(str(error), ok=False)
            raise
        finally:
            step.ms = _ms_since(began)
            self.console.print(f"   [dim]{step.ms / 1000:.2f} s[/dim]")

    def claim(self, text: str, truth: bool, found: object = "") -> None:
        """Say ``text``, which holds if ``truth``; ``found`` is what there was instead."""
        if not truth:
            raise Untrue(f"Not so: {text}" + (f" Found instead: {found}" if found != "" else ""))
        interrupts.look()
        self._check(text, ok=True)

    def note(self, text: str) -> None:
        """Say something that claims nothing."""
        self.console.print(f"     {text}", style="dim", markup=False, highlight=False, soft_wrap=True)

    def _check(self, text: str, *, ok: bool) -> None:
        ms = _ms_since(self._last)
        self._last = time.perf_counter()
        self.steps[-1].checks.append(Check(text, ok, ms))
        self.console.print("   ✓ " if ok else "   ✗ ", style="green" if ok else "red", end="")
        self.console.print(text, markup=False, highlight=False, soft_wrap=True, end="")
        self.console.print(f"  {ms} ms", style="dim", highlight=False, soft_wrap=True)


def wait_for(what: str, look: Callable[[], Found | None], deadline_s: float = PATIENCE_S) -> Found:
    """What ``look`` finds, as soon as it finds it.

    Raises:
        Untrue: the seconds of ``deadline_s`` went by.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        interrupts.look()
        found = look()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise Untrue(f"Not within {deadline_s:g} seconds: {what}")
        time.sleep(POLL_S)


def _ms_since(began: float) -> int:
    return round((time.perf_counter() - began) * 1000)
