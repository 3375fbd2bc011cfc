"""Deny first: what keeps taken-back access from returning, what receipts claim of it, and when it is over."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, text

from broker.caller import Caller
from broker.errors import Refused, Unavailable
from broker.grants import end, suspend
from broker.grants.lifecycle import State
from broker.grants.models import Grant
from broker.grants.views import GrantView, Reason, Receipt
from tests.conftest import new_tenant
from tests.grants.conftest import connect_account, terms_for
from tests.grants.test_suspend import told
from tests.grants.test_sync import DEADLINE, PACE, Stage, is_deny, stage

__all__ = ["stage"]  # the fixture

SHORT = timedelta(milliseconds=300)

Take = Callable[..., Awaitable[GrantView]]


async def active(stage: Stage, **more: Any) -> GrantView:
    """An active grant."""
    return await stage.until(await stage.agreed(terms_for(stage.parties, **more)), State.ACTIVE)


async def revoked(stage: Stage, grant: GrantView) -> Receipt:
    """The receipt once it is revoked."""
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.REVOKED)
    return await stage.receipt(grant)


async def sealed(stage: Stage, grant: GrantView) -> Receipt:
    """The receipt once it is sealed, with a short time for which Denies are kept."""
    stage.pace = msgspec.structs.replace(PACE, deny_kept=SHORT)
    async with asyncio.timeout(DEADLINE):
        while True:
            await stage.wake()
            await stage.sync()
            receipt = await stage.receipt(grant)
            if receipt.sealed_at is not None:
                return receipt


def throttle_denies(operation: str, name: str) -> None:
    if operation == "create" and is_deny(name):
        raise Unavailable("Maximum sending rate exceeded.")


def refuse_denies(operation: str, name: str) -> None:
    if operation == "create" and is_deny(name):
        raise Refused("Policy contains an invalid principal.", code="BadRequestException")


def let_all(_operation: str, _name: str) -> None:
    pass


async def audited(stage: Stage, caller: Caller, action: str) -> list[dict[str, Any]]:
    """The details of a party's audit rows of one action."""
    async with stage.db.read(caller) as session:
        rows = await session.execute(text("SELECT details FROM audit WHERE action = :a ORDER BY id"), {"a": action})
        return list(rows.scalars())


async def test_a_revocation_sends_the_deny_with_the_delete_and_before_it_reads(stage: Stage) -> None:
    """Who takes access back waits for one call: the slower of the two, side by side."""
    grant = await active(stage)
    (allow,) = stage.ours()
    stage.ses.calls.clear()

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()

    ((deny, document),) = stage.denies().items()
    assert [{("delete", allow), ("create", deny)}, ("read", "")] == [set(stage.ses.calls[:2]), stage.ses.calls[2]]
    assert stage.parties.delegate_account in document


@pytest.mark.parametrize("take_back", [end.revoke, suspend.suspend])
async def test_the_deny_is_sent_before_the_paper_is_locked(stage: Stage, take_back: Take) -> None:
    """It is named in the commit that takes access back: whoever claims the identity waits for no lock to shut it."""
    grant = await active(stage)
    await take_back(stage.db, stage.parties.owner, grant.id, Reason())
    stage.ses.calls.clear()
    there = asyncio.Event()

    async def note() -> None:
        there.set()

    stage.ses.after_create = note
    async with stage.db.begin(stage.parties.owner) as session:
        await session.execute(select(Grant.id).where(Grant.id == grant.id).with_for_update())
        syncing = asyncio.create_task(stage.sync())
        async with asyncio.timeout(DEADLINE):
            await there.wait()
        at_once = list(stage.ses.calls)
    await syncing

    assert [("create", name) for name in stage.denies()] == at_once
    assert 1 == [operation for operation, _ in stage.ses.calls].count("create")


