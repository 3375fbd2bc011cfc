"""The crash matrix: every point, with several seeds, in one stack that goes on whatever dies in it."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import crash_migration, crash_world
from bench.crash_check import Checker, Verdict
from bench.crash_points import AIMS, MIGRATION
from bench.crash_result import Crash
from bench.crash_scenarios import SCENARIOS, Run
from bench.crash_stack import Death, Place, running
from bench.crash_world import Broken, World
from broker.points import POINTS

RECEIVERS = ("owner", "delegate")
Say = Callable[[str], None]


class Matrix:
    """Runs in one world."""

    def __init__(self, place: Place, world: World) -> None:
        self._place = place
        self._world = world
        self._checker = Checker(world)

    def crash(self, point: str, seed: int) -> Crash:
        """One run; a point that was not reached often enough is aimed at once more, at its first time."""
        dice = random.Random(f"{point} {seed}")  # noqa: S311 — chooses what to try
        hit = dice.randint(1, AIMS[point].hits)
        found = self._crash(point, seed, hit, dice)
        if found.recover_ms is None and not found.why and hit > 1:
            found = self._crash(point, seed, 1, dice)
        if found.recover_ms is None and not found.why:
            return msgspec.structs.replace(found, why="the point was not reached")
        return found

    def _crash(self, point: str, seed: int, hit: int, dice: random.Random) -> Crash:
        aim, before = AIMS[point], len(self._place.deaths)
        run = Run(self._world, dice)
        self._place.order(aim.roles, point, hit)
        trouble = ""
        try:
            SCENARIOS[aim.scenario](run)
        except Broken as error:
            trouble = str(error)
        self._wait_for_the_last(before)
        self._place.take_back()
        deaths = self._place.deaths[before:]
        verdict = self._checker.judge(run, kills=len(deaths))
        if self._place.trouble is not None:
            raise self._place.trouble
        found = Crash(point=point, seed=seed, hit=hit, **_judged(verdict, trouble))
        return _timed(found, run, deaths[0]) if deaths else found

    def _wait_for_the_last(self, before: int) -> None:
        """What a point lets die at the very end, after the scenario saw what it waited for, dies within a moment."""
        ends = time.monotonic() + 1.0
        while len(self._place.deaths) == before and self._place.ordered and time.monotonic() < ends:
            time.sleep(0.02)
        self._place.settle()


def _judged(verdict: Verdict, trouble: str) -> dict[str, Any]:
    """What is wrong; a scenario that came to no end is stuck."""
    found = msgspec.structs.asdict(verdict)
    found["stuck"] = verdict.stuck or int(bool(trouble))
    return found | {"why": "; ".join(filter(None, (trouble, verdict.why)))}


def _timed(found: Crash, run: Run, death: Death) -> Crash:
    over = next((step for step in run.steps if step > death.at), time.monotonic())
    return msgspec.structs.replace(
        found,
        role=death.role,
        recover_ms=round((over - death.at) * 1000, 1),
        restart_ms=round(death.back_s * 1000, 1),
    )


@contextlib.contextmanager
def matrix(directory: Path, say: Say, *, runs: int) -> Iterator[tuple[Place, Matrix]]:
    """All that runs need; `runs`: at most how many there will be."""
    with (
        running(directory, say, receivers=RECEIVERS) as place,
        place.watched(),
        crash_world.made(place, identities=2 * runs + 2) as world,
    ):
        yield place, Matrix(place, world)


def crash_all(directory: Path, say: Say, *, points: Sequence[str], seeds: int, first: int = 1) -> list[Crash]:
    """Every one of these points, with so many seeds each. `directory` is this run's alone."""
    found: list[Crash] = []
    with matrix(directory, say, runs=len(points) * seeds) as (place, made):
        for point in points:
            for seed in range(first, first + seeds):
                if AIMS[point].scenario == MIGRATION:
                    found.append(crash_migration.crash(place, point, seed))
                else:
                    found.append(made.crash(point, seed))
                say(_told(found[-1]))
    return found


def _told(crash: Crash) -> str:
    how = f"{crash.recover_ms:,.0f} ms" if crash.recover_ms is not None else "not killed"
    return f"{crash.point} #{crash.seed} hit {crash.hit} {crash.role}: {how} {crash.why}".rstrip()


def known(names: Sequence[str]) -> list[str]:
    """The points that begin with one of these names, all where there is none; ValueError for what names none."""
    found = [point for point in POINTS if not names or point.startswith(tuple(names))]
    if not found:
        raise ValueError(f"No point begins with {' or '.join(names)}.")
    return found
