"""Several grants in one policy: each is there, ends and fails by itself."""

import asyncio
import json
import shlex
from collections.abc import Collection
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from broker.errors import Conflict, Refused
from broker.grants import end, negotiate, suspend
from broker.grants.lifecycle import State
from broker.grants.views import Counter, GrantView, Proposal, Reason
from broker.identities import service as identities
from broker.identities.room import lock
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate
from broker.policies.terms import Action
from tests.conftest import new_tenant
from tests.grants.conftest import LIFETIME, connect_account, terms_for
from tests.grants.fake_ses import no_deletes
from tests.grants.test_sync import DEADLINE, FOREIGN, Stage, stage
from tests.grants.test_sync_locks import WAITING

__all__ = ["stage"]  # the fixture


async def crowd(stage: Stage, *, places: int = 1) -> None:
    """Leaves this many policies for grants: two are kept free, and one foreign policy is there."""
    for number in range(17 - places):
        stage.held[f"foreign{number}"] = FOREIGN
    await stage.wake()
    await stage.sync()


def address(number: int) -> str:
    return f"news{number:03}@example.com"


async def agree(stage: Stage, number: int, **more: Any) -> GrantView:
    """A small grant, told apart by its From address."""
    return await stage.agreed(terms_for(stage.parties, from_addresses=(address(number),), **more))


def may_send(stage: Stage, numbers: Collection[int]) -> set[int]:
    """Whose sends the policies on the identity allow."""
    return {
        number
        for number in numbers
        if evaluate(
            list(stage.held.values()),
            Send(
                action="ses:SendEmail",
                caller_account=stage.parties.delegate_account,
                from_address=address(number),
                recipients=["ann@example.org"],
                time=datetime.now(UTC),
            ),
            identity_arn=stage.parties.arn,
        ).decision
        is Decision.allow
    }


def watch(stage: Stage, numbers: Collection[int]) -> list[set[int]]:
    """From now on, who is locked out after each change; empty sets if nobody ever is."""
    away: list[set[int]] = []

    def look(_operation: str, _name: str) -> None:
        away.append(set(numbers) - may_send(stage, numbers))

    stage.ses.before = look
    return away


async def test_grants_share_a_policy_only_where_there_is_no_room(stage: Stage) -> None:
    await crowd(stage, places=2)

    grants = [await agree(stage, number) for number in range(4)]
    for grant in grants:
        await stage.until(grant, State.ACTIVE)

    assert [1, 3] == sorted(len(json.loads(text)["Statement"]) for text in stage.ours().values())
    assert set(range(4)) == may_send(stage, range(4))


async def test_an_ending_grant_does_not_take_its_neighbour_with_it(stage: Stage) -> None:
    """The new version is there before the old one goes, so that nobody is locked out at any time."""
    await crowd(stage)
    grants = [await agree(stage, number) for number in range(3)]
    for grant in grants:
        await stage.until(grant, State.ACTIVE)
    away = watch(stage, [0, 2])

    await end.revoke(stage.db, stage.parties.owner, grants[1].id, Reason())
    await stage.until(grants[1], State.REVOKED)

    assert {0, 2} == may_send(stage, range(3))
    assert set() == set[int]().union(*away)
    assert [State.ACTIVE] * 2 == [(await stage.show(grants[at])).state for at in (0, 2)]
    assert 1 == len(stage.ours())


@pytest.mark.parametrize("places", [1, 2])
async def test_an_amended_grant_locks_nobody_out(stage: Stage, places: int) -> None:
    """Also where it has become too large for its policy, and moves to another."""
    await crowd(stage, places=places)
    grants = [await agree(stage, number) for number in range(8)]
    for grant in grants:
        await stage.until(grant, State.ACTIVE)
    away = watch(stage, range(8))
    more = tuple(f"department-number-{number}@example.com" for number in range(50))

    amended = await stage.amended(
        grants[5], terms_for(stage.parties, from_addresses=(address(5), *more[: 50 if places == 2 else 4]))
    )
    await stage.until(amended, State.ACTIVE)

    assert set(range(8)) == may_send(stage, range(8))
    assert set() == set[int]().union(*away)
    assert [[8], [2, 6]][places - 1] == sorted(len(json.loads(text)["Statement"]) for text in stage.ours().values())


