"""Sync: what SES holds becomes what the paper says, and only what was read back is believed."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.errors import Refused
from broker.grants import end, negotiate, service, sync
from broker.grants.hooks import Hooks
from broker.grants.lifecycle import State
from broker.grants.models import Grant
from broker.grants.sync import Pace
from broker.grants.views import Counter, GrantView, Proposal, Reason, Receipt
from broker.ids import new_id
from broker.policies.compile import document, statements
from broker.policies.plan import is_ours, parse_name
from broker.policies.terms import Terms
from tests.conftest import new_tenant
from tests.grants.conftest import LIFETIME, Parties, connect_account, make_parties, terms_for
from tests.grants.fake_ses import FakeSes, no_deletes, throttled

PACE = Pace(readback_gap=timedelta(milliseconds=20), check_every=timedelta(hours=1))
FOREIGN = (
    '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"ses:SendEmail","Resource":'
    '"arn:aws:ses:eu-west-1:1:identity/example.com","Condition":{"StringLike":{"ses:FromAddress":"ceo@*"}}}}'
)
DEADLINE = 60.0  # seconds; as long as a slow machine may take, and nobody waits for it where all is well


def is_deny(name: str) -> bool:
    """Whether a Deny of ours has this name."""
    parsed = parse_name(name)
    return parsed is not None and parsed.is_deny


class Stage:
    """A committed negotiation, a fake SES and what happened."""

    def __init__(self, db: Database, parties: Parties, keyring: Keyring) -> None:
        self.db = db
        self.parties = parties
        self.keyring = keyring
        self.pace = PACE
        self.ses = FakeSes()
        self.held = self.ses.hold(parties.account, "example.com", foreign=FOREIGN)
        self.activated: list[Grant] = []
        self.ended: list[Grant] = []

    async def agreed(self, terms: Terms | None = None, *, delegate: Caller | None = None) -> GrantView:
        """A grant that both have agreed to."""
        wanted = Proposal(identity_arn=self.parties.arn, terms=terms or terms_for(self.parties))
        grant = await negotiate.propose(self.db, delegate or self.parties.delegate, wanted, lifetime=LIFETIME)
        return await negotiate.approve(self.db, self.parties.owner, grant.id, expected=grant.latest_offer)

    async def amended(self, grant: GrantView, terms: Terms) -> GrantView:
        """The same grant with other terms agreed."""
        offer = await negotiate.amend(
            self.db,
            self.parties.owner,
            grant.id,
            Counter(terms=terms),
            expected=grant.latest_offer,
            lifetime=LIFETIME,
        )
        return await negotiate.approve(self.db, self.parties.delegate, grant.id, expected=offer.latest_offer)

    async def sync(self) -> int:
        """One run of the worker over this identity."""

        async def note(session: AsyncSession, grant: Grant) -> None:
            self.activated.append(grant)

        async def note_end(session: AsyncSession, grant: Grant) -> None:
            self.ended.append(grant)

        hooks = Hooks(activated=note, ended=note_end)
        return await sync.run(
            self.db.as_role(Role.WORKER), self.ses, self.pace, hooks=hooks, only=[self.parties.identity_id]
        )

    async def wake(self) -> None:
        """Makes the identity due, as time would."""
        async with self.db.begin(self.parties.owner) as session:
            await session.execute(text("UPDATE identities SET due_at = now() - interval '1 s'"))

    async def come(self, date: str, grant: GrantView) -> None:
        """A date of the grant comes (`expires_at` or `not_before`), and with it the look that was planned for it."""
        async with self.db.begin(self.parties.owner) as session:
            one = {"id": grant.id}
            due = (
                f"SELECT i.due_at <= g.{date} FROM grants g JOIN identities i ON i.id = g.identity_id WHERE g.id = :id"
            )
            assert await session.scalar(text(due), one)
            await session.execute(text(f"UPDATE grants SET {date} = now() WHERE id = :id"), one)
            await session.execute(text("UPDATE identities SET due_at = now()"))

    async def show(self, grant: GrantView) -> GrantView:
        """The grant as the owner sees it now."""
        return await service.show(self.db, self.parties.owner, grant.id, keyring=self.keyring)

    async def until(self, grant: GrantView, state: State) -> GrantView:
        """Runs the worker until the grant is in this state."""
        async with asyncio.timeout(DEADLINE):
            while True:
                await self.sync()
                seen = await self.show(grant)
                if seen.state is state:
                    return seen

    async def receipt(self, grant: GrantView) -> Receipt:
        """The owner's receipt."""
        return await service.receipt(self.db, self.parties.owner, grant.id)

    def ours(self) -> dict[str, str]:
        """Our policies on the identity that let somebody send."""
        return {name: held for name, held in self.held.items() if is_ours(name) and not is_deny(name)}

    def denies(self) -> dict[str, str]:
        """Our Denies on the identity."""
        return {name: held for name, held in self.held.items() if is_deny(name)}


