"""How long a revocation of many takes: one call a second of each kind, in each account and Region."""

from datetime import timedelta
from uuid import UUID

import pytest

from broker.grants.eta import Calls, Load, Within, calls_for, schedule

GAP = timedelta(seconds=1)
HERE, THERE = ("111111111111", "eu-west-1"), ("111111111111", "us-east-1")


def within(removed: int, revoked: int) -> Within:
    return Within(timedelta(seconds=removed), timedelta(seconds=revoked))


@pytest.mark.parametrize(
    ("deletes", "reduced", "deny", "expected"),
    [
        (1, 0, 0, Calls(creates=0, deletes=1, reads=1)),
        (1, 0, 1, Calls(creates=1, deletes=1, reads=2)),
        (0, 1, 0, Calls(creates=1, deletes=1, reads=3)),  # written anew, read, the old one deleted, read
        (3, 2, 1, Calls(creates=3, deletes=5, reads=3)),
        (0, 0, 0, Calls(creates=0, deletes=0, reads=1)),
    ],
)
def test_the_calls_of_an_identity_are_of_documents_not_of_grants(
    deletes: int, reduced: int, deny: int, expected: Calls
) -> None:
    assert expected == calls_for(deletes=deletes, reduced=reduced, deny=deny)


def test_one_identity_takes_its_deletes_a_read_and_another_read_after_the_gap() -> None:
    one = Load(UUID(int=1), HERE, Calls(deletes=4, reads=1))

    assert {UUID(int=1): within(5, 7)} == schedule([one], gap=GAP)
    assert {UUID(int=1): within(5, 11)} == schedule([one], gap=timedelta(seconds=5))


def test_all_get_their_first_look_before_any_gets_its_second() -> None:
    loads = [Load(UUID(int=number), HERE, Calls(deletes=1, reads=1)) for number in (1, 2, 3)]

    assert {
        UUID(int=1): within(2, 5),
        UUID(int=2): within(3, 6),
        UUID(int=3): within(4, 7),
    } == schedule(loads, gap=GAP)


def test_accounts_and_regions_do_not_wait_for_each_other() -> None:
    loads = [
        Load(UUID(int=1), HERE, Calls(deletes=1)),
        Load(UUID(int=2), THERE, Calls(deletes=1)),
        Load(UUID(int=3), HERE, Calls(deletes=1)),
    ]

    found = schedule(loads, gap=GAP)

    assert found[UUID(int=1)].removed == found[UUID(int=2)].removed < found[UUID(int=3)].removed
    assert found[UUID(int=2)] == schedule(loads[1:2], gap=GAP)[UUID(int=2)]


def test_an_identity_does_not_wait_for_a_kind_of_call_that_it_does_not_need() -> None:
    loads = [Load(UUID(int=1), HERE, Calls(deletes=50)), Load(UUID(int=2), HERE, Calls(creates=0, deletes=0))]

    found = schedule(loads, gap=GAP)

    assert timedelta(seconds=51) == found[UUID(int=1)].removed
    # Its read stands behind the first one's in the order of the work, not behind 50 deletes of its own.
    assert timedelta(seconds=52) == found[UUID(int=2)].removed
