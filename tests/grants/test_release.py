"""Removing a connection: what holds it, and what nobody may hold it with."""

from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from broker.caller import Caller
from broker.connections import service as connections
from broker.connections.binding import hold, lean_on
from broker.connections.displace import displace
from broker.connections.models import Connection
from broker.db import Database, Role
from broker.errors import Conflict, NotFound
from broker.grants import negotiate, service
from broker.grants.lifecycle import Effect, Outcome, Paper, State
from broker.grants.models import Grant
from broker.grants.release import release
from broker.grants.views import Counter, GrantView, Proposal
from broker.identities import service as identities
from tests.conftest import MakeTenant, new_tenant
from tests.grants.conftest import LIFETIME, Parties, Propose, terms_for


async def connection_of(db: Database, caller: Caller) -> UUID:
    """The one connection of this tenant."""
    async with db.read(caller) as session:
        return (await session.scalars(select(Connection.id).where(Connection.tenant_id == caller.tenant))).one()


async def approved(db: Database, parties: Parties, propose: Propose) -> GrantView:
    """A grant that the owner has approved."""
    grant = await propose()
    return await negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)


async def test_proposals_of_others_do_not_hold_a_connection(db: Database, parties: Parties, propose: Propose) -> None:
    """Else anybody who knows an ARN could keep its owner from leaving; they are declined, and their makers told."""
    grants = [await propose(), await propose(days=30)]

    await connections.remove(db, parties.owner, await connection_of(db, parties.owner), release=release)

    after = await service.list_grants(db, parties.delegate, identity_arn=None, after=None, limit=10)
    [offer] = await service.list_offers(db, parties.delegate, grants[0].id)
    history = await service.history(db, parties.delegate, grants[0].id, after=None, limit=10)
    assert [State.DECLINED, State.DECLINED] == [grant.state for grant in after]
    assert Outcome.VOIDED == offer.outcome
    assert "grant.declined" in [entry.action for entry in history]
    with pytest.raises(NotFound):
        await identities.one(db, parties.owner, parties.identity_id)


async def test_own_proposals_are_withdrawn_with_the_connection(db: Database, parties: Parties) -> None:
    """The word for an offer that its maker takes back."""
    wanted = Proposal(identity_arn=parties.arn, terms=terms_for(parties), delegate_id=parties.delegate.tenant)
    await negotiate.propose(db, parties.owner, wanted, lifetime=LIFETIME)

    await connections.remove(db, parties.owner, await connection_of(db, parties.owner), release=release)

    [grant] = await service.list_grants(db, parties.delegate, identity_arn=None, after=None, limit=10)
    assert State.WITHDRAWN == grant.state


async def test_a_live_grant_holds_the_owners_connection(db: Database, parties: Parties, propose: Propose) -> None:
    """Without it the policy could neither be removed nor read."""
    await approved(db, parties, propose)

    with pytest.raises(Conflict):
        await connections.remove(db, parties.owner, await connection_of(db, parties.owner), release=release)


async def test_a_live_grant_holds_the_delegates_account(db: Database, parties: Parties, propose: Propose) -> None:
    """Whoever proved the account next would send under this grant, and the first delegate would hear of that mail."""
    await approved(db, parties, propose)

    with pytest.raises(Conflict):
        await connections.remove(db, parties.delegate, await connection_of(db, parties.delegate), release=release)


