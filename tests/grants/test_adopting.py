"""A foreign policy is adopted: a grant of its meaning takes its place, and it goes once that was read back."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, text

from broker.audit.service import entries
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.due import Claim
from broker.errors import Conflict, Invalid, NotFound, Refused
from broker.grants import end, negotiate, service
from broker.grants.act import Reading
from broker.grants.adopting.replaces import Replaces, Swap, digest_of, next_state
from broker.grants.adopting.service import adopt_policy
from broker.grants.adopting.swap import replace_policies
from broker.grants.adopting.views import Adopting
from broker.grants.lifecycle import Party, State
from broker.grants.views import GrantView, Reason
from broker.grants.wanted import load
from broker.identities.models import PolicyDocument
from broker.ids import new_id
from broker.policies.plan import MAX_POLICIES
from broker.policies.wording import when
from tests.conftest import new_tenant
from tests.grants.conftest import LIFETIME, Parties, connect_account, make_parties
from tests.grants.fake_ses import throttled
from tests.grants.test_sync import DEADLINE, FOREIGN, PACE, Stage

AGENCY = "AgencyMayWrite"
END = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


def agency_policy(parties: Parties, *accounts: str, **changes: Any) -> str:
    """What an owner wrote by hand years ago, for the delegate's account."""
    statement = {
        "Sid": "Agency",
        "Effect": "Allow",
        "Principal": {"AWS": [f"arn:aws:iam::{each}:root" for each in accounts or (parties.delegate_account,)]},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": parties.arn,
        "Condition": {"StringLike": {"ses:FromAddress": "news*@example.com"}},
        **changes,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)


async def hold(db: Database, parties: Parties, **policies: str) -> None:
    """As if the last read had found these on the identity."""
    async with db.begin(parties.owner) as session:
        await session.execute(
            text("UPDATE identities SET policies = :held WHERE id = :id").bindparams(id=parties.identity_id),
            {"held": json.dumps(policies)},
        )


async def adopt(db: Database, parties: Parties, name: str = AGENCY, **more: Any) -> GrantView:
    """The owner adopts, for the delegate unless it says otherwise."""
    given: dict[str, Any] = {"delegate_id": parties.delegate.tenant, "expires_at": END, **more}
    wanted = Adopting(**given)
    return await adopt_policy(db, parties.owner, parties.identity_id, name, wanted, lifetime=LIFETIME)


class Swapping(Stage):
    """A stage on which the owner's old policy hangs."""

    async def begin(self) -> GrantView:
        """The policy is there, and a grant in its place is agreed."""
        self.held[AGENCY] = agency_policy(self.parties)
        await self.wake()
        await self.sync()
        grant = await adopt(self.db, self.parties)
        return await negotiate.approve(self.db, self.parties.delegate, grant.id, expected=grant.latest_offer)

    async def until_swapped(self, grant: GrantView, state: Swap) -> Replaces:
        """Runs the worker until this has become of the old policy."""
        async with asyncio.timeout(DEADLINE):
            while True:
                await self.sync()
                seen = (await self.show(grant)).replaces
                if seen is not None and seen.state is state:
                    return seen

    async def actions(self, grant: GrantView) -> list[str]:
        """What the audit trail says of the grant."""
        rows = await entries(self.db, self.parties.owner, subject_id=grant.id, after=None, limit=100)
        return [each.action for each in rows]


@pytest_asyncio.fixture
async def stage(committed_db: Database, keyring: Keyring) -> Swapping:
    """Parties of one test's own, really committed."""
    owner, delegate = await new_tenant(committed_db, "owner"), await new_tenant(committed_db, "delegate")
    return Swapping(committed_db, await make_parties(committed_db, owner, delegate), keyring)


