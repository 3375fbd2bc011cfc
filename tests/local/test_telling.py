"""How the demo's story is told: a claim that is false ends it and is shown; nothing is true that was not checked."""

import io

import pytest
from rich.console import Console

from broker.local.telling import Teller, Untrue, wait_for


@pytest.fixture
def screen() -> io.StringIO:
    """What people see."""
    return io.StringIO()


@pytest.fixture
def teller(screen: io.StringIO) -> Teller:
    """A teller that prints to the screen."""
    return Teller(Console(file=screen, width=40))


def test_a_step_whose_claims_are_true_is_ok(teller: Teller, screen: io.StringIO) -> None:
    with teller.step("Arithmetic"):
        teller.claim("One and one are two, which everybody knows who has ever counted", 1 + 1 == 2)

    [step] = teller.steps
    assert (True, [True]) == (step.ok, [check.ok for check in step.checks])
    assert "✓ One and one are two, which everybody knows who has ever counted" in screen.getvalue()


def test_a_false_claim_ends_the_story_and_says_what_was_found(teller: Teller, screen: io.StringIO) -> None:
    with pytest.raises(Untrue, match=r"One and one are three.*2"), teller.step("Arithmetic"):
        teller.claim("One and one are three", 1 + 1 == 3, 1 + 1)

    [step] = teller.steps
    assert (False, [False]) == (step.ok, [check.ok for check in step.checks])
    assert "✗ Not so: One and one are three" in screen.getvalue()


def test_a_step_that_breaks_off_is_not_ok(teller: Teller) -> None:
    with pytest.raises(ZeroDivisionError), teller.step("Arithmetic"):
        teller.claim("One can be divided by zero", 1 / 0 > 1)

    assert [False] == [step.ok for step in teller.steps]


def test_waiting_gives_what_it_was_waiting_for() -> None:
    looks = iter([None, None, "found"])

    assert wait_for("something", lambda: next(looks)) == "found"


def test_waiting_in_vain_says_what_did_not_come() -> None:
    with pytest.raises(Untrue, match=r"Not within 0\.1 seconds: a reply"):
        wait_for("a reply", lambda: None, 0.1)