async def test_a_suspended_neighbour_comes_back_beside_the_others(stage: Stage) -> None:
    await crowd(stage)
    grants = [await agree(stage, number) for number in range(3)]
    for grant in grants:
        await stage.until(grant, State.ACTIVE)

    await suspend.suspend(stage.db, stage.parties.owner, grants[0].id, Reason())
    await stage.until(grants[0], State.SUSPENDED)
    suspended = may_send(stage, range(3))
    await suspend.resume(stage.db, stage.parties.owner, grants[0].id, Reason())
    await stage.until(grants[0], State.ACTIVE)

    assert ({1, 2}, {0, 1, 2}) == (suspended, may_send(stage, range(3)))


def refuse(stage: Stage, account: str) -> None:
    """SES takes no policy that names this account."""

    def check(document: str) -> None:
        if account in document:
            raise Refused(f"Invalid principal in policy: {account}", code="BadRequestException")

    stage.ses.check = check


async def test_one_bad_grant_does_not_spoil_its_neighbours(stage: Stage) -> None:
    """Agreed to at the same time, before and after; only the one fails, with SES's words."""
    await crowd(stage)
    other = await new_tenant(stage.db, "delegate")
    _, account = await connect_account(stage.db, other, "proof")
    refuse(stage, account)
    first = await agree(stage, 0)
    await stage.until(first, State.ACTIVE)
    away = watch(stage, [0])

    second = await agree(stage, 1)
    bad = await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)
    failed = await stage.until(bad, State.ACTIVATION_FAILED)
    await stage.until(second, State.ACTIVE)
    third = await agree(stage, 2)
    await stage.until(third, State.ACTIVE)
    await end.revoke(stage.db, stage.parties.owner, second.id, Reason())
    await stage.until(second, State.REVOKED)

    assert f"Invalid principal in policy: {account}" == failed.error
    assert State.ACTIVATION_FAILED is (await stage.show(bad)).state
    assert {0, 2} == may_send(stage, range(3))
    assert set() == set[int]().union(*away)
    assert 1 == len(stage.ours())


async def test_neighbours_do_not_wait_for_a_grant_that_was_refused_before(stage: Stage) -> None:
    """What takes access back is written without it, and it is tried afterwards."""
    await crowd(stage)
    other = await new_tenant(stage.db, "delegate")
    _, account = await connect_account(stage.db, other, "proof")
    refuse(stage, account)
    grants = [await agree(stage, number) for number in range(2)]
    bad = await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)
    await stage.until(bad, State.ACTIVATION_FAILED)
    (name,) = stage.ours()
    stage.ses.calls.clear()

    await end.revoke(stage.db, stage.parties.owner, grants[0].id, Reason())
    await stage.sync()

    assert 1 == [call[0] for call in stage.ses.calls[: stage.ses.calls.index(("delete", name))]].count("create")


async def test_a_grant_that_foreign_policies_crowd_out_finds_room_beside_another(stage: Stage) -> None:
    """Somebody filled the identity between the agreement and the first write."""
    await crowd(stage, places=2)
    await stage.until(await agree(stage, 0), State.ACTIVE)
    late = await agree(stage, 1)
    for number in range(20 - len(stage.held)):
        stage.held[f"late{number}"] = FOREIGN
    await stage.until(late, State.ACTIVATION_FAILED)

    await stage.wake()
    await stage.until(late, State.ACTIVE)

    assert ({0, 1}, 1, 20) == (may_send(stage, range(2)), len(stage.ours()), len(stage.held))


async def test_a_grant_that_ses_takes_after_all_joins_its_neighbours(stage: Stage) -> None:
    await crowd(stage)
    other = await new_tenant(stage.db, "delegate")
    _, account = await connect_account(stage.db, other, "proof")
    refuse(stage, account)
    await stage.until(await agree(stage, 0), State.ACTIVE)
    bad = await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)
    await stage.until(bad, State.ACTIVATION_FAILED)

    stage.ses.check = lambda _document: None
    await stage.wake()
    await stage.until(bad, State.ACTIVE)

    (document,) = stage.ours().values()
    assert account in document
    assert {0} == may_send(stage, [0])


