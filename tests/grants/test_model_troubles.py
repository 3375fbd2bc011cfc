"""The model's checks with every trouble at every call of a grant's life, where chance would rarely put it.

What a broker says that does not read back what it did is found here in every run, not in one of a thousand.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from broker.policies.plan import is_ours
from tests.grants.model.clock import StillDatabase
from tests.grants.model.ses import Trouble
from tests.grants.model.world import GAP
from tests.grants.test_model import Machine

WISHED: Mapping[str, Any] = {"addresses": 0, "hours": 500, "later": False, "guarded": False}
CALLS = 4  # of one run over one identity, at most; what comes after is in the next run
REFUSED = ("create", "delete", "read create delete")
Life = Callable[[Machine, Sequence[Trouble]], None]


def _steps(machine: Machine, times: int = 3) -> None:
    """The worker's next turns, and a look after each."""
    for _ in range(times):
        machine.time_passes(GAP, 0, [])
        machine.nothing_lies()


def _agreed(machine: Machine, store: Sequence[Trouble] = ()) -> None:
    machine.propose(0, 0, WISHED, True, True)
    machine.sync(0, False, list(store))
    machine.nothing_lies()


def _activated(machine: Machine, store: Sequence[Trouble]) -> None:
    _agreed(machine, store)
    _steps(machine)


def _revoked(machine: Machine, store: Sequence[Trouble]) -> None:
    _agreed(machine)
    machine.revoke(0)
    machine.sync(0, False, list(store))
    machine.nothing_lies()
    _steps(machine)


def _suspended_and_resumed(machine: Machine, store: Sequence[Trouble]) -> None:
    _agreed(machine)
    machine.suspend(0)
    machine.sync(0, False, list(store))
    machine.nothing_lies()
    _steps(machine)
    machine.resume(0)
    machine.sync(0, False, list(store))
    machine.nothing_lies()
    _steps(machine)


def _revoked_while_it_is_written(machine: Machine, store: Sequence[Trouble]) -> None:
    machine.propose(0, 0, WISHED, True, True)
    machine.sync_while_somebody_decides(0, 2, "revoke_now", list(store))
    machine.nothing_lies()
    _steps(machine)


def _agreed_anew_behind_a_deny(machine: Machine, store: Sequence[Trouble]) -> None:
    """The Deny of the first grant shuts the second one's sender out until it is gone."""
    _agreed(machine)
    machine.revoke(0)
    machine.sync(0, False, [])
    _steps(machine, 2)
    machine.propose(0, 0, WISHED, True, True)
    machine.sync(0, False, list(store))
    machine.nothing_lies()
    _steps(machine)


def _landed_after_a_clean_read(machine: Machine, store: Sequence[Trouble]) -> None:
    """What was asked for before the end comes after the first read without it."""
    machine.propose(0, 0, WISHED, True, True)
    machine.sync(0, False, list(store))
    machine.revoke(0)
    machine.sync(0, False, [])
    machine.nothing_lies()
    machine.run(machine.land())
    machine.nothing_lies()
    machine.sync(0, True, list(store))
    machine.nothing_lies()
    _steps(machine)


def _amended(machine: Machine, store: Sequence[Trouble]) -> None:
    """The old version goes once the new one was read."""
    _agreed(machine)
    machine.amend(0, {**WISHED, "addresses": 1}, True)
    machine.approve(0)
    machine.sync(0, False, list(store))
    machine.nothing_lies()
    _steps(machine)


def _changed_by_hand(machine: Machine, store: Sequence[Trouble]) -> None:
    """Each way in turn; both parties hear of it, whatever becomes of the calls that put it back."""
    for how in ("widen", "narrow", "overwrite", "remove"):
        _agreed(machine)
        machine.somebody_changes_ours(0, 0, how)
        machine.sync(0, True, list(store))
        machine.nothing_lies()
        _steps(machine)
    machine.restore(0)
    _steps(machine)


def _amended_while_it_is_missed(machine: Machine, store: Sequence[Trouble]) -> None:
    """The delegate agrees to other terms just as a run reads that somebody took the policy away: still not put back."""
    _agreed(machine)
    machine.amend(0, {**WISHED, "addresses": 1}, True)
    machine.somebody_changes_ours(0, 0, "remove")
    machine.run(machine.world.wake(0))
    machine.sync_while_somebody_decides(0, 1, "approve_now", list(store))
    machine.nothing_lies()
    _steps(machine)
    assert [] == [name for name in machine.world.held(0) if is_ours(name)]


def _revoked_beside_a_foreign_policy(machine: Machine, store: Sequence[Trouble]) -> None:
    """Somebody lets the same account send while it is being revoked: what is left is in the receipt."""
    _agreed(machine)
    machine.revoke(0)
    machine.sync(0, False, list(store))
    machine.somebody_writes_a_policy(0, 0, 0, "*")
    machine.nothing_lies()
    _steps(machine)


def _unshut_by_hand(machine: Machine, store: Sequence[Trouble]) -> None:
    """Somebody takes the Deny away behind which a revoked grant is."""
    _agreed(machine)
    machine.revoke(0)
    machine.sync(0, False, [])
    for how in ("remove", "overwrite"):
        _steps(machine, 2)
        machine.somebody_changes_a_deny(0, how)
        machine.sync(0, True, list(store))
        machine.nothing_lies()
    _steps(machine)


LIVES: Sequence[Life] = (
    _activated,
    _revoked,
    _suspended_and_resumed,
    _revoked_while_it_is_written,
    _agreed_anew_behind_a_deny,
    _landed_after_a_clean_read,
    _amended,
    _changed_by_hand,
    _amended_while_it_is_missed,
    _revoked_beside_a_foreign_policy,
    _unshut_by_hand,
)


def _lived(still: tuple[asyncio.AbstractEventLoop, StillDatabase], life: Life, store: Sequence[Trouble]) -> None:
    Machine.loop, Machine.still = still
    machine = Machine()
    machine.begin(0, [])
    life(machine, store)
    machine.teardown()


@pytest.mark.parametrize("life", LIVES)
def test_no_trouble_at_any_call_makes_it_lie(
    still: tuple[asyncio.AbstractEventLoop, StillDatabase], life: Life
) -> None:
    """Once, and all the time until the run is over."""
    for trouble in [each for each in Trouble if each is not Trouble.NONE]:
        for before in range(CALLS):
            _lived(still, life, [*[Trouble.NONE] * before, trouble])
        _lived(still, life, [trouble] * CALLS)


@pytest.mark.parametrize("operations", REFUSED)
def test_no_right_that_is_taken_away_makes_it_lie(
    still: tuple[asyncio.AbstractEventLoop, StillDatabase], operations: str
) -> None:
    """Before a grant is written, and before it is removed."""
    for moment in (0, 1):
        Machine.loop, Machine.still = still
        machine = Machine()
        machine.begin(0, [])
        for step in (0, 1):
            if step == moment:
                machine.rights(0, operations)
            if step:
                machine.revoke(0)
            else:
                machine.propose(0, 0, WISHED, True, True)
            machine.sync(0, False, [])
            machine.nothing_lies()
            _steps(machine)
        machine.teardown()