@pytest_asyncio.fixture
async def stage(committed_db: Database, keyring: Keyring) -> Stage:
    """Parties of one test's own, really committed."""
    owner, delegate = await new_tenant(committed_db, "owner"), await new_tenant(committed_db, "delegate")
    return Stage(committed_db, await make_parties(committed_db, owner, delegate), keyring)


async def test_an_agreed_grant_is_applied_read_back_and_active(stage: Stage) -> None:
    """One policy of ours, saying what the terms say; the foreign one is untouched."""
    grant = await stage.agreed()

    active = await stage.until(grant, State.ACTIVE)

    terms = terms_for(stage.parties)
    assert active.terms is not None
    expected = document(statements(active.terms, grant_id=grant.id, identity_arn=stage.parties.arn))
    assert [expected] == list(stage.ours().values())
    assert stage.held["foreign"] == FOREIGN
    assert active.terms.from_addresses == terms.from_addresses
    assert [grant.id] == [activated.id for activated in stage.activated]


async def test_a_second_run_changes_nothing(stage: Stage) -> None:
    """Every job may run twice (I5)."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    stage.ses.calls.clear()

    await stage.wake()
    await stage.sync()

    assert [("read", "")] == stage.ses.calls
    assert 1 == len(stage.activated)


async def test_a_revoked_grant_is_gone_and_its_neighbour_stays(stage: Stage) -> None:
    """Two reads without the Allow, at least the gap apart, before anybody says revoked (I3)."""
    other = await new_tenant(stage.db, "delegate")
    _, account = await connect_account(stage.db, other, "proof")
    first = await stage.agreed()
    second = await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)
    await stage.until(second, State.ACTIVE)
    kept = {name: held for name, held in stage.ours().items() if account in held}

    await end.revoke(stage.db, stage.parties.owner, first.id, Reason())
    await stage.sync()
    after_one_read = await stage.show(first)
    ended_after_one_read = [each.id for each in stage.ended]
    await stage.until(first, State.REVOKED)

    receipt = await stage.receipt(first)
    assert [first.id] == ended_after_one_read == [each.id for each in stage.ended]
    assert State.REVOKING is after_one_read.state
    assert kept == stage.ours()
    assert receipt.removed_at is not None
    assert receipt.verified_at is not None
    assert receipt.verified_at - receipt.removed_at >= PACE.readback_gap
    assert State.ACTIVE is (await stage.show(second)).state


async def test_an_amendment_writes_a_new_name_and_removes_the_old_one_after_it_was_read(stage: Stage) -> None:
    """A name is written once; the delegate is never locked out in between."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    (before,) = stage.ours()

    amended = await stage.amended(grant, terms_for(stage.parties, days=120))
    stage.ses.calls.clear()
    await stage.until(amended, State.ACTIVE)

    (after,) = stage.ours()
    assert before != after
    changes = [call for call in stage.ses.calls if call[0] != "read"]
    assert [("create", after), ("delete", before)] == changes


async def test_a_late_apply_cannot_bring_back_what_was_revoked(stage: Stage) -> None:
    """The owner revokes while the create is under way: the run's outcome is not believed, the next one removes it."""
    grant = await stage.agreed()
    stage.ses.after_create = lambda: end.revoke(stage.db, stage.parties.owner, grant.id, Reason())

    await stage.sync()

    stage.ses.after_create = None
    assert State.REVOKING is (await stage.show(grant)).state
    await stage.until(grant, State.REVOKED)
    assert {} == stage.ours()
    assert [] == stage.activated


