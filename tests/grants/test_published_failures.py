"""Failures of taking access back that other brokers have published, each as a test: none of them happens here.

data-dot-all/dataall#1822, aws-samples/iam-identity-center-team#255, #195, #398 and #279, and
fivexl/terraform-aws-sso-elevator#47.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from broker.errors import BrokerError, Conflict, Refused, Unavailable
from broker.grants import end, negotiate, service, suspend
from broker.grants.lifecycle import State
from broker.grants.views import Counter, GrantView, Proposal, Reason
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate
from broker.policies.plan import is_ours
from tests.conftest import new_tenant
from tests.grants.conftest import LIFETIME, connect_account, terms_for
from tests.grants.model.deals import grants_of
from tests.grants.test_sync import Stage, stage

__all__ = ["stage"]  # the fixture

RUNS = 4  # of the worker, enough for anything that it would do again


def allowed(stage: Stage, grant: GrantView) -> bool:
    """Whether SES holds an Allow of this grant, whatever else it holds."""
    return any(is_ours(name) and grant.id in grants_of(text) for name, text in stage.held.items())


def may_send(stage: Stage, account: str) -> bool:
    """Whether an account may send from the identity now, by all that is there."""
    send = Send(
        action="ses:SendEmail",
        caller_account=account,
        from_address="newsletter@example.com",
        recipients=["ann@example.org"],
        time=datetime.now(UTC),
    )
    return evaluate(list(stage.held.values()), send, identity_arn=stage.parties.arn).decision is Decision.allow


async def second(stage: Stage, **more: Any) -> tuple[GrantView, str]:
    """An agreed grant of another delegate, and its account."""
    other = await new_tenant(stage.db, "delegate")
    _, account = await connect_account(stage.db, other, "proof")
    return await stage.agreed(terms_for(stage.parties, principals=(account,), **more), delegate=other), account


def deny_deletes(operation: str, _name: str) -> None:
    if operation == "delete":
        raise Refused("User is not authorized to perform ses:DeleteEmailIdentityPolicy", code="AccessDenied")


def works(_operation: str, _name: str) -> None:
    """SES as it should be."""


async def run(stage: Stage, times: int = RUNS) -> None:
    for _ in range(times):
        await stage.wake()
        await stage.sync()


def written_since(stage: Stage, names: set[str], grant: GrantView) -> list[str]:
    """Names of documents with an Allow of the grant that are there now and were not before."""
    return [
        name for name, text in stage.held.items() if is_ours(name) and grant.id in grants_of(text) and name not in names
    ]


async def test_a_reapply_after_a_failed_revoke_does_not_bring_access_back_dataall_1822(stage: Stage) -> None:
    """There a share whose revoke had failed was healthy again after the next re-apply.

    Here whatever makes the identity equal again, a check, a neighbour that is agreed, one that is suspended and
    resumed, writes nothing of the grant that ended, and the owner's own removal stays.
    """
    grant = await stage.agreed()
    neighbour, account = await second(stage)
    await stage.until(neighbour, State.ACTIVE)
    stage.ses.before = deny_deletes
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await run(stage, 1)
    before = set(stage.held)

    for name in [name for name in stage.ours() if grant.id in grants_of(stage.held[name])]:
        del stage.held[name]  # by hand, as the alarm says
    third, _ = await second(stage)
    await suspend.suspend(stage.db, stage.parties.owner, neighbour.id, Reason())
    await run(stage, 1)
    await suspend.resume(stage.db, stage.parties.owner, neighbour.id, Reason())
    await run(stage)
    while_denied = (written_since(stage, before, grant), allowed(stage, grant))
    stage.ses.before = works
    await stage.until(grant, State.REVOKED)
    await stage.until(third, State.ACTIVE)
    await stage.until(neighbour, State.ACTIVE)

    assert ([], False) == while_denied
    assert (False, True) == (allowed(stage, grant), may_send(stage, account))


async def test_a_crash_after_a_failed_revoke_does_not_bring_access_back_dataall_1822(stage: Stage) -> None:
    """The worker that planned the apply dies after SES has done it, and the grant is revoked before the next run."""
    grant = await stage.agreed()
    created = asyncio.Event()

    async def die() -> None:
        created.set()
        await asyncio.Event().wait()

    stage.ses.after_create = die
    dying = asyncio.create_task(stage.sync())
    await created.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    stage.ses.after_create = None
    left_behind = allowed(stage, grant)

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    async with stage.db.begin(stage.parties.owner) as session:  # the dead worker's lease ends
        await session.execute(text("UPDATE identities SET claimed_until = NULL, due_at = now()"))
    await stage.until(grant, State.REVOKED)

    assert (True, False) == (left_behind, allowed(stage, grant))


async def test_a_failed_revoke_is_no_end_state_team_255(stage: Stage) -> None:
    """There it became "error", and the access stayed for good.

    Here it goes on being `revoking`, says that it is stuck and why, and is done once SES lets us, by nobody's hand.
    """
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    stage.ses.before = deny_deletes
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())

    shown = []
    for _ in range(RUNS):
        await run(stage, 1)
        seen = await stage.show(grant)
        shown.append((seen.state, tuple(seen.flags), "not authorized" in (seen.error or "")))
    due = await _is_due(stage)
    stage.ses.before = works
    await stage.until(grant, State.REVOKED)

    assert [(State.REVOKING, ("revocation_stuck",), True)] * RUNS == shown
    assert due
    assert not allowed(stage, grant)


async def test_a_revoke_without_any_answer_is_no_end_state_team_255(stage: Stage) -> None:
    """Nothing but time-outs: tried again for ever, each time a little later."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)

    def silent(_operation: str, _name: str) -> None:
        raise Unavailable("SES did not answer in time.")

    stage.ses.before = silent
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await run(stage)
    waiting, due = await stage.show(grant), await _is_due(stage)
    stage.ses.before = works
    await stage.until(grant, State.REVOKED)

    assert (State.REVOKING, True) == (waiting.state, due)


