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
from bench.crash_points import AIMS, MIGRATION, SCENARIOS
from bench.crash_result import Crash
from bench.crash_scenarios import Run
from bench.crash_stack import Death, Place, running
from bench.crash_world import Broken, World
from bench.machine import Machine, calibration_us, machine
from broker.points import POINTS

RECEIVERS = ("owner", "delegate")
LAST_S = 2.0
TRIES = 3
Say = Callable[[str], None]


class Matrix:
    """Runs in one world."""

    def __init__(self, place: Place, world: World) -> None:
        self.world = world
        self._place = place
        self._checker = Checker(world)

    def crash(self, point: str, seed: int) -> Crash:
        """One run; a point that was not reached, or not so often, is aimed at again, at its first time."""
        dice = random.Random(f"{point} {seed}")  # noqa: S311 — chooses what to try
        hit = dice.randint(1, AIMS[point].hits)
        for _ in range(TRIES):
            found = self._crash(point, seed, hit, dice)
            if found.recover_ms is not None or found.why:
                return found
            hit = 1
        return msgspec.structs.replace(found, why="the point was not reached")

    def _crash(self, point: str, seed: int, hit: int, dice: random.Random) -> Crash:
        aim, before = AIMS[point], len(self._place.deaths)
        run = Run(self.world, dice)
        self._place.order(aim.roles, point, hit)
        trouble = ""
        try:
            SCENARIOS[aim.scenario](run)
        except Broken as error:
            trouble = str(error)
        self._wait_for_the_last(before)
        self._place.take_back()
        self._place.settle()
        deaths = self._place.deaths[before:]
        verdict = self._checker.judge(run, kills=len(deaths))
        if self._place.trouble is not None:
            raise self._place.trouble
        found = Crash(point=point, seed=seed, hit=hit, **_judged(verdict, trouble))
        return _timed(found, run, deaths[0]) if deaths else found

    def _wait_for_the_last(self, before: int) -> None:
        """What lets a program die at the very end, when the scenario saw all that it waits for, does so in a moment."""
        ends = time.monotonic() + LAST_S
        while len(self._place.deaths) == before and self._place.trouble is None:
            if self._place.ordered and time.monotonic() > ends:
                return  # else somebody has obeyed, and is about to be gone
            time.sleep(0.02)


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
        crash_world.made(place, identities=3 * runs + 3) as world,
    ):
        yield place, Matrix(place, world)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: each of the points with so many seeds; none is begun after `seconds`."""

    points: Sequence[str]
    seeds: int = 3
    first: int = 1
    seconds: float | None = None


def measure(plan: Plan, directory: Path, say: Say) -> tuple[list[Crash], Machine, float]:
    """All runs, the machine, and how fast it was. `directory` is this run's alone."""
    before = calibration_us()
    with matrix(directory, say, runs=len(plan.points) * plan.seeds) as (place, made):
        crashes = list(crash_all(plan, place, made, say))
        version = str(place.rows("SHOW server_version")[0][0])
    return crashes, machine(version), max(before, calibration_us())


def crash_all(plan: Plan, place: Place, made: Matrix, say: Say) -> Iterator[Crash]:
    """Every point of the plan with the first seed, then with the next."""
    began = time.monotonic()
    for seed in range(plan.first, plan.first + plan.seeds):
        for point in plan.points:
            if plan.seconds is not None and time.monotonic() - began > plan.seconds:
                return
            migrates = AIMS[point].scenario == MIGRATION
            found = crash_migration.crash(place, point, seed) if migrates else made.crash(point, seed)
            say(_told(found))
            yield found


def _told(crash: Crash) -> str:
    how = f"{crash.recover_ms:,.0f} ms" if crash.recover_ms is not None else "not killed"
    return f"{crash.point} #{crash.seed} hit {crash.hit} {crash.role}: {how} {crash.why}".rstrip()


def known(names: Sequence[str]) -> list[str]:
    """The points that begin with one of these names, all where there is none; ValueError for what names none."""
    found = [point for point in POINTS if not names or point.startswith(tuple(names))]
    if not found:
        raise ValueError(f"No point begins with {' or '.join(names)}.")
    return found
