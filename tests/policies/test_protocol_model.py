"""The revocation protocol holds in every interleaving, and the checker finds the ones that do not."""

import pytest

from tests.policies.protocol_model import at_rest, explore
from tests.policies.protocol_worker import allow
from tests.policies.protocol_world import Effect, Paper, Protocol

CHOSEN = Protocol()


def test_no_interleaving_makes_the_protocol_lie() -> None:
    """Nobody is told revoked behind a Deny, or sealed, while an Allow of the grant is in force.

    Of apply, amend, revoke, grant again, one late request, a crash or a throttled or refused call, reads and time; and
    whatever has happened, all of it comes to rest as the parties want it.
    """
    worlds, way = explore(CHOSEN)

    assert [] == way
    assert len(worlds) > 100_000
    for world in worlds[::199]:
        rest = at_rest(world, CHOSEN)
        held = [allow(index, deal.terms) for index, deal in enumerate(rest.deals) if deal.paper is Paper.agreed]
        assert sorted(held) == sorted(text for _, text in rest.held)
        assert all(
            deal.effect is Effect.applied if deal.paper is Paper.agreed else deal.sealed or deal.paper is Paper.none
            for deal in rest.deals
        )


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