async def _is_due(stage: Stage) -> bool:
    """Whether the identity will be worked on again without anybody's asking."""
    async with stage.db.read(stage.parties.owner) as session:
        soon = await session.scalar(text("SELECT due_at < now() + interval '2 minutes' FROM identities"))
    return bool(soon)


async def test_revoked_is_not_said_for_a_delete_that_did_nothing_team_195(stage: Stage) -> None:
    """There the paper said revoked while the access went on. SES may answer 200 and still hold the policy."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    kept = dict(stage.held)

    def undo(operation: str, _name: str) -> None:
        if operation == "read":
            stage.held.update(kept)

    stage.ses.before = undo
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    said = []
    for _ in range(RUNS):
        await run(stage, 1)
        said.append((await stage.show(grant)).state)
    receipt = await stage.receipt(grant)
    stage.ses.before = works
    await stage.until(grant, State.REVOKED)

    assert [State.REVOKING] * RUNS == said
    assert (None, "not yet been read twice" in receipt.statement) == (receipt.verified_at, True)
    assert not allowed(stage, grant)


async def test_revoked_is_not_said_when_the_access_comes_back_between_two_reads_team_398(stage: Stage) -> None:
    """The first read is clean, the second is not: proof begins anew."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    late = {name: text for name, text in stage.held.items() if is_ours(name)}
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    first = await stage.receipt(grant)

    stage.held.update(late)
    stage.ses.before = deny_deletes
    await run(stage)
    again = (await stage.show(grant)).state
    stage.ses.before = works
    await stage.until(grant, State.REVOKED)

    last = await stage.receipt(grant)
    assert (State.REVOKING, False) == (again, allowed(stage, grant))
    assert first.removed_at is not None
    assert last.removed_at is not None
    assert last.removed_at > first.removed_at


ENDS: Sequence[Callable[[Stage, GrantView], Awaitable[object]]] = (
    lambda stage, grant: end.revoke(stage.db, stage.parties.owner, grant.id, Reason()),
    lambda stage, grant: end.relinquish(stage.db, stage.parties.delegate, grant.id, Reason()),
    lambda stage, grant: suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason()),
    lambda stage, grant: stage.come("expires_at", grant),
)


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize(
    ("how", "becomes"),
    list(zip(ENDS, (State.REVOKED, State.RELINQUISHED, State.SUSPENDED, State.EXPIRED), strict=True)),
    ids=["revoked", "relinquished", "suspended", "expired"],
)
async def test_an_ending_grant_does_not_kill_an_overlapping_one_team_279(
    stage: Stage, how: Callable[[Stage, GrantView], Awaitable[object]], becomes: State, *, crowded: bool
) -> None:
    """There the end of one request deleted the assignment that another, still running, rested on.

    The same delegate, account, identity and address twice, in policies of their own and, where other people's policies
    take the room, in one. After no call is the delegate locked out.
    """
    if crowded:
        stage.held |= {f"foreign{number}": stage.held["foreign"] for number in range(16)}
        await run(stage, 1)
    ending = await stage.agreed()
    staying = await stage.agreed()
    await run(stage, 1)
    away: list[bool] = []
    stage.ses.before = lambda _operation, _name: away.append(not may_send(stage, stage.parties.delegate_account))

    await how(stage, ending)
    await stage.until(ending, becomes)

    assert (False, True) == (allowed(stage, ending), allowed(stage, staying))
    assert State.ACTIVE is (await stage.show(staying)).state
    assert may_send(stage, stage.parties.delegate_account)
    assert not any(away)


