"""Revoking by filter: which grants, in which order, how long it takes, and what is left alone."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.caller import Caller
from broker.db import Database, Role
from broker.errors import Invalid
from broker.feedback.usage.last import last_used
from broker.grants import end, negotiate, revoking, service
from broker.grants.lifecycle import State
from broker.grants.views import ExpectedThere, GrantView, Matching, Reason, Revoked
from broker.policies.compile import grant_of
from tests.conftest import MakeTenant, new_tenant
from tests.grants.conftest import Parties, Propose, connect_account
from tests.grants.many import Many, make_many, use

GAP = timedelta(seconds=1)
NOW = datetime(2026, 5, 1, tzinfo=UTC)


async def never_heard(_session: AsyncSession, _grant_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
    """No grant was ever heard of."""
    return {}


def used(dates: Mapping[UUID, datetime]) -> Any:
    """A `LastUsed` that knows these."""

    async def know(_session: AsyncSession, grant_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
        return {grant_id: dates[grant_id] for grant_id in grant_ids if grant_id in dates}

    return know


async def revoke(db: Database, caller: Caller, last_used: Any = never_heard, **wanted: Any) -> Revoked:
    return await revoking.revoke_matching(db, caller, Matching(**wanted), last_used=last_used, gap=GAP)


async def script(db: Database, caller: Caller, **wanted: Any) -> str:
    return await revoking.script_for(db, caller, Matching(**wanted), last_used=never_heard)


async def approved(db: Database, parties: Parties, propose: Propose) -> GrantView:
    """A grant that the owner has approved."""
    grant = await propose()
    return await negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)


async def many(db: Database, *, accounts: int, identities: int, grants: int, both: bool = False) -> tuple[Any, ...]:
    """An owner with such grants to one delegate, or in turn to two; (owner, delegate, other delegate, what it has)."""
    owner, delegate, other = [await new_tenant(db, role) for role in ("owner", "delegate", "delegate")]
    senders = [(each, (await connect_account(db, each, "proof"))[1]) for each in (delegate, other)]
    made = await make_many(
        db, owner, senders if both else senders[:1], accounts=accounts, identities=identities, grants=grants
    )
    return owner, delegate, other, made


@pytest.mark.parametrize("by", ["delegate_id", "account_id", "identity_arn"])
async def test_all_that_fits_is_revoked_at_once(db: Database, parties: Parties, propose: Propose, by: str) -> None:
    """A dry run names the grants and changes nothing; what is only proposed is no access, and stays."""
    live = [await approved(db, parties, propose) for _ in range(2)]
    await propose()
    fits: dict[str, Any] = {
        "delegate_id": parties.delegate.tenant,
        "account_id": parties.delegate_account,
        "identity_arn": parties.arn,
    }
    wanted = {by: fits[by]}

    tried = await revoke(db, parties.owner, **wanted, dry_run=True)
    done = await revoke(db, parties.owner, **wanted)
    again = await revoke(db, parties.owner, **wanted)

    ids = [grant.id for grant in live]
    assert [(grant_id, State.ACTIVATING) for grant_id in ids] == [(grant.id, grant.state) for grant in tried.grants]
    assert [(grant_id, State.REVOKING) for grant_id in ids] == [(grant.id, grant.state) for grant in done.grants]
    assert (tried.expected, tried.accounts) == (done.expected, done.accounts)
    assert ([], [], []) == (again.grants, again.expected, again.accounts)


async def test_nothing_is_revoked_without_a_filter_or_by_a_filter_that_does_not_fit(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """Nor does the delegate revoke anything with it, or get a script."""
    await approved(db, parties, propose)

    with pytest.raises(Invalid):
        await revoke(db, parties.owner)
    with pytest.raises(Invalid):
        await script(db, parties.owner)
    other = await revoke(db, parties.owner, account_id="123123123123")
    both = await revoke(db, parties.owner, account_id=parties.delegate_account, delegate_id=parties.owner.tenant)
    mine = await revoke(db, parties.delegate, identity_arn=parties.arn)
    printed = await script(db, parties.delegate, identity_arn=parties.arn)

    assert ([], [], []) == (other.grants, both.grants, mine.grants)
    assert parties.arn.rpartition("/")[2] not in printed
    (left,) = await service.list_grants(db, parties.owner, identity_arn=None, after=None, limit=9)
    assert State.ACTIVATING is left.state


async def test_three_hundred_grants_on_thirty_identities_take_what_ses_lets_them(db: Database) -> None:
    """Ten identities in each of three accounts with ten documents each: a hundred deletes, one a second.

    The removal of an identity ends with its tenth delete and a read; then each gets its second read.
    """
    owner, delegate, _, made = await many(db, accounts=3, identities=10, grants=10)

    answer = await revoke(db, owner, delegate_id=delegate.tenant, dry_run=True)

    assert 300 == len(answer.grants) == len(answer.expected)
    assert [
        ExpectedThere(
            account_id=account,
            region="eu-west-1",
            by_hand=False,
            identities=10,
            grants=100,
            creates=10,
            deletes=100,
            reads=30,
            revoked_within_seconds=111,
        )
        for account in made.accounts
    ] == answer.accounts
    removed = {each.identity_arn: each.removed_within_seconds for each in answer.expected}
    assert [11, 21, 31, 41, 51, 61, 71, 81, 91, 101] == [removed[arn] for arn in made.arns[:10]]
    assert removed[made.arns[0]] == removed[made.arns[10]] == removed[made.arns[20]]
    assert {"active"} == {grant.state for grant in answer.grants}


async def test_what_was_used_last_goes_first_and_the_workers_keep_to_it(db: Database) -> None:
    """By the identity's most recently used grant; what was never heard of comes last, oldest first."""
    owner, delegate, _, made = await many(db, accounts=2, identities=3, grants=2)
    dates = {made.grants[4][1]: NOW, made.grants[1][0]: NOW - timedelta(hours=1), made.grants[1][1]: NOW - timedelta(2)}

    answer = await revoke(db, owner, used(dates), delegate_id=delegate.tenant)

    order = [4, 1, 0, 2, 3, 5]
    assert [made.arns[number] for number in order] == list(dict.fromkeys(each.identity_arn for each in answer.expected))
    assert made.grants[4][::-1] == tuple(each.grant_id for each in answer.expected[:2])
    assert (NOW, None) == (answer.expected[0].last_used_at, answer.expected[1].last_used_at)
    assert [each.grant_id for each in answer.expected] == [grant.id for grant in answer.grants]
    ids = list(made.identities)
    claims = await due.claim(db.as_role(Role.WORKER), "identities", most=4, lease=GAP, only=ids)
    rest = await due.claim(db.as_role(Role.WORKER), "identities", most=9, lease=GAP, only=ids)
    assert [made.identities[number] for number in order] == [claim.id for claim in (*claims, *rest)]