async def test_a_name_that_a_late_request_brings_back_is_removed(stage: Stage) -> None:
    """SES may execute a create after the delete; the read-back sees the old name and takes it away."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    late = dict(stage.ours())
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    stage.held.update(late)

    await stage.until(grant, State.REVOKED)

    assert {} == stage.ours()


async def test_what_ses_refuses_is_kept_word_for_word(stage: Stage) -> None:
    """Both parties can read why, and the next amendment may help."""
    grant = await stage.agreed()

    def refuse(operation: str, _name: str) -> None:
        if operation == "create":
            raise Refused("Policy contains an invalid principal.", code="BadRequestException")

    stage.ses.before = refuse
    failed = await stage.until(grant, State.ACTIVATION_FAILED)

    assert failed.error == "Policy contains an invalid principal."


async def test_throttling_is_waited_out(stage: Stage) -> None:
    """A 429 changes nothing that is said, and the work is done once SES answers again."""
    grant = await stage.agreed()
    stage.ses.before = throttled
    await stage.sync()
    waiting = await stage.show(grant)
    stage.ses.before = lambda _operation, _name: None

    active = await stage.until(grant, State.ACTIVE)

    assert (State.ACTIVATING, "Maximum sending rate exceeded.") == (waiting.state, waiting.error)
    assert active.error is None


async def test_a_revocation_that_aws_refuses_is_stuck_and_never_forgotten(stage: Stage) -> None:
    """Access denied: both are told at once, with the command to do it by hand; when it works again it is done."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    (name,) = stage.ours()
    stage.ses.before = no_deletes
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    stuck = await stage.show(grant)
    stage.ses.before = lambda _operation, _name: None
    await stage.until(grant, State.REVOKED)

    assert (State.REVOKING, ("revocation_stuck",)) == (stuck.state, tuple(stuck.flags))
    assert {grant.id} == {each.id for each in stage.ended}
    async with stage.db.read(stage.parties.delegate) as session:
        rows = await session.execute(text("SELECT data FROM events WHERE type = 'grant.revocation_stuck'"))
        (told,) = rows.scalars()
    assert name in told["commands"][0]


async def test_a_policy_that_somebody_else_removed_is_not_put_back(stage: Stage) -> None:
    """A change that takes access away is never undone by us; the owner chooses to restore."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    for name in stage.ours():
        del stage.held[name]

    await stage.wake()
    await stage.sync()
    drifted = await stage.show(grant)
    after_drift = stage.ours()
    await end.restore(stage.db, stage.parties.owner, grant.id)
    restored = await stage.until(grant, State.ACTIVE)

    assert (("drifted",), {}) == (tuple(drifted.flags), after_drift)
    assert () == tuple(restored.flags)
    assert 1 == len(stage.ours())


async def test_an_amendment_does_not_bring_back_what_somebody_removed(stage: Stage) -> None:
    """Approved by the delegate before anybody noticed: still for the owner alone to restore."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    for name in stage.ours():
        del stage.held[name]

    await stage.amended(grant, terms_for(stage.parties, days=120))
    await stage.sync()

    assert (("drifted",), {}) == (tuple((await stage.show(grant)).flags), stage.ours())


async def test_offers_alone_never_make_the_broker_call_ses(stage: Stage) -> None:
    """A delegate that proposes without end must not use up the owner's one call per second."""
    wanted = Proposal(identity_arn=stage.parties.arn, terms=terms_for(stage.parties))
    await stage.sync()
    stage.ses.calls.clear()

    for _ in range(3):
        await negotiate.propose(stage.db, stage.parties.delegate, wanted, lifetime=LIFETIME)
        await stage.sync()

    assert [] == stage.ses.calls


async def test_a_policy_that_somebody_widened_is_put_back(stage: Stage) -> None:
    """Ours again, under a new name."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    ((name, held),) = stage.ours().items()
    stage.held[name] = held.replace("newsletter@example.com", "*@example.com")

    await stage.wake()
    await stage.sync()

    assert [held] == list(stage.ours().values())


async def test_an_expired_grant_ends_by_the_same_path(stage: Stage) -> None:
    """The clock is the third way to end, and needs nobody to ask for it."""
    soon = datetime.now(UTC) + PACE.check_every / 2  # before a routine check
    grant = await stage.agreed(terms_for(stage.parties, expires_at=soon))
    await stage.sync()
    await stage.come("expires_at", grant)

    expired = await stage.until(grant, State.EXPIRED)

    assert {} == stage.ours()
    assert [grant.id] == [each.id for each in stage.ended]
    assert expired.ended_at is not None
    assert "clock" == (await stage.receipt(grant)).asked_by


async def test_nothing_is_applied_before_the_window_begins(stage: Stage) -> None:
    """Scheduled first; applied by the date alone."""
    begins = datetime.now(UTC) + PACE.check_every / 2  # before a routine check
    grant = await stage.agreed(terms_for(stage.parties, not_before=begins))
    await stage.sync()
    scheduled, held = await stage.show(grant), stage.ours()
    await stage.come("not_before", grant)

    await stage.until(grant, State.ACTIVE)

    assert (State.SCHEDULED, {}) == (scheduled.state, held)


async def test_a_grant_amended_to_begin_later_is_scheduled_once_its_old_policy_is_gone(stage: Stage) -> None:
    """Until that was read the delegate may send as before, and nobody says otherwise."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)

    later = datetime.now(UTC) + timedelta(days=1)
    amended = await stage.amended(grant, terms_for(stage.parties, not_before=later))
    before = (await stage.show(amended)).state, len(stage.ours())
    await stage.until(amended, State.SCHEDULED)

    assert ((State.ACTIVATING, 1), {}) == (before, stage.ours())