async def _outcomes(*deeds: Awaitable[object]) -> list[bool]:
    """Which of these, all begun at once, were done; a refusal is a sentence of ours, and nothing else."""
    found = await asyncio.gather(*deeds, return_exceptions=True)
    assert all(isinstance(each, BrokerError) for each in found if isinstance(each, BaseException))
    return [not isinstance(each, BaseException) for each in found]


async def _moves(stage: Stage, grant: GrantView) -> list[str]:
    async with stage.db.read(stage.parties.owner) as session:
        rows = await session.execute(text("SELECT type FROM events WHERE grant_id = :id ORDER BY id"), {"id": grant.id})
        return [row.type for row in rows]


async def test_two_that_approve_at_once_agree_once_sso_elevator_47(stage: Stage) -> None:
    """There two approvers who clicked together made two schedules of revocation."""
    wanted = Proposal(identity_arn=stage.parties.arn, terms=terms_for(stage.parties))
    grant = await negotiate.propose(stage.db, stage.parties.delegate, wanted, lifetime=LIFETIME)
    approve = [
        negotiate.approve(stage.db, stage.parties.owner, grant.id, expected=grant.latest_offer) for _ in range(4)
    ]

    done = await _outcomes(*approve)
    await stage.until(grant, State.ACTIVE)

    assert 1 == sum(done)
    assert ["grant.proposed", "grant.approved", "grant.activated"] == await _moves(stage, grant)
    assert 1 == len(stage.ours())


async def test_approving_and_declining_at_once_leaves_one_answer_sso_elevator_47(stage: Stage) -> None:
    wanted = Proposal(identity_arn=stage.parties.arn, terms=terms_for(stage.parties))
    grant = await negotiate.propose(stage.db, stage.parties.delegate, wanted, lifetime=LIFETIME)

    approved, declined, withdrawn = await _outcomes(
        negotiate.approve(stage.db, stage.parties.owner, grant.id, expected=grant.latest_offer),
        negotiate.decline(stage.db, stage.parties.owner, grant.id, Reason()),
        negotiate.withdraw(stage.db, stage.parties.delegate, grant.id, Reason()),
    )
    await run(stage, 1)

    assert 1 == approved + declined + withdrawn
    expected = State.ACTIVE if approved else State.DECLINED if declined else State.WITHDRAWN
    assert expected is (await stage.show(grant)).state
    assert approved is allowed(stage, grant)


async def test_all_who_end_a_grant_at_once_end_it_once_sso_elevator_47(stage: Stage) -> None:
    """The owner twice, the delegate, and a suspension; while two workers look."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    owner, delegate = stage.parties.owner, stage.parties.delegate

    *ended, _ = await _outcomes(
        end.revoke(stage.db, owner, grant.id, Reason()),
        end.revoke(stage.db, owner, grant.id, Reason()),
        end.relinquish(stage.db, delegate, grant.id, Reason()),
        suspend.suspend(stage.db, owner, grant.id, Reason()),
    )
    await asyncio.gather(stage.sync(), stage.sync())
    await stage.until(grant, State.RELINQUISHED if ended[2] else State.REVOKED)

    moves = await _moves(stage, grant)
    assert 1 == sum(ended)
    assert not allowed(stage, grant)
    assert 1 == moves.count("grant.relinquished") + moves.count("grant.revoked")
    assert 1 == [each.id for each in stage.ended].count(grant.id)


async def test_an_approval_of_an_amendment_never_revives_what_is_revoked_at_once_sso_elevator_47(stage: Stage) -> None:
    """Whichever of the two comes first, the grant ends."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    amended = await negotiate.amend(
        stage.db,
        stage.parties.delegate,
        grant.id,
        Counter(terms=terms_for(stage.parties, days=30)),
        expected=grant.latest_offer,
        lifetime=LIFETIME,
    )

    _, revoked = await _outcomes(
        negotiate.approve(stage.db, stage.parties.owner, grant.id, expected=amended.latest_offer),
        end.revoke(stage.db, stage.parties.owner, grant.id, Reason()),
    )
    await stage.until(grant, State.REVOKED)

    assert revoked
    assert not allowed(stage, grant)
    with pytest.raises(Conflict):
        await negotiate.approve(stage.db, stage.parties.owner, grant.id, expected=amended.latest_offer)
    offers = await service.list_offers(stage.db, stage.parties.owner, grant.id)
    assert None not in [each.outcome for each in offers]