async def test_a_deny_that_is_named_with_a_revoke_shuts_out_no_other_grant(stage: Stage) -> None:
    """The same account sends under another grant: nothing is named, and nothing sent."""
    grant = await active(stage)
    await active(stage, from_addresses=("news@example.com",))

    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    async with stage.db.read(stage.parties.owner) as session:
        named = (await session.execute(text("SELECT deny_name FROM identities WHERE deny_name IS NOT NULL"))).all()
    await stage.sync()

    assert ([], {}) == (named, stage.denies())


async def test_a_revoked_grant_is_told_to_be_behind_its_deny(stage: Stage) -> None:
    """On the receipt, the grant, the event and in the audit."""
    grant = await active(stage)

    receipt = await revoked(stage, grant)

    assert ("deny", None, None) == (receipt.protected_by, receipt.protection, receipt.sealed_at)
    assert "deny" == (await stage.show(grant)).protected_by
    for party in (stage.parties.owner, stage.parties.delegate):
        assert ["deny"] == [each["protected_by"] for each in await told(stage, party, "grant.revoked")]
        assert ["deny"] == [each["protected_by"] for each in await audited(stage, party, "grant.revoked")]


async def test_a_late_create_lets_nobody_in_and_the_next_read_removes_it(stage: Stage) -> None:
    """SES executes the old request after both reads: the Deny was there all the time."""
    grant = await active(stage)
    late = stage.ours()
    await revoked(stage, grant)

    stage.held.update(late)
    behind = stage.denies()
    await stage.wake()
    await stage.sync()

    assert (1, {}, behind) == (len(behind), stage.ours(), stage.denies())
    assert State.REVOKED is (await stage.show(grant)).state


async def test_it_is_sealed_when_the_deny_was_kept_long_enough(stage: Stage) -> None:
    """The Deny is gone by then, both are told, and nobody looks at the identity for it any more."""
    grant = await active(stage)
    await revoked(stage, grant)

    receipt = await sealed(stage, grant)

    assert {} == {**stage.ours(), **stage.denies()}
    assert receipt.sealed_at is not None
    assert receipt.removed_at is not None
    assert receipt.sealed_at - receipt.removed_at >= SHORT
    assert ("deny", receipt.sealed_at) == (receipt.protected_by, (await stage.show(grant)).sealed_at)
    assert "Nothing that was asked for before can bring it back" in receipt.statement
    for party in (stage.parties.owner, stage.parties.delegate):
        assert 1 == len(await told(stage, party, "grant.sealed")) == len(await audited(stage, party, "grant.sealed"))
    async with stage.db.read(stage.parties.owner) as session:
        assert None is (await session.execute(text("SELECT due_at FROM identities"))).scalar_one()


async def test_it_is_read_again_after_seconds_and_minutes(stage: Stage) -> None:
    """At 5 s, 30 s, 5 min and at the end, by the database's clock."""
    grant = await active(stage)
    await revoked(stage, grant)
    found = []

    for age in (-5, 6, 31, 301):  # not 0, from where a slow machine would come to the next date by itself
        async with stage.db.begin(stage.parties.owner) as session:
            await session.execute(
                text("UPDATE grants SET removed_at = now() - make_interval(secs => :age)"), {"age": age}
            )
        await stage.wake()
        await stage.sync()
        async with stage.db.read(stage.parties.owner) as session:
            due = await session.execute(
                text("SELECT extract(epoch FROM i.due_at - g.removed_at) FROM identities i, grants g")
            )
            found.append(round(due.scalar_one()))

    assert [5, 30, 300, 1200] == found


async def test_a_deny_that_somebody_removed_is_put_back(stage: Stage) -> None:
    grant = await active(stage)
    await revoked(stage, grant)
    before = stage.denies()
    for name in before:
        del stage.held[name]

    await stage.wake()
    await stage.sync()

    assert list(before.values()) == list(stage.denies().values())
    assert "deny" == (await stage.receipt(grant)).protected_by


