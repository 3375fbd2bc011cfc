"""Negotiation, on a real Postgres."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from broker.db import Database, Role
from broker.errors import Conflict, Invalid, NotFound, PreconditionFailed
from broker.grants import end, negotiate, service
from broker.grants.lifecycle import Outcome, Party, State
from broker.grants.models import Offer
from broker.grants.views import Counter, GrantView, Proposal, Reason
from broker.ids import new_id
from broker.policies.changes import Effect
from broker.policies.findings import Code
from tests.conftest import MakeTenant
from tests.grants.conftest import LIFETIME, Parties, Propose, terms_for


async def approved(db: Database, parties: Parties, propose: Propose) -> GrantView:
    """A grant that the owner has approved."""
    grant = await propose()
    return await negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)


async def test_a_proposal_awaits_the_other_party(parties: Parties, propose: Propose) -> None:
    """The delegate proposed, so the owner decides."""
    grant = await propose()

    assert (State.PROPOSED, Party.OWNER, Party.DELEGATE) == (grant.state, grant.awaiting, grant.you_are)


async def test_the_owner_can_propose_to_a_delegate_it_names(db: Database, parties: Parties) -> None:
    """Either side may begin."""
    wanted = Proposal(identity_arn=parties.arn, terms=terms_for(parties), delegate_id=parties.delegate.tenant)

    grant = await negotiate.propose(db, parties.owner, wanted, lifetime=LIFETIME)

    assert (Party.DELEGATE, parties.delegate.tenant) == (grant.awaiting, grant.delegate.id)


async def test_an_owner_has_to_say_to_whom(db: Database, parties: Parties) -> None:
    """The error names the field."""
    with pytest.raises(Invalid) as refused:
        await negotiate.propose(
            db, parties.owner, Proposal(identity_arn=parties.arn, terms=terms_for(parties)), lifetime=LIFETIME
        )

    assert ["/delegate_id"] == [flaw.pointer for flaw in refused.value.flaws]


async def test_an_unknown_delegate_is_refused_and_nothing_is_stored(db: Database, parties: Parties) -> None:
    """The foreign key decides; the sentence names the field."""
    wanted = Proposal(identity_arn=parties.arn, terms=terms_for(parties), delegate_id=new_id())

    with pytest.raises(Invalid) as refused:
        await negotiate.propose(db, parties.owner, wanted, lifetime=LIFETIME)

    assert ["/delegate_id"] == [flaw.pointer for flaw in refused.value.flaws]
    assert [] == await service.list_grants(db, parties.owner, identity_arn=None, after=None, limit=10)


async def test_terms_outside_the_identity_are_refused_with_their_field(propose: Propose) -> None:
    """Checked when offered, not when applied."""
    with pytest.raises(Invalid) as refused:
        await propose(from_addresses=("ceo@example.org",))

    assert ["/terms/from_addresses/0"] == [flaw.pointer for flaw in refused.value.flaws]


async def test_nobody_approves_their_own_offer(db: Database, parties: Parties, propose: Propose) -> None:
    """Only the party that did not make the latest offer may decide it."""
    grant = await propose()

    with pytest.raises(Conflict):
        await negotiate.approve(db, parties.delegate, grant.id, expected=grant.latest_offer)


async def test_approving_another_offer_than_was_shown_is_impossible(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """The owner countered; what the delegate proposed first can no longer be agreed to."""
    first, other = await propose(), terms_for(parties, days=30)
    countered = await negotiate.counter(
        db,
        parties.owner,
        first.id,
        Counter(terms=other),
        expected=first.latest_offer,
        lifetime=LIFETIME,
    )

    with pytest.raises(PreconditionFailed):
        await negotiate.approve(db, parties.delegate, first.id, expected=first.latest_offer)
    agreed = await negotiate.approve(db, parties.delegate, first.id, expected=countered.latest_offer)

    assert State.ACTIVATING is agreed.state
    assert other == agreed.terms


async def test_the_offers_tell_the_whole_story(db: Database, parties: Parties, propose: Propose) -> None:
    """Each version is kept, explained and compared with the one before."""
    first = await propose()
    await negotiate.counter(
        db,
        parties.owner,
        first.id,
        Counter(terms=terms_for(parties, from_display_names=("Example News",)), note="Please use our name."),
        expected=first.latest_offer,
        lifetime=LIFETIME,
    )

    offers = await service.list_offers(db, parties.delegate, first.id)

    assert [(1, Party.DELEGATE, Outcome.COUNTERED), (2, Party.OWNER, None)] == [
        (offer.number, offer.made_by, offer.outcome) for offer in offers
    ]
    assert offers[1].note == "Please use our name."
    assert ([], Effect.neither) == (offers[0].changes, offers[0].effect)
    assert any("Example News" in change.text for change in offers[1].changes)
    assert offers[1].effect in (Effect.narrows, Effect.alters)


async def test_the_policy_is_shown_explained_and_linted(db: Database, parties: Parties, propose: Propose) -> None:
    grant = await propose(from_addresses=())

    shown = await service.policy(db, parties.owner, grant.id)

    assert Code.no_from_limit in {finding.code for finding in shown.findings}
    assert any("any address" in sentence for sentence in shown.explanation)


async def test_a_principal_has_to_be_proven_before_the_approval(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """An account that the delegate only claims cannot be let in."""
    grant = await propose(principals=("123123123123",))

    with pytest.raises(Conflict, match="123123123123"):
        await negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)


async def test_an_account_proven_by_somebody_else_does_not_count(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """The owner's account is proven, but not by the delegate."""
    grant = await propose(principals=(parties.account,))

    with pytest.raises(Conflict, match=parties.account):
        await negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)