async def test_grants_of_others_and_to_others_stay(db: Database) -> None:
    owner, delegate, other, made = await many(db, accounts=1, identities=2, grants=4, both=True)
    stranger = await new_tenant(db, "owner")
    _, account = await connect_account(db, delegate, "proof")
    theirs = await make_many(db, stranger, [(delegate, account)], accounts=1, identities=1, grants=2)

    answer = await revoke(db, owner, delegate_id=delegate.tenant)

    assert {each for ids in made.grants for each in ids[::2]} == {grant.id for grant in answer.grants}
    kept = await service.list_grants(db, other, identity_arn=None, after=None, limit=9)
    strangers = await service.list_grants(db, stranger, identity_arn=None, after=None, limit=9)
    assert [State.ACTIVE] * 4 == [grant.state for grant in kept]
    assert [(grant_id, State.ACTIVE) for grant_id in theirs.grants[0]] == [(each.id, each.state) for each in strangers]


async def test_two_bulk_revokes_at_once_revoke_everything_once(committed_db: Database) -> None:
    """They fit overlapping grants on the same identities, and neither stands in the other's way."""
    db = committed_db
    owner, delegate, other, made = await many(db, accounts=1, identities=4, grants=6, both=True)
    forward = {ids[0]: NOW - timedelta(number) for number, ids in enumerate(made.grants)}
    backward = {ids[1]: NOW + timedelta(number) for number, ids in enumerate(made.grants)}

    answers = await asyncio.gather(
        revoke(db, owner, used(forward), delegate_id=delegate.tenant),
        revoke(db, owner, used(backward), delegate_id=other.tenant),
        *(revoke(db, owner, used(forward), identity_arn=arn) for arn in made.arns),
    )

    times = Counter(grant.id for answer in answers for grant in answer.grants)
    assert dict.fromkeys((each for ids in made.grants for each in ids), 1) == times
    async with db.begin(owner) as session:
        told = await session.execute(
            text("SELECT grant_id, count(*) FROM events WHERE type = 'grant.revocation_requested' GROUP BY 1")
        )
        assert dict(times) == dict(told.all())