async def test_an_offer_lapses_by_itself(stage: Stage) -> None:
    """And both parties hear of it."""
    wanted = Proposal(identity_arn=stage.parties.arn, terms=terms_for(stage.parties))
    grant = await negotiate.propose(stage.db, stage.parties.delegate, wanted, lifetime=timedelta(milliseconds=50))
    await stage.until(grant, State.LAPSED)
    await stage.wake()
    await stage.sync()

    async with stage.db.read(stage.parties.owner) as session:
        rows = await session.execute(text("SELECT type FROM events ORDER BY id"))
        assert ["grant.proposed", "grant.lapsed"] == list(rows.scalars())


async def test_a_lost_connection_leaves_a_revocation_stuck_not_done(stage: Stage) -> None:
    """Without a role nothing can be read, so nobody says revoked."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    async with stage.db.begin(stage.parties.owner) as session:
        await session.execute(text("UPDATE connections SET state = 'removed'"))

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()

    stuck = await stage.show(grant)
    assert (State.REVOKING, ("revocation_stuck",)) == (stuck.state, tuple(stuck.flags))


async def test_a_foreign_policy_that_still_allows_is_named_on_the_receipt(stage: Stage) -> None:
    """Our grant is gone, but somebody else's policy lets the delegate send."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    allow = {
        "Effect": "Allow",
        "Principal": {"AWS": stage.parties.delegate_account},
        "Action": "ses:SendEmail",
        "Resource": stage.parties.arn,
    }
    stage.held["left-over"] = msgspec.json.encode({"Version": "2012-10-17", "Statement": [allow]}).decode()

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.REVOKED)

    receipt = await stage.receipt(grant)
    assert ["left-over"] == list(receipt.residual_policies)
    assert "left-over" in receipt.statement