async def test_an_amendment_that_ses_refuses_leaves_the_others_and_what_was_agreed_before(stage: Stage) -> None:
    """The grant goes on as it was until the parties find other terms, also while a neighbour ends."""
    await crowd(stage)
    grants = [await agree(stage, number) for number in range(3)]
    for grant in grants:
        await stage.until(grant, State.ACTIVE)
    _, account = await connect_account(stage.db, stage.parties.delegate, "proof")
    refuse(stage, account)

    amended = await stage.amended(
        grants[1],
        terms_for(stage.parties, from_addresses=(address(1),), principals=(stage.parties.delegate_account, account)),
    )
    await stage.until(amended, State.ACTIVATION_FAILED)
    before = may_send(stage, range(3))
    await end.revoke(stage.db, stage.parties.owner, grants[0].id, Reason())
    await stage.until(grants[0], State.REVOKED)

    assert ({0, 1, 2}, {1, 2}) == (before, may_send(stage, range(3)))
    assert State.ACTIVE is (await stage.show(grants[2])).state


async def test_a_neighbour_that_ses_no_longer_takes_does_not_keep_an_ended_grant_alive(stage: Stage) -> None:
    """Its account is gone, so it can be written nowhere: it fails, and the revocation is done."""
    await crowd(stage)
    other = await new_tenant(stage.db, "delegate")
    _, account = await connect_account(stage.db, other, "proof")
    grants = [await agree(stage, number) for number in range(2)]
    closed = await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)
    for grant in (*grants, closed):
        await stage.until(grant, State.ACTIVE)
    refuse(stage, account)

    await end.revoke(stage.db, stage.parties.owner, grants[0].id, Reason())
    await stage.until(grants[0], State.REVOKED)

    assert {1} == may_send(stage, range(2))
    assert State.ACTIVATION_FAILED is (await stage.show(closed)).state


async def test_the_guard_is_left_out_of_a_shared_policy_where_ses_refuses_it(stage: Stage) -> None:
    """And a run that knows that changes nothing."""
    await crowd(stage)

    def check(document: str) -> None:
        if '"Null"' in document:
            raise Refused("Unknown or unapplicable condition operator 'Null'", code="BadRequestException")

    stage.ses.check = check
    first = await agree(stage, 0)
    second = await agree(stage, 1, recipients=("*@example.org",))
    for grant in (first, second):
        await stage.until(grant, State.ACTIVE)
    third = await agree(stage, 2, recipients=("*@example.org",))
    await stage.until(third, State.ACTIVE)
    stage.ses.calls.clear()
    await stage.wake()
    await stage.sync()

    assert {0, 1, 2} == may_send(stage, range(3))
    assert [("read", "")] == stage.ses.calls


async def test_a_statement_that_somebody_took_out_is_missed_and_its_neighbours_are_not(stage: Stage) -> None:
    await crowd(stage)
    grants = [await agree(stage, number) for number in range(3)]
    for grant in grants:
        await stage.until(grant, State.ACTIVE)
    ((name, held),) = stage.ours().items()
    document = json.loads(held)
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] != grants[1].id.hex]
    stage.held[name] = json.dumps(document)

    await stage.wake()
    await stage.sync()

    flags = [tuple((await stage.show(grant)).flags) for grant in grants]
    assert [(), ("drifted",), ()] == flags
    assert {0, 2} == may_send(stage, range(3))


async def test_a_version_that_ses_does_not_show_yet_is_removed_with_the_grant_that_ended(stage: Stage) -> None:
    """It holds a neighbour, too, and that one has another place first (I3)."""
    await crowd(stage)
    first = await agree(stage, 0)
    await stage.until(first, State.ACTIVE)
    stage.ses.stale = dict(stage.held)
    second = await agree(stage, 1)
    await stage.sync()
    unseen = [name for name in stage.held if name not in stage.ses.stale]

    await end.revoke(stage.db, stage.parties.owner, second.id, Reason())
    await stage.until(second, State.REVOKED)

    assert [False] == [name in stage.held for name in unseen]
    assert {0} == may_send(stage, range(2))


async def test_the_owner_is_not_told_to_delete_what_neighbours_need(stage: Stage) -> None:
    """The command puts what is left of the policy in its place."""
    await crowd(stage)
    grants = [await agree(stage, number) for number in range(3)]
    for grant in grants:
        await stage.until(grant, State.ACTIVE)
    (name,) = stage.ours()
    stage.ses.before = no_deletes
    await end.revoke(stage.db, stage.parties.owner, grants[1].id, Reason())
    await stage.sync()

    async with stage.db.read(stage.parties.owner) as session:
        rows = await session.execute(text("SELECT data FROM events WHERE type = 'grant.revocation_stuck'"))
        (told,) = rows.scalars()
    (command,) = told["commands"]
    words = shlex.split(command)
    assert "update-email-identity-policy" == words[2]
    assert name == words[words.index("--policy-name") + 1]
    stage.held[name] = words[words.index("--policy") + 1]
    for other in set(stage.ours()) - {name}:
        del stage.held[other]
    assert {0, 2} == may_send(stage, range(3))
    stage.ses.before = lambda _operation, _name: None
    await stage.until(grants[1], State.REVOKED)