async def test_a_deny_that_somebody_changed_is_replaced_under_a_new_name(stage: Stage) -> None:
    """A name is never written with other content."""
    grant = await active(stage)
    await revoked(stage, grant)
    ((name, document),) = stage.denies().items()
    stage.held[name] = document.replace("ses:SendRawEmail", "ses:SendBounce")

    await stage.wake()
    await stage.sync()

    ((after, same),) = stage.denies().items()
    assert (True, document) == (after != name, same)
    assert "deny" == (await stage.receipt(grant)).protected_by


async def test_a_throttled_deny_holds_nothing_up(stage: Stage) -> None:
    """The Allow goes at once; what is said is `reads`, until the Deny is there after all."""
    grant = await active(stage)
    stage.ses.before = throttle_denies

    receipt = await revoked(stage, grant)
    stage.ses.before = let_all
    await stage.wake()
    await stage.sync()

    assert ("reads", "SES does not show the Deny yet.") == (receipt.protected_by, receipt.protection)
    later = await stage.receipt(grant)
    assert ("deny", None) == (later.protected_by, later.protection)
    assert [{"protected_by": "deny", "reason": None}] == await audited(
        stage, stage.parties.delegate, "grant.protection_changed"
    )


async def test_a_refused_deny_holds_nothing_up(stage: Stage) -> None:
    """SES's own words are on the receipt, and the reads seal it all the same."""
    grant = await active(stage)
    stage.ses.before = refuse_denies

    receipt = await revoked(stage, grant)
    last = await sealed(stage, grant)

    account = stage.parties.delegate_account
    why = f"SES refuses a Deny of {account}: Policy contains an invalid principal."
    assert ("reads", why) == (receipt.protected_by, receipt.protection)
    assert ("reads", {}) == (last.protected_by, stage.ours())


async def test_without_a_free_place_the_allow_goes_first(stage: Stage) -> None:
    """SES takes twenty policies: the one that goes makes room for the Deny."""
    grant = await active(stage)
    (allow,) = stage.ours()
    stage.held.update({f"foreign{number}": stage.held["foreign"] for number in range(18)})
    await stage.wake()
    await stage.sync()
    stage.ses.calls.clear()

    receipt = await revoked(stage, grant)

    assert ("delete", allow) == stage.ses.calls[0]
    assert "deny" == receipt.protected_by


async def test_where_others_have_taken_every_place_reads_protect(stage: Stage) -> None:
    """They came after the last read, and one more while ours was going."""
    grant = await active(stage)
    stage.held.update({f"foreign{number}": stage.held["foreign"] for number in range(18)})

    def fill(operation: str, _name: str) -> None:
        if operation == "delete":
            stage.held["foreign18"] = stage.held["foreign"]

    stage.ses.before = fill
    receipt = await revoked(stage, grant)

    assert ("reads", {}) == (receipt.protected_by, stage.ours())
    assert receipt.protection is not None


async def test_a_grant_of_the_same_account_is_active_without_the_deny(stage: Stage) -> None:
    """The Deny goes in the same run, before anybody says active; the receipt of the old grant takes its claim back."""
    old = await active(stage)
    await revoked(stage, old)

    new = await active(stage)

    assert ({}, 1) == (stage.denies(), len(stage.ours()))
    receipt = await stage.receipt(old)
    assert ("reads", True) == (receipt.protected_by, "lets" in (receipt.protection or ""))
    assert State.ACTIVE is (await stage.show(new)).state


async def test_a_deny_that_does_not_go_keeps_a_new_grant_from_being_called_active(stage: Stage) -> None:
    old = await active(stage)
    await revoked(stage, old)

    def refuse(operation: str, name: str) -> None:
        if operation == "delete" and is_deny(name):
            raise Refused("User is not authorized", code="AccessDenied")

    stage.ses.before = refuse
    new = await stage.agreed()
    await stage.sync()
    waiting = await stage.show(new)
    stage.ses.before = let_all
    await stage.until(new, State.ACTIVE)

    assert State.ACTIVATING is waiting.state