async def test_an_account_is_free_once_its_grants_are_proven_to_be_gone(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """History does not hold it."""
    grant = await approved(db, parties, propose)
    async with db.begin(parties.owner) as session:
        ended = update(Grant).where(Grant.id == grant.id)
        await session.execute(ended.values(paper=Paper.REVOKED, effect=Effect.REMOVED))
    connection = await connection_of(db, parties.delegate)

    await connections.remove(db, parties.delegate, connection, release=release)

    async with db.read(parties.delegate) as session:
        assert [] == (await session.scalars(text("SELECT account_id FROM accounts"))).all()


async def test_nothing_is_agreed_about_an_identity_that_is_gone(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """A proposal that came in while the connection was being removed."""
    grant = await propose()
    async with db.begin(parties.owner) as session:
        await identities.retire(session, await connection_of(db, parties.owner))

    with pytest.raises(Conflict):
        await negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)


async def test_a_delegate_cannot_undo_what_was_taken_away_by_approving_an_amendment(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """The owner's open amendment is older than the removal; only the owner restores."""
    grant = await approved(db, parties, propose)
    amended = await negotiate.amend(
        db,
        parties.owner,
        grant.id,
        Counter(terms=terms_for(parties, days=120)),
        expected=grant.latest_offer,
        lifetime=LIFETIME,
    )
    async with db.begin(parties.owner) as session:
        drifted = update(Grant).where(Grant.id == grant.id)
        await session.execute(drifted.values(effect=Effect.APPLIED, drifted=True))

    after = await negotiate.approve(db, parties.delegate, grant.id, expected=amended.latest_offer)

    async with db.read(parties.owner) as session:
        row = (await session.scalars(select(Grant).where(Grant.id == grant.id))).one()
    assert (True, Effect.APPLIED, ("drifted",)) == (row.drifted, row.effect, tuple(after.flags))
    assert amended.latest_offer == row.agreed_offer_id


async def test_the_owners_own_approval_puts_a_drifted_policy_back(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """It is the owner's word."""
    grant = await approved(db, parties, propose)
    amended = await negotiate.amend(
        db,
        parties.delegate,
        grant.id,
        Counter(terms=terms_for(parties, days=120)),
        expected=grant.latest_offer,
        lifetime=LIFETIME,
    )
    async with db.begin(parties.owner) as session:
        drifted = update(Grant).where(Grant.id == grant.id)
        await session.execute(drifted.values(effect=Effect.APPLIED, drifted=True))

    after = await negotiate.approve(db, parties.owner, grant.id, expected=amended.latest_offer)

    assert (State.ACTIVATING, ()) == (after.state, tuple(after.flags))


async def test_a_stranger_cannot_remove_a_connection(db: Database, parties: Parties, make_tenant: MakeTenant) -> None:
    """Nor learn that it is there."""
    stranger = await make_tenant("owner")

    with pytest.raises(NotFound):
        await connections.remove(db, stranger, await connection_of(db, parties.owner), release=release)


@pytest.mark.parametrize(
    ("effect", "freed"), [(Effect.APPLIED, False), (Effect.REMOVED, True)], ids=["live", "proven to be gone"]
)
async def test_a_role_takes_a_proven_account_only_when_no_grant_lets_it_send(
    db: Database, parties: Parties, propose: Propose, make_tenant: MakeTenant, effect: Effect, *, freed: bool
) -> None:
    """A mere proof gives way to a verified role, but not under a grant: the other would send as this delegate."""
    grant, claimant = await approved(db, parties, propose), await make_tenant("owner")
    async with db.begin(parties.owner) as session:
        paper = Paper.REVOKED if freed else Paper.AGREED
        await session.execute(update(Grant).where(Grant.id == grant.id).values(paper=paper, effect=effect))
    async with db.begin(parties.delegate) as session:
        query = update(Connection).where(Connection.tenant_id == parties.delegate.tenant).values(kind="proof")
        account: str = (await session.scalars(query.returning(Connection.account_id))).one()

    await displace(db.as_role(Role.WORKER), account, claimant.tenant, release=release)

    async with db.read(claimant) as session:
        query_of_holder = text("SELECT tenant_id FROM account_tenants(:accounts)")
        held = await session.scalar(query_of_holder, {"accounts": [account]})
    assert (None if freed else parties.delegate.tenant) == held


async def test_an_account_is_not_unbound_while_a_grant_is_being_agreed_on(committed_db: Database) -> None:
    """Else both could be true at once: the grant saw the proof, and the unbinding saw no grant."""
    one, two = await new_tenant(committed_db), await new_tenant(committed_db)

    async with committed_db.begin(one) as agreeing:
        await lean_on(agreeing, ["111111111111", "222222222222"])
        async with committed_db.begin(two) as other:
            await other.execute(text("SET LOCAL lock_timeout = '2s'"))
            await lean_on(other, ["222222222222"])
        async with committed_db.begin(two) as unbinding:
            await unbinding.execute(text("SET LOCAL lock_timeout = '50ms'"))
            with pytest.raises(DBAPIError, match="lock timeout"):
                await hold(unbinding, "222222222222")
            await unbinding.rollback()