async def test_without_room_nobody_agrees_to_anything(stage: Stage) -> None:
    """A proposal is refused, and says how much room there is; the owner hears who takes it."""
    await crowd(stage)
    grants = [await agree(stage, number) for number in range(11)]
    wanted = Proposal(identity_arn=stage.parties.arn, terms=terms_for(stage.parties, from_addresses=(address(11),)))
    by_owner = msgspec.structs.replace(wanted, delegate_id=stage.parties.delegate.tenant)

    with pytest.raises(Conflict, match=r"no room .* it takes \d+ bytes, and at most \d+ are left") as refused:
        await negotiate.propose(stage.db, stage.parties.delegate, wanted, lifetime=LIFETIME)
    with pytest.raises(Conflict, match="11 grants take the rest") as told:
        await negotiate.propose(stage.db, stage.parties.owner, by_owner, lifetime=LIFETIME)

    assert [False, True] == [any(str(grant.id) in each.value.detail for grant in grants) for each in (refused, told)]
    await end.revoke(stage.db, stage.parties.owner, grants[3].id, Reason())
    assert State.ACTIVATING is (await agree(stage, 11)).state


async def test_a_counter_offer_and_an_amendment_are_refused_for_want_of_room(stage: Stage) -> None:
    await crowd(stage)
    grants = [await agree(stage, number) for number in range(10)]
    large = Counter(
        terms=terms_for(stage.parties, from_addresses=tuple(f"department-{number}@example.com" for number in range(60)))
    )
    small = Proposal(identity_arn=stage.parties.arn, terms=terms_for(stage.parties))
    open_ = await negotiate.propose(stage.db, stage.parties.delegate, small, lifetime=LIFETIME)

    with pytest.raises(Conflict, match="no room"):
        await negotiate.counter(
            stage.db, stage.parties.owner, open_.id, large, expected=open_.latest_offer, lifetime=LIFETIME
        )
    with pytest.raises(Conflict, match="no room"):
        await negotiate.amend(
            stage.db, stage.parties.owner, grants[0].id, large, expected=grants[0].latest_offer, lifetime=LIFETIME
        )


async def test_of_two_approvals_at_once_one_takes_the_last_place(stage: Stage) -> None:
    await crowd(stage)
    for number in range(10):
        await agree(stage, number)
    offers = [
        await negotiate.propose(
            stage.db,
            stage.parties.delegate,
            Proposal(identity_arn=stage.parties.arn, terms=terms_for(stage.parties, from_addresses=(address(number),))),
            lifetime=LIFETIME,
        )
        for number in (10, 11)
    ]

    async with AsyncExitStack() as holding:
        session = await holding.enter_async_context(stage.db.begin(stage.parties.owner))
        await lock(session, stage.parties.identity_id)
        approvals = [
            asyncio.create_task(negotiate.approve(stage.db, stage.parties.owner, offer.id, expected=offer.latest_offer))
            for offer in offers
        ]
        async with asyncio.timeout(DEADLINE):
            while (await session.execute(WAITING)).scalar_one() < 2:  # noqa: ASYNC110 - other backends' doing
                await asyncio.sleep(0.01)
    results = await asyncio.gather(*approvals, return_exceptions=True)

    assert [1, 1] == [len([each for each in results if isinstance(each, kind)]) for kind in (GrantView, Conflict)]


async def test_the_identity_shows_its_room_exactly(stage: Stage) -> None:
    """As many small grants fit as it says, and not one more."""
    await crowd(stage)
    await agree(stage, 0, actions=(Action.send,))

    async def room() -> tuple[int, int]:
        view = await identities.one(stage.db, stage.parties.owner, stage.parties.identity_id)
        assert view.room is not None
        return view.room.policies, view.room.small_grants

    policies, fit = await room()
    for _ in range(fit):
        await stage.agreed(terms_for(stage.parties, from_addresses=("newsletter@example.com",)))

    assert (0, 0) == (policies, (await room())[1])
    assert fit in (10, 11)
    with pytest.raises(Conflict, match="no room"):
        await stage.agreed(terms_for(stage.parties, from_addresses=("newsletter@example.com",)))