async def test_a_policy_is_adopted_as_a_proposal_of_the_same_meaning(db: Database, parties: Parties) -> None:
    document = agency_policy(parties)
    await hold(db, parties, **{AGENCY: document})

    grant = await adopt(db, parties)
    (offer,) = await service.list_offers(db, parties.delegate, grant.id)

    narrows = (f"The policy has no end; the grant ends on {when(END)}.",)
    expected = Replaces(AGENCY, digest_of(document), narrows)
    assert (State.PROPOSED, Party.DELEGATE, expected) == (grant.state, grant.awaiting, grant.replaces)
    assert (("news*@example.com",), END) == (offer.terms.from_addresses, offer.terms.expires_at)
    assert expected == offer.replaces
    assert offer.explanation[-1] == narrows[0]
    assert f"takes the place of the policy {AGENCY}, which is deleted once" in offer.explanation[-2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Principal": "*"}, "lets anybody send"),
        ({"Action": "ses:Send*"}, "SendBounce"),
        ({"Resource": "arn:aws:ses:eu-west-1:111111111111:identity/other.example"}, "another resource"),
    ],
)
async def test_what_terms_cannot_say_is_refused(
    db: Database, parties: Parties, change: dict[str, Any], said: str
) -> None:
    await hold(db, parties, **{AGENCY: agency_policy(parties, **change)})

    with pytest.raises(Conflict, match=said):
        await adopt(db, parties)


async def test_a_policy_without_end_needs_expires_at(db: Database, parties: Parties) -> None:
    await hold(db, parties, **{AGENCY: agency_policy(parties)})

    with pytest.raises(Invalid) as refused:
        await adopt(db, parties, expires_at=None)

    assert ["/expires_at"] == [flaw.pointer for flaw in refused.value.flaws]


async def test_accounts_of_several_delegates_are_refused(db: Database, parties: Parties, make_tenant: Any) -> None:
    """A grant has one delegate; an account that nobody has proven yet is proven before the approval, as usual."""
    _, other = await connect_account(db, await make_tenant("delegate"), "proof")
    await hold(
        db,
        parties,
        **{
            AGENCY: agency_policy(parties, parties.delegate_account, other),
            "unproven": agency_policy(parties, "0" * 12),
        },
    )

    with pytest.raises(Conflict, match=f"account {other} send, which is not this delegate's"):
        await adopt(db, parties)
    unproven = await adopt(db, parties, "unproven")
    with pytest.raises(Conflict, match="has not proven account 000000000000"):
        await negotiate.approve(db, parties.delegate, unproven.id, expected=unproven.latest_offer)


async def test_only_the_owner_of_the_identity_can_adopt(db: Database, parties: Parties) -> None:
    """What is another tenant's is not found, the delegate of the policy included."""
    await hold(db, parties, **{AGENCY: agency_policy(parties)})
    wanted = Adopting(delegate_id=parties.delegate.tenant, expires_at=END)

    with pytest.raises(NotFound):
        await adopt_policy(db, parties.delegate, parties.identity_id, AGENCY, wanted, lifetime=LIFETIME)


async def test_a_policy_that_is_not_there_or_ours_or_taken_cannot_be_adopted(db: Database, parties: Parties) -> None:
    ours = "delegation-broker-1-1"
    await hold(db, parties, **{AGENCY: agency_policy(parties), ours: agency_policy(parties)})
    first = await adopt(db, parties)

    with pytest.raises(NotFound):
        await adopt(db, parties, "nothing")
    with pytest.raises(Conflict, match="The broker made this policy"):
        await adopt(db, parties, ours)
    with pytest.raises(Conflict, match=f"Grant {first.id} is to replace this policy already"):
        await adopt(db, parties)
    await negotiate.withdraw(db, parties.owner, first.id, Reason())
    assert (await adopt(db, parties)).replaces is not None


async def test_new_beside_old_needs_a_place(db: Database, parties: Parties) -> None:
    """SES takes 20 policies on an identity (SES Developer Guide, policy-anatomy)."""
    others = {f"other{number}": FOREIGN for number in range(MAX_POLICIES - 1)}
    await hold(db, parties, **others, **{AGENCY: agency_policy(parties)})

    with pytest.raises(Conflict, match="SES takes no more policies"):
        await adopt(db, parties)


async def test_an_unknown_delegate_is_refused(db: Database, parties: Parties) -> None:
    await hold(db, parties, **{AGENCY: agency_policy(parties, "0" * 12)})

    with pytest.raises(Invalid) as refused:
        await adopt(db, parties, delegate_id=new_id())

    assert ["/delegate_id"] == [flaw.pointer for flaw in refused.value.flaws]


async def test_a_declined_adoption_keeps_the_policy(db: Database, parties: Parties) -> None:
    await hold(db, parties, **{AGENCY: agency_policy(parties)})
    grant = await adopt(db, parties)

    declined = await negotiate.decline(db, parties.delegate, grant.id, Reason())

    assert declined.replaces is not None
    assert Swap.KEPT is declined.replaces.state