async def test_a_resumed_grant_is_active_without_the_deny_and_suspended_again_behind_a_new_one(stage: Stage) -> None:
    """A name that was dropped never comes back: what removes it may still be on its way."""
    grant = await active(stage)
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.SUSPENDED)
    first = set(stage.denies())
    assert "deny" == (await stage.receipt(grant)).protected_by

    await suspend.resume(stage.db, stage.parties.owner, grant.id, Reason())
    resumed = await stage.until(grant, State.ACTIVE)
    between = stage.denies()
    await suspend.suspend(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.until(grant, State.SUSPENDED)

    assert ({}, None) == (between, resumed.protected_by)
    assert (1, 1) == (len(first), len(set(stage.denies()) - first))


@pytest.mark.parametrize("path", [":root", ":user/mail/ann", ":role/sender"])
async def test_nobody_is_denied_whom_another_grant_covers(stage: Stage, path: str) -> None:
    """An account covers its users and roles, so a Deny of it would end their grants, too."""
    account = stage.parties.delegate_account
    kept = await active(stage, principals=(f"arn:aws:iam::{account}{path}",))
    grant = await active(stage, principals=(account,))

    receipt = await revoked(stage, grant)

    assert ("reads", {}) == (receipt.protected_by, stage.denies())
    assert State.ACTIVE is (await stage.show(kept)).state


async def test_nobody_is_denied_whom_a_policy_of_somebody_else_lets_send(stage: Stage) -> None:
    """Also where it came after the last read: then the Deny goes again at once."""
    grant = await active(stage)
    allow = {
        "Effect": "Allow",
        "Principal": {"AWS": stage.parties.delegate_account},
        "Action": "ses:SendEmail",
        "Resource": stage.parties.arn,
    }
    stage.held["theirs"] = msgspec.json.encode({"Version": "2012-10-17", "Statement": [allow]}).decode()

    receipt = await revoked(stage, grant)

    assert ("reads", {}) == (receipt.protected_by, stage.denies())
    assert "theirs" in (receipt.protection or "")


async def test_one_document_denies_many_and_each_is_told_alone(stage: Stage) -> None:
    """And what is left of it when one of them gets access again."""
    accounts, grants = [], []
    for _ in range(3):
        other = await new_tenant(stage.db, "delegate")
        _, account = await connect_account(stage.db, other, "proof")
        accounts.append(account)
        grant = await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)
        grants.append((other, grant))
    for _, grant in grants:
        await stage.until(grant, State.ACTIVE)
    for _, grant in grants:
        await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    for _, grant in grants:
        await stage.until(grant, State.REVOKED)
    (together,) = stage.denies().values()

    again = await stage.agreed(terms_for(stage.parties, principals=(accounts[0],)), delegate=grants[0][0])
    await stage.until(again, State.ACTIVE)

    (rest,) = stage.denies().values()
    assert [True, True, True] == [account in together for account in accounts]
    assert [False, True, True] == [account in rest for account in accounts]
    assert ["reads", "deny", "deny"] == [(await stage.receipt(grant)).protected_by for _, grant in grants]


async def test_who_shares_a_policy_is_denied_before_it_is_written_anew(stage: Stage) -> None:
    """Its neighbour's part has to be elsewhere before the policy goes; the Deny does not wait for that."""
    stage.held.update({f"foreign{number}": stage.held["foreign"] for number in range(16)})
    await stage.wake()
    await stage.sync()
    other = await new_tenant(stage.db, "delegate")
    _, account = await connect_account(stage.db, other, "proof")
    kept = await stage.agreed(terms_for(stage.parties, principals=(account,)), delegate=other)
    grant = await stage.agreed()
    for each in (kept, grant):
        await stage.until(each, State.ACTIVE)
    shared = len(stage.ours())
    stage.ses.calls.clear()

    receipt = await revoked(stage, grant)

    ((deny, _),) = stage.denies().items()
    assert (1, {("create", deny), ("read", "")}) == (shared, set(stage.ses.calls[:2]))
    assert ("deny", [True]) == (receipt.protected_by, [account in text for text in stage.ours().values()])
    assert State.ACTIVE is (await stage.show(kept)).state


