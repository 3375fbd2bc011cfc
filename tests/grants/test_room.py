"""How many grants of given terms fit on an identity, asked before anybody proposes them."""

import pytest
from sqlalchemy import text

from broker.errors import Conflict, Invalid, NotFound
from broker.grants.room import Fitting, fits
from broker.policies.terms import Action
from tests.grants.conftest import terms_for
from tests.grants.test_packing import agree, crowd
from tests.grants.test_sync import Stage, stage

__all__ = ["stage"]  # the fixture


async def test_as_many_fit_as_are_counted_and_not_one_more(stage: Stage) -> None:
    """Policies that are not ours, and grants of other sizes, take their room."""
    await crowd(stage, places=2)
    await agree(stage, 0, actions=(Action.send,))
    addresses = tuple(f"a-rather-long-address-{number:02}@example.com" for number in range(30))
    wanted = terms_for(stage.parties, from_addresses=addresses)

    told = await fits(stage.db, stage.parties.owner, stage.parties.identity_id, Fitting(wanted))
    for _ in range(told.grants or 0):
        await stage.agreed(wanted)

    assert 4 == told.grants  # two in the policy that is left, two beside the small one
    assert told.largest is not None
    assert told.largest >= told.bytes > 30 * len(addresses[0])
    with pytest.raises(Conflict, match="no room"):
        await stage.agreed(wanted)
    after = await fits(stage.db, stage.parties.owner, stage.parties.identity_id, Fitting(wanted))
    assert (0, told.bytes) == (after.grants, after.bytes)


async def test_terms_that_nobody_could_agree_to_are_refused(stage: Stage) -> None:
    wrong = Fitting(terms_for(stage.parties, from_addresses=("ann@example.org",)))

    with pytest.raises(Invalid) as refused:
        await fits(stage.db, stage.parties.owner, stage.parties.identity_id, wrong)

    assert ["/terms/from_addresses/0"] == [flaw.pointer for flaw in refused.value.flaws]


async def test_the_delegate_is_not_told_of_the_owners_identity(stage: Stage) -> None:
    with pytest.raises(NotFound):
        await fits(stage.db, stage.parties.delegate, stage.parties.identity_id, Fitting(terms_for(stage.parties)))


async def test_by_hand_only_the_size_is_known(stage: Stage) -> None:
    """Nobody has read what else is on the identity."""
    async with stage.db.begin(stage.parties.owner) as session:
        await session.execute(text("UPDATE connections SET kind = 'manual', role_arn = NULL WHERE kind = 'role'"))

    told = await fits(stage.db, stage.parties.owner, stage.parties.identity_id, Fitting(terms_for(stage.parties)))

    assert (None, None) == (told.grants, told.largest)
    assert told.bytes > 100