async def test_an_approval_wakes_the_identity(db: Database, parties: Parties, propose: Propose) -> None:
    """The sync is due in the transaction of the approval itself, whoever approved."""
    async with db.begin(parties.owner) as session:
        await session.execute(text("UPDATE identities SET due_at = NULL"))

    await approved(db, parties, propose)

    async with db.read(parties.owner) as session:
        due_now = text("SELECT due_at <= now() FROM identities WHERE id = :id")
        assert (await session.execute(due_now, {"id": parties.identity_id})).scalar_one()


async def test_a_declined_grant_is_over(db: Database, parties: Parties, propose: Propose) -> None:
    """And cannot be approved any more."""
    grant = await propose()
    declined = await negotiate.decline(db, parties.owner, grant.id, Reason(note="Not this year."))

    assert State.DECLINED is declined.state
    with pytest.raises(Conflict):
        await negotiate.approve(db, parties.owner, grant.id, expected=grant.latest_offer)


async def test_only_the_maker_withdraws(db: Database, parties: Parties, propose: Propose) -> None:
    """The other party declines instead."""
    grant = await propose()

    with pytest.raises(Conflict):
        await negotiate.withdraw(db, parties.owner, grant.id, Reason())
    withdrawn = await negotiate.withdraw(db, parties.delegate, grant.id, Reason())

    assert State.WITHDRAWN is withdrawn.state


async def test_an_amendment_leaves_the_agreed_terms_in_force(db: Database, parties: Parties, propose: Propose) -> None:
    """Until it is approved, and for ever when it is declined."""
    grant = await approved(db, parties, propose)
    longer = terms_for(parties, days=120)

    amended = await negotiate.amend(
        db, parties.delegate, grant.id, Counter(terms=longer), expected=grant.latest_offer, lifetime=LIFETIME
    )
    assert (grant.terms, Party.OWNER) == (amended.terms, amended.awaiting)
    declined = await negotiate.decline(db, parties.owner, grant.id, Reason())
    assert (grant.terms, State.ACTIVATING) == (declined.terms, declined.state)
    again = await negotiate.amend(
        db, parties.owner, grant.id, Counter(terms=longer), expected=amended.latest_offer, lifetime=LIFETIME
    )
    agreed = await negotiate.approve(db, parties.delegate, grant.id, expected=again.latest_offer)

    assert longer == agreed.terms


