"""A few points of the crash matrix (`broker bench faults` does them all): real processes, killed, and nothing lost."""

import random
from collections.abc import Iterator
from uuid import UUID

import msgspec
import pytest

from bench import crash_check, crash_run
from bench.crash_points import AIMS, SCENARIOS
from bench.crash_result import Crash, result_of
from bench.crash_run import Matrix
from bench.crash_scenarios import Run
from bench.crash_stack import Place
from bench.crash_world import OWNER_ACCOUNT
from bench.machine import Machine
from broker.local.aws import REGION
from broker.points import POINTS
from broker.policies.compile import document
from tests.deploy.test_bench import KEYS

SEED = 1
FEW = (
    "db.committed",
    "policies.created",
    "policies.deleted",
    "denies.created",
    "adoptions.deleted",
    "sets.told",
    "foreign.remembered",
    "legacy.tested",
    "feedback.stored",
    "queues.stored",
    "deliveries.sent",
    "deliveries.finishing",
    "digests.sent",
)
LEFT_BEHIND, DENY_LEFT = "delegation-broker-0-1", "delegation-broker-deny-1"
SLOWEST_S = 60.0
"""The machine may be busy with other tests; the bench shows what it takes on a quiet one."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Matrix]]:
    """Everything that is killed in this module."""
    directory = tmp_path_factory.mktemp("crash")
    with crash_run.matrix(directory, lambda _: None, runs=len(FEW) + 1) as made:
        yield made


@pytest.mark.parametrize("point", FEW)
def test_a_process_killed_at_a_point_loses_nothing_and_leaves_nothing_behind(
    stack: tuple[Place, Matrix], point: str
) -> None:
    crash = stack[1].crash(point, SEED)

    assert "" == crash.why
    assert (0, 0, 0) == (crash.lost, crash.duplicated, crash.stuck)
    assert crash.recover_ms is not None
    assert crash.recover_ms < SLOWEST_S * 1000


def test_the_matrix_sees_what_is_lost_and_what_nobody_wants(stack: tuple[Place, Matrix]) -> None:
    """A mail that SES has news of and nobody heard of, and a policy and a Deny that were left on an identity."""
    place, made = stack
    checker = crash_check.Checker(made.world, patience_s=0.1)
    run = Run(made.world, random.Random(SEED))  # noqa: S311 — nothing is drawn
    arn = f"arn:aws:ses:{REGION}:{OWNER_ACCOUNT}:identity/{(name := made.world.next_identity())}"
    statement = {"Sid": UUID(made.world.propose(name)).hex, "Effect": "Allow", "Principal": {"AWS": OWNER_ACCOUNT}}
    at_rest = crash_check.Checker(made.world).judge(run, kills=0)  # the parties are told of the proposal
    assert (0, 0) == (at_rest.lost, at_rest.stuck), at_rest.why
    run.occurrences.add(("0100-never-sent", "nobody@example.org"))
    identity = place.aws.cloud.state.at(arn)
    assert identity is not None
    held = identity.history[-1].policies
    held[LEFT_BEHIND] = document([{**statement, "Action": "ses:SendEmail", "Resource": arn}])
    held[DENY_LEFT] = document([{"Effect": "Deny", "Principal": "*", "Action": "ses:*", "Resource": arn}])

    verdict = checker.judge(run, kills=0)

    del held[LEFT_BEHIND], held[DENY_LEFT]
    assert (1, 2) == (verdict.lost, verdict.stuck)


def test_every_point_has_a_scenario_that_passes_it() -> None:
    assert set(POINTS) == set(AIMS)
    assert {*SCENARIOS, "migration"} == {aim.scenario for aim in AIMS.values()}


def test_a_run_in_which_nothing_died_or_something_was_wrong_did_not_survive() -> None:
    good = Crash(point="db.committed", seed=1, hit=1, recover_ms=1.0)
    machine = Machine(cores=1, processor="", python="", postgres="")
    wrong = [msgspec.structs.replace(good, **{name: 1}) for name in ("lost", "duplicated", "stuck")]
    runs = [good, msgspec.structs.replace(good, recover_ms=None), *wrong]

    found = result_of(runs, machine=machine, calibration_us=1.0)

    assert set(msgspec.to_builtins(found)) >= KEYS | {"points", "runs", "stuck", "recover_ms_p99"}
    assert (1, 5, 4, 1, 1, 1) == (found.survived, found.runs, found.killed, found.lost, found.duplicated, found.stuck)