async def test_the_old_policy_goes_once_the_new_one_was_read_twice(stage: Swapping) -> None:
    """Never before: at every call one of the two is there."""
    grant = await stage.begin()
    together: list[bool] = []
    stage.ses.before = lambda *_: together.append(AGENCY in stage.held or bool(stage.ours()))

    done = await stage.until_swapped(grant, Swap.REMOVED)

    deleted = [place for place, call in enumerate(stage.ses.calls) if call == ("delete", AGENCY)]
    created = [place for place, call in enumerate(stage.ses.calls) if call[0] == "create"]
    reads = [place for place, call in enumerate(stage.ses.calls) if call[0] == "read"]
    assert (1, 1) == (len(created), len(deleted))
    assert 2 <= len([place for place in reads if created[0] < place < deleted[0]])
    assert all(together)
    assert (AGENCY not in stage.held, FOREIGN) == (True, stage.held["foreign"])
    assert (State.ACTIVE, None) == ((await stage.show(grant)).state, done.detail)
    told = await stage.actions(grant)
    assert told.index("grant.activated") < told.index("grant.policy_removing") < told.index("grant.policy_replaced")
    async with stage.db.read(stage.parties.owner) as session:
        kept = await session.scalars(select(PolicyDocument.document).where(PolicyDocument.name == AGENCY))
        assert agency_policy(stage.parties) in list(kept)


async def test_a_policy_that_says_the_same_otherwise_is_still_the_same(stage: Swapping) -> None:
    """SES may give back an account's ARN for its id, or other white space."""
    grant = await stage.begin()
    account = stage.parties.delegate_account
    stage.held[AGENCY] = json.dumps(json.loads(stage.held[AGENCY])).replace(f"arn:aws:iam::{account}:root", account)

    await stage.until_swapped(grant, Swap.REMOVED)

    assert AGENCY not in stage.held


async def test_a_policy_that_was_changed_meanwhile_is_left_alone(stage: Swapping) -> None:
    grant = await stage.begin()
    changed = agency_policy(stage.parties, Action="ses:SendEmail")
    stage.held[AGENCY] = changed

    done = await stage.until_swapped(grant, Swap.CHANGED)

    assert (changed, State.ACTIVE) == (stage.held[AGENCY], (await stage.show(grant)).state)
    assert done.detail is not None
    assert "grant.policy_kept" in await stage.actions(grant)
    assert ("delete", AGENCY) not in stage.ses.calls


async def test_a_policy_that_somebody_else_removed_is_told(stage: Swapping) -> None:
    grant = await stage.begin()
    del stage.held[AGENCY]

    await stage.until_swapped(grant, Swap.GONE)

    assert State.ACTIVE is (await stage.show(grant)).state
    assert "grant.policy_gone" in await stage.actions(grant)


async def test_a_refused_removal_is_said_and_the_grant_stays_active(stage: Swapping) -> None:
    grant = await stage.begin()

    def refuse(operation: str, name: str) -> None:
        if (operation, name) == ("delete", AGENCY):
            raise Refused("You may not delete this.", code="AccessDeniedException")

    stage.ses.before = refuse
    refused = await stage.until_swapped(grant, Swap.REFUSED)
    await stage.wake()
    await stage.sync()
    told = (await stage.actions(grant)).count("grant.policy_removal_refused")
    state = (await stage.show(grant)).state
    stage.ses.before = lambda *_: None
    await stage.wake()
    await stage.until_swapped(grant, Swap.REMOVED)

    assert ("You may not delete this.", 1, State.ACTIVE) == (refused.detail, told, state)
    assert AGENCY not in stage.held


async def test_a_grant_that_ends_first_leaves_the_policy(stage: Swapping) -> None:
    grant = await stage.begin()
    await negotiate_end(stage, grant)

    ended = await stage.until(grant, State.RELINQUISHED)

    assert ended.replaces is not None
    assert (Swap.KEPT, True) == (ended.replaces.state, AGENCY in stage.held)


async def test_the_policy_does_not_come_back_when_the_grant_ends(stage: Swapping) -> None:
    grant = await stage.begin()
    await stage.until_swapped(grant, Swap.REMOVED)
    await negotiate_end(stage, grant)

    ended = await stage.until(grant, State.RELINQUISHED)

    assert ended.replaces is not None
    assert (Swap.REMOVED, False) == (ended.replaces.state, AGENCY in stage.held)