async def test_a_lapsed_offer_makes_room_for_an_amendment(db: Database, parties: Parties, propose: Propose) -> None:
    """Also when no worker has written the lapse down."""
    grant = await approved(db, parties, propose)
    stale = await negotiate.amend(
        db,
        parties.delegate,
        grant.id,
        Counter(terms=terms_for(parties, days=60)),
        expected=grant.latest_offer,
        lifetime=timedelta(seconds=-1),
    )

    fresh = await negotiate.amend(
        db,
        parties.owner,
        grant.id,
        Counter(terms=terms_for(parties, days=120)),
        expected=stale.latest_offer,
        lifetime=LIFETIME,
    )

    assert Party.DELEGATE is fresh.awaiting
    async with db.read(parties.owner) as session:
        outcomes = await session.scalars(select(Offer.outcome).where(Offer.grant_id == grant.id).order_by(Offer.number))
        assert [Outcome.APPROVED, Outcome.LAPSED, None] == list(outcomes)


async def test_a_revocation_voids_an_open_amendment(db: Database, parties: Parties, propose: Propose) -> None:
    """Nothing can be agreed on what has ended."""
    grant = await approved(db, parties, propose)
    amended = await negotiate.amend(
        db,
        parties.delegate,
        grant.id,
        Counter(terms=terms_for(parties, days=120)),
        expected=grant.latest_offer,
        lifetime=LIFETIME,
    )

    revoked = await end.revoke(db, parties.owner, grant.id, Reason())

    assert (State.REVOKING, None) == (revoked.state, revoked.awaiting)
    with pytest.raises(Conflict):
        await negotiate.approve(db, parties.owner, grant.id, expected=amended.latest_offer)


async def test_the_delegate_cannot_revoke_and_the_owner_cannot_relinquish(
    db: Database, parties: Parties, propose: Propose
) -> None:
    """Two verbs, one for each side."""
    grant = await approved(db, parties, propose)

    with pytest.raises(Conflict):
        await end.revoke(db, parties.delegate, grant.id, Reason())
    with pytest.raises(Conflict):
        await end.relinquish(db, parties.owner, grant.id, Reason())
    ended = await end.relinquish(db, parties.delegate, grant.id, Reason())

    assert State.RELINQUISHING is ended.state


async def test_a_stranger_cannot_see_or_touch_a_grant(
    db: Database, parties: Parties, propose: Propose, make_tenant: MakeTenant
) -> None:
    """What is not yours does not exist."""
    grant = await propose()
    stranger = await make_tenant()

    with pytest.raises(NotFound):
        await service.list_offers(db, stranger, grant.id)
    with pytest.raises(NotFound):
        await negotiate.approve(db, stranger, grant.id, expected=grant.latest_offer)
    assert [] == await service.list_grants(db, stranger, identity_arn=None, after=None, limit=10)


@pytest.mark.parametrize("table", ["grants", "offers", "events", "audit"])
async def test_row_level_security_alone_hides_a_grant(
    db: Database, parties: Parties, propose: Propose, make_tenant: MakeTenant, table: str
) -> None:
    """The second wall: a query without a `where`, under every role that has a tenant."""
    await propose()
    stranger = await make_tenant()
    seen: dict[str, int] = {}

    for role in (Role.API, Role.WORKER):
        for name, caller in (("party", parties.owner), ("stranger", stranger)):
            async with db.as_role(role).read(caller) as session:
                rows = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
                seen[f"{role}:{name}"] = rows

    assert all((rows > 0) == key.endswith("party") for key, rows in seen.items() if table != "audit")
    assert seen["broker_api:stranger"] <= 1  # the audit row of its own registration


async def test_both_parties_find_each_move_in_the_history(db: Database, parties: Parties, propose: Propose) -> None:
    """With the key of one's own moves only."""
    grant = await approved(db, parties, propose)

    mine = await service.history(db, parties.owner, grant.id, after=None, limit=10)
    theirs = await service.history(db, parties.delegate, grant.id, after=None, limit=10)

    assert [("grant.proposed", False), ("grant.approved", True)] == [(e.action, e.by_me) for e in mine]
    assert [("grant.proposed", True), ("grant.approved", False)] == [(e.action, e.by_me) for e in theirs]
    assert [None, parties.owner.key_id] == [e.key_id for e in mine]
