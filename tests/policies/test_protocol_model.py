"""The revocation protocol holds in every interleaving, and the checker finds the ones that do not."""

import pytest

from broker.policies.deny import ProtectedBy
from broker.policies.plan import DENY, policy_name
from tests.policies.protocol_deny import name_ahead
from tests.policies.protocol_model import START, at_rest, explore
from tests.policies.protocol_world import CLOSED, LIFE, TERMS, Deal, Effect, Paper, Protocol, World, allow, slot_of

CHOSEN = Protocol()


@pytest.mark.parametrize(
    ("start", "least"),
    [
        pytest.param(START, 200_000, id="a late request, and a crash, a fault or a closed account"),
        pytest.param(World(may_be_late=False, faults=2), 50_000, id="any two of a crash, a fault or a closed account"),
    ],
)
def test_no_interleaving_makes_the_protocol_lie(start: World, least: int) -> None:
    """Nobody is told revoked behind a Deny, or sealed, while an Allow of the grant is in force.

    Of apply, amend, revoke with its Deny sent ahead, grant again, one late request, a crash or a throttled or refused
    call, an account that is closed so that SES takes no Deny which names it, reads and time; and whatever has happened,
    all of it comes to rest as the parties want it.
    """
    worlds, way = explore(CHOSEN, start=start)

    assert [] == way
    assert len(worlds) > least
    assert any(world.run is not None and world.run.stage == "claimed" for world in worlds)
    assert any(map(_is_narrowed, worlds)), "no other grant is behind a Deny once SES has refused one"
    for world in worlds[::199]:
        rest = at_rest(world, CHOSEN)
        # What SES takes no policy for any more stays as it was.
        settled = [(index, deal) for index, deal in enumerate(rest.deals) if not _is_impossible(rest, index)]
        held = [allow(index, deal.terms) for index, deal in settled if deal.paper is Paper.agreed]
        ours = [(name, text) for name, text in rest.held if slot_of(name) in {DENY, *(index for index, _ in settled)}]
        assert sorted(held) == sorted(text for _, text in ours)
        assert all(
            deal.effect is Effect.applied if deal.paper is Paper.agreed else deal.sealed or deal.paper is Paper.none
            for _, deal in settled
        )


def _is_narrowed(world: World) -> bool:
    """The first grant's account was closed, and nothing but that keeps the Deny from the second one."""
    first, second = world.deals
    refused = first.paper is Paper.revoked and first.why is not None and not first.sealed
    return refused and second.effect is Effect.removed and second.by is ProtectedBy.deny


def _is_impossible(world: World, index: int) -> bool:
    deal = world.deals[index]
    return world.closed and deal.paper is Paper.agreed and TERMS[index][deal.terms] == CLOSED


@pytest.mark.parametrize(
    ("protocol", "last"),
    [
        (Protocol(deny=False, reads=False), "create delegation-broker-0-1"),
        (Protocol(deny=False), "create delegation-broker-0-1"),
        (Protocol(deny=False, same_name=True), "create delegation-broker-0-1"),
        (Protocol(keep=0), "create delegation-broker-0-1"),
    ],
    ids=["delete", "delete and read", "Deny under the same name", "Deny removed at once"],
)
def test_the_checker_finds_what_is_unsafe(protocol: Protocol, last: str) -> None:
    """The old request lands after all that was done against it."""
    _, way = explore(protocol)

    assert f"SES is late with {last}" in way[-2:]


def test_without_narrowing_one_closed_account_costs_all_others_the_deny() -> None:
    """Nothing lies, but the Deny is refused again and again, as long as the first grant is not sealed."""
    worlds, way = explore(CHOSEN._replace(narrows=False), start=World(may_be_late=False))

    assert ([], False) == (way, any(map(_is_narrowed, worlds)))


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [
        (
            CHOSEN._replace(committed=False),
            ["the worker claims", "create delegation-broker-deny-1", "the worker loads"],
        ),
        (CHOSEN._replace(refusals=False), ["create delegation-broker-deny-1, refused for its principal"]),
    ],
    ids=["a Deny sent ahead under a name that was not committed", "a Deny that was refused counted as there"],
)
def test_the_checker_finds_what_is_unsafe_about_a_deny_sent_ahead(protocol: Protocol, steps: list[str]) -> None:
    """On the way to the lie the Deny goes as it was brought, before the paper is loaded."""
    _, way = explore(protocol)

    assert any(way[place : place + len(steps)] == steps for place in range(len(way)))


@pytest.mark.parametrize(
    "protocol",
    [
        CHOSEN._replace(keep=1),
        CHOSEN._replace(earlier=False),
        CHOSEN._replace(downgrade=False),
        CHOSEN._replace(fresh_names=False),
        CHOSEN._replace(name_on_paper=False),
        CHOSEN._replace(strays=False),
    ],
    ids=[
        "a Deny that ends before the last request",
        "a Deny of the last terms alone",
        "a receipt that claims a Deny until it is gone",
        "a name that comes back",
        "a Deny claimed under any name",
        "a Deny that goes beside a stray",
    ],
)
def test_every_precaution_is_needed(protocol: Protocol) -> None:
    _, way = explore(protocol)

    assert way


def _nearly_over() -> World:
    """The Deny of both grants was kept long enough for the first, just as a request of it came late and unseen."""
    ours = name_ahead(World(deals=(Deal(Paper.revoked, 1), Deal(Paper.revoked)), may_be_late=False, faults=2), CHOSEN)
    denied = tuple(each for each in ours.written if each[0] == ours.deny_name)
    ended = Deal(Paper.revoked, 1, Effect.removed, ProtectedBy.deny, removed_for=LIFE)
    late = (policy_name(0, 1), allow(0, 1))
    return ours._replace(deals=(ended, ended._replace(terms=0, removed_for=1)), held=(late, *denied), shown=denied)


def test_a_smaller_deny_does_not_take_the_place_of_one_that_a_stray_is_behind() -> None:
    """SES may refuse to delete the stray in the same run."""
    _, way = explore(CHOSEN, start=_nearly_over())
    _, unsafe = explore(CHOSEN._replace(strays=False), start=_nearly_over())

    assert [] == way
    assert unsafe[-1].startswith("delete delegation-broker-deny-")