async def test_a_removal_that_ses_does_not_answer_is_tried_again(stage: Swapping) -> None:
    """The delete was executed, or not: the next read tells."""
    grant = await stage.begin()
    failures = iter([True, True, False])

    def fail(operation: str, name: str) -> None:
        if (operation, name) == ("delete", AGENCY) and next(failures, False):
            throttled(operation, name)

    stage.ses.before = fail
    await stage.until_swapped(grant, Swap.REMOVED)

    assert AGENCY not in stage.held


async def test_a_decision_of_the_parties_meanwhile_keeps_the_policy(stage: Swapping) -> None:
    """What the sync knew of the paper is old: the policy is left to the next run, which finds an ended grant."""
    grant = await stage.begin()
    await stage.until(grant, State.ACTIVE)
    worker = stage.db.as_role(Role.WORKER)
    claim = Claim(
        kind="identities", id=stage.parties.identity_id, tenant_id=stage.parties.owner.tenant, fence=0, attempts=0
    )
    work = await load(worker, claim, deny_kept=PACE.deny_kept)
    reading = Reading(dict(stage.held), {}, frozenset(), {})
    await negotiate_end(stage, grant)

    until = asyncio.get_running_loop().time() + DEADLINE
    after = await replace_policies(worker, stage.ses, work, reading, gap=timedelta(0), until=until)

    assert (reading, True) == (after, AGENCY in stage.held)
    seen = (await stage.show(grant)).replaces
    assert seen is not None
    assert Swap.KEPT is seen.state


async def test_nothing_is_deleted_when_the_lease_is_nearly_over(stage: Swapping) -> None:
    """It is on paper that it was about to be, and the next run does it."""
    grant = await stage.begin()
    await stage.until(grant, State.ACTIVE)
    worker = stage.db.as_role(Role.WORKER)
    claim = Claim(
        kind="identities", id=stage.parties.identity_id, tenant_id=stage.parties.owner.tenant, fence=0, attempts=0
    )
    work = await load(worker, claim, deny_kept=PACE.deny_kept)
    reading = Reading(dict(stage.held), {}, frozenset(), {})

    await replace_policies(worker, stage.ses, work, reading, gap=timedelta(0), until=0.0)
    there = AGENCY in stage.held
    done = await stage.until_swapped(grant, Swap.REMOVED)

    assert (True, AGENCY) == (there, done.policy)


async def negotiate_end(stage: Swapping, grant: GrantView) -> None:
    """The delegate hands it back."""
    await end.relinquish(stage.db, stage.parties.delegate, grant.id, Reason())


SAME, OTHER = '{"Statement":{}}', "{}"
WAITING = Replaces("old", digest_of(SAME))
RULE: list[tuple[Swap, bool, str | None, Swap | None]] = [
    (Swap.WAITING, False, SAME, None),
    (Swap.WAITING, False, None, None),
    (Swap.WAITING, True, SAME, Swap.REMOVING),
    (Swap.WAITING, True, OTHER, Swap.CHANGED),
    (Swap.WAITING, True, None, Swap.GONE),
    (Swap.REMOVING, False, SAME, None),
    (Swap.REMOVING, False, None, Swap.REMOVED),
    (Swap.REMOVING, True, SAME, Swap.REMOVING),
    (Swap.REMOVING, True, OTHER, Swap.CHANGED),
    (Swap.REMOVING, True, None, Swap.REMOVED),
    (Swap.REFUSED, True, SAME, Swap.REMOVING),
    (Swap.REFUSED, True, OTHER, Swap.CHANGED),
    (Swap.REFUSED, True, None, Swap.GONE),
    (Swap.REFUSED, False, SAME, None),
    *((state, True, SAME, None) for state in (Swap.REMOVED, Swap.CHANGED, Swap.GONE)),
]


@pytest.mark.parametrize(("state", "in_place", "seen", "expected"), RULE)
def test_what_becomes_of_the_policy_is_one_table(
    state: Swap, seen: str | None, expected: Swap | None, *, in_place: bool
) -> None:
    replaces = Replaces("old", digest_of(SAME), state=state)

    assert expected == next_state(replaces, in_place=in_place, seen=seen, proposed=None, ours=False)


def test_a_name_of_ours_is_never_the_business_of_an_adoption() -> None:
    assert next_state(WAITING, in_place=True, seen=SAME, proposed=None, ours=True) is None