async def test_a_shared_document_is_one_call_for_all_and_stays_for_the_rest(db: Database) -> None:
    """Three of four grants in it go: one create and one delete, not three of each."""
    owner, delegate, _, made = await many(db, accounts=1, identities=1, grants=4)
    async with db.begin(owner) as session:
        (policies,) = (await session.scalars(text("SELECT policies FROM identities WHERE id = :id"), _of(made))).all()
        documents = [json.loads(each) for each in policies.values()]
        shared = {**documents[0], "Statement": [each["Statement"][0] for each in documents]}
        await session.execute(
            text("UPDATE identities SET policies = :new WHERE id = :id"),
            {**_of(made), "new": json.dumps({"delegation-broker-1-1": json.dumps(shared)})},
        )
        await session.execute(text("UPDATE grants SET accounts = '{}' WHERE id = :kept"), {"kept": made.grants[0][0]})

    account = (await revoke(db, owner, delegate_id=delegate.tenant, dry_run=True)).grants[0].terms
    assert account is not None
    answer = await revoke(db, owner, account_id=account.principals[0], dry_run=True)
    printed = await script(db, owner, account_id=account.principals[0])

    assert [(1, 1)] == [(each.creates, each.deletes) for each in answer.accounts]
    assert 3 == len(answer.grants)
    (update,) = [line for line in printed.splitlines() if line.startswith("aws sesv2 update-email-identity-policy")]
    assert made.grants[0][0].hex in update
    assert not [each for each in made.grants[0][1:] if each.hex in update]
    # The one who stays is of the same account: a Deny would shut it out.
    assert "No Deny" in printed


def _of(made: Many) -> dict[str, UUID]:
    return {"id": made.identities[0]}


async def test_the_script_goes_on_naming_what_was_revoked_until_it_is_gone(db: Database) -> None:
    owner, delegate, _, made = await many(db, accounts=1, identities=1, grants=2)
    before = await script(db, owner, delegate_id=delegate.tenant)
    await end.revoke(db, owner, made.grants[0][0], Reason())
    await end.revoke(db, owner, made.grants[0][1], Reason())

    after = await script(db, owner, delegate_id=delegate.tenant)
    async with db.begin(owner) as session:
        await session.execute(text("UPDATE grants SET effect = 'removed' WHERE id = :id"), {"id": made.grants[0][0]})
    at_last = await script(db, owner, delegate_id=delegate.tenant)

    assert before == after
    assert "create-email-identity-policy" in after
    assert made.grants[0][0].hex not in at_last
    assert made.grants[0][1].hex in at_last
    assert grant_of(made.grants[0][1].hex) == made.grants[0][1]


async def test_where_the_owner_works_by_hand_nobody_can_say_how_long_it_takes(db: Database) -> None:
    owner, delegate, _, made = await many(db, accounts=1, identities=1, grants=1)
    async with db.begin(owner) as session:
        await session.execute(text("UPDATE connections SET kind = 'manual', role_arn = NULL"))
        await session.execute(text("UPDATE identities SET policies = '{}'"))

    answer = await revoke(db, owner, delegate_id=delegate.tenant, dry_run=True)
    printed = await script(db, owner, delegate_id=delegate.tenant)

    assert [(True, None)] == [(each.by_hand, each.revoked_within_seconds) for each in answer.accounts]
    assert [None] == [each.removed_within_seconds for each in answer.expected]
    assert f"--policy-name ses-grant-{made.grants[0][0].hex}" in printed


async def test_last_used_is_the_latest_of_what_was_counted_and_heard(db: Database, make_tenant: MakeTenant) -> None:
    """By quarter for the last day, by day before that; other grants are not heard of."""
    owner, _, _, made = await many(db, accounts=1, identities=1, grants=4)
    first, second, third, never = made.grants[0]
    worker = Caller.system(owner.tenant, job="test")
    async with db.as_role(Role.WORKER).begin(worker) as session:
        await use(session, first, owner.tenant, NOW)
        await use(session, second, owner.tenant, NOW - timedelta(hours=3))
        for grant_id, day in ((first, NOW - timedelta(days=1)), (third, NOW - timedelta(days=9))):
            await session.execute(
                text(
                    "INSERT INTO usage_days (grant_id, day, name, owner_id, delegate_id, number)"
                    " SELECT id, :day, 'sent', owner_id, delegate_id, 1 FROM grants WHERE id = :id"
                ),
                {"id": grant_id, "day": day.date()},
            )

    async with db.begin(owner) as session:
        found = await last_used(session, made.grants[0])
        nobodys = await last_used(session, [])

    assert {first: NOW, second: NOW - timedelta(hours=3), third: NOW - timedelta(days=9)} == found
    assert {} == nobodys
    assert never not in found