async def test_who_was_let_in_by_earlier_terms_is_denied_as_well(stage: Stage) -> None:
    """A late request may be older than the last amendment."""
    grant = await active(stage)
    _, account = await connect_account(stage.db, stage.parties.delegate, "proof")
    amended = await stage.amended(grant, terms_for(stage.parties, principals=(account,)))
    await stage.until(amended, State.ACTIVE)

    await revoked(stage, amended)

    (document,) = stage.denies().values()
    assert account in document
    assert stage.parties.delegate_account in document


async def test_an_end_by_date_needs_no_deny(stage: Stage) -> None:
    """The date is in the policy: what comes back late lets nobody in (SES Developer Guide, policy-anatomy)."""
    grant = await active(stage)
    async with stage.db.begin(stage.parties.owner) as session:
        await session.execute(text("UPDATE grants SET expires_at = now()"))
    await stage.wake()

    await stage.until(grant, State.EXPIRED)

    assert {} == {**stage.ours(), **stage.denies()}


async def test_a_delegate_that_relinquishes_is_denied_like_one_that_is_revoked(stage: Stage) -> None:
    grant = await active(stage)

    await end.relinquish(stage.db, stage.parties.delegate, grant.id, Reason())
    await stage.until(grant, State.RELINQUISHED)

    assert (1, "deny") == (len(stage.denies()), (await stage.receipt(grant)).protected_by)


async def test_a_run_that_breaks_down_between_deny_and_delete_is_done_by_the_next(stage: Stage) -> None:
    """The same Deny under the same name, and no second one."""
    grant = await active(stage)

    def fail(operation: str, _name: str) -> None:
        if operation == "delete":
            raise Unavailable("SES answers nothing.")

    stage.ses.before = fail
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    between, left = stage.denies(), len(stage.ours())
    stage.ses.before = let_all
    await stage.until(grant, State.REVOKED)

    assert (1, 1, between, {}) == (len(between), left, stage.denies(), stage.ours())


async def test_a_stray_at_the_end_keeps_the_deny_until_it_is_gone(stage: Stage) -> None:
    """Strays go first; nobody says sealed before a run has seen none."""
    grant = await active(stage)
    late = stage.ours()
    await revoked(stage, grant)
    stage.held.update(late)

    def keep(operation: str, name: str) -> None:
        if operation == "delete" and name in late:
            raise Refused("User is not authorized", code="AccessDenied")

    stage.ses.before = keep
    stage.pace = msgspec.structs.replace(PACE, deny_kept=timedelta(0))
    for _ in range(3):
        await stage.wake()
        await stage.sync()
    stuck, denies = await stage.receipt(grant), stage.denies()
    stage.ses.before = let_all
    last = await sealed(stage, grant)

    assert (None, 1, "deny") == (stuck.sealed_at, len(denies), stuck.protected_by)
    assert ("deny", {}, {}) == (last.protected_by, stage.ours(), stage.denies())


async def test_a_deny_that_comes_late_does_not_keep_a_new_grant_out(stage: Stage) -> None:
    """A stray Deny goes with the next read, like any other name of ours that nobody wants."""
    old = await active(stage)
    await revoked(stage, old)
    late = stage.denies()
    await active(stage)

    stage.held.update(late)
    await stage.wake()
    await stage.sync()

    assert {} == stage.denies()


async def test_a_worker_that_is_told_to_end_waits_for_no_call(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deny and removal are both under way, and SES says nothing to either."""
    grant = await active(stage)
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    asked = []

    async def say_nothing(*call: object) -> None:
        asked.append(call)
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.ses, "create_policy", say_nothing)
    monkeypatch.setattr(stage.ses, "delete_policy", say_nothing)
    run = asyncio.create_task(stage.sync())
    async with asyncio.timeout(DEADLINE):
        while len(asked) < 2:
            await asyncio.wait({run}, timeout=0.01)
        run.cancel()
        await asyncio.wait({run})

    assert run.cancelled()