@pytest.mark.parametrize("side", ["owner", "delegate"])
async def test_both_parties_get_the_events_of_the_whole_life(stage: Stage, side: str) -> None:
    """From proposed to revoked, in order."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.REVOKED)

    reader: Caller = getattr(stage.parties, side)
    async with stage.db.read(reader) as session:
        rows = await session.execute(text("SELECT type FROM events WHERE grant_id = :id ORDER BY id"), {"id": grant.id})
        assert [
            "grant.proposed",
            "grant.approved",
            "grant.activated",
            "grant.revocation_requested",
            "grant.revoked",
        ] == list(rows.scalars())


async def test_a_policy_that_ses_does_not_show_yet_is_removed_with_its_grant(stage: Stage) -> None:
    """SES holds it and shows it later: two reads from before that moment prove nothing (I3)."""
    stage.ses.stale = dict(stage.held)
    grant = await stage.agreed()
    await stage.sync()
    written = stage.ours()

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.REVOKED)

    assert (1, {}) == (len(written), stage.ours())


async def test_a_policy_that_cannot_be_removed_unseen_is_not_called_gone(stage: Stage) -> None:
    """What was written and never shown may be there, as long as SES does not let us delete it."""
    stage.ses.stale = dict(stage.held)
    grant = await stage.agreed()
    await stage.sync()
    stage.ses.before = no_deletes
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    for _ in range(3):
        await stage.wake()
        await stage.sync()

    assert State.REVOKING is (await stage.show(grant)).state


RECIPIENTS = ("*@example.org",)


def refuse_null(stage: Stage) -> None:
    """SES takes no policy with the `Null` operator from now on."""

    def refuse(document: str) -> None:
        if '"Null"' in document:
            raise Refused("Unknown or unapplicable condition operator 'Null'", code="BadRequestException")

    stage.ses.check = refuse


async def test_the_null_guard_is_there_where_ses_takes_it(stage: Stage) -> None:
    """It makes sure that a request without recipients is not let through."""
    grant = await stage.agreed(terms_for(stage.parties, recipients=RECIPIENTS))

    await stage.until(grant, State.ACTIVE)

    assert [True] == ['"Null"' in text for text in stage.ours().values()]


async def test_the_null_guard_is_left_out_where_ses_refuses_it(stage: Stage) -> None:
    """And the next run, which knows that, changes nothing."""
    refuse_null(stage)
    grant = await stage.agreed(terms_for(stage.parties, recipients=RECIPIENTS))

    active = await stage.until(grant, State.ACTIVE)
    stage.ses.calls.clear()
    await stage.wake()
    await stage.sync()

    assert active.error is None
    assert [(False, True)] == [('"Null"' in text, "*@example.org" in text) for text in stage.ours().values()]
    assert [("read", "")] == stage.ses.calls


async def test_an_amendment_without_the_guard_replaces_the_old_policy(stage: Stage) -> None:
    """New before old, as with any change."""
    refuse_null(stage)
    grant = await stage.agreed(terms_for(stage.parties, recipients=RECIPIENTS))
    await stage.until(grant, State.ACTIVE)
    (before,) = stage.ours()

    amended = await stage.amended(grant, terms_for(stage.parties, recipients=("*@example.net",)))
    await stage.until(amended, State.ACTIVE)

    ((after, text),) = stage.ours().items()
    assert (True, True) == (before != after, "*@example.net" in text)


async def test_a_guard_that_somebody_took_out_is_put_back(stage: Stage) -> None:
    """Only what we wrote without the guard may stay without it."""
    grant = await stage.agreed(terms_for(stage.parties, recipients=RECIPIENTS))
    await stage.until(grant, State.ACTIVE)
    ((name, held),) = stage.ours().items()
    stage.held[name] = held.replace(',"Null":{"ses:Recipients":"false"}', "")
    changed = stage.held[name] != held

    await stage.wake()
    await stage.sync()

    assert (True, [held]) == (changed, list(stage.ours().values()))


async def test_the_other_reasons_of_ses_are_kept_where_the_guard_is_not_to_blame(stage: Stage) -> None:
    """Both documents are refused; people read why."""
    grant = await stage.agreed(terms_for(stage.parties, recipients=RECIPIENTS))

    def refuse(_document: str) -> None:
        raise Refused("Policy contains an invalid principal.", code="BadRequestException")

    stage.ses.check = refuse
    failed = await stage.until(grant, State.ACTIVATION_FAILED)

    assert "Policy contains an invalid principal." == failed.error


async def test_the_receipt_names_what_is_left_above_and_below_the_identity(stage: Stage) -> None:
    """Of the same account and Region, and of nobody else's: an address's own policies outrank those of its domain (SES
    Developer Guide, sending-authorization-policies)."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    left = document(statements(terms_for(stage.parties), grant_id=grant.id, identity_arn="*"))
    places = [("news@example.com", "eu-west-1"), ("mail.example.com", "eu-west-1"), ("com.example", "eu-west-1")]
    async with stage.db.begin(stage.parties.owner) as session:
        for name, region in [*places, ("sub.example.com", "us-east-1")]:
            await session.execute(
                text(
                    "INSERT INTO identities (id, tenant_id, connection_id, account_id, region, name, kind, arn,"
                    " verified, attributes, policies) SELECT :new, tenant_id, connection_id, account_id, :region,"
                    " :name, 'domain', :arn, true, '{}', :policies FROM identities WHERE id = :id"
                ),
                {
                    "new": new_id(),
                    "id": stage.parties.identity_id,
                    "region": region,
                    "name": name,
                    "arn": f"arn:aws:ses:{region}:{stage.parties.account}:identity/{name}",
                    "policies": json.dumps({"Payroll": left, "delegation-broker-1-1": left}),
                },
            )

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.REVOKED)

    receipt = await stage.receipt(grant)
    assert ["Payroll on mail.example.com", "Payroll on news@example.com"] == receipt.residual_policies
    assert "Payroll on news@example.com" in receipt.statement
