"""Identities as rows: found, refreshed, kept from strangers, retired with their connection."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections import service as connections
from broker.connections.models import Kind
from broker.db import Database
from broker.errors import NotFound, Unavailable
from broker.identities import service
from broker.identities.discover import Discovery
from broker.identities.models import Identity, PolicyDocument
from broker.identities.policies import list_policies, versions
from broker.identities.views import IdentityChange, IdentityView
from broker.ids import new_id
from broker.policies.adopt import NO_END
from tests.conftest import MakeTenant
from tests.connections.aws import Gateways, connected, owner_access
from tests.feedback.conftest import make_world
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Aws as LocalAws

ACCOUNT = "111111111111"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FakeSes(msgspec.Struct):
    """An account with these identities and their policies; `throttled` of them answer only later."""

    policies: dict[str, dict[str, str]]
    throttled: set[str] = msgspec.field(default_factory=set)

    async def list_identities(self, access: RoleAccess) -> list[dict[str, Any]]:
        return [{"IdentityName": name, "VerificationStatus": "SUCCESS"} for name in self.policies]

    async def identity(self, access: RoleAccess, identity: str) -> dict[str, Any]:
        if identity in self.throttled:
            self.throttled.discard(identity)
            raise Unavailable("Rate exceeded")
        return {"VerifiedForSendingStatus": True, "Policies": self.policies[identity]}

    async def account(self, access: RoleAccess) -> dict[str, Any]:
        return {"ProductionAccessEnabled": True}

    async def notification_topics_of(
        self, access: RoleAccess, identities: Sequence[str]
    ) -> dict[str, dict[str, str | None]]:
        return {}

    async def delete_policy(self, access: RoleAccess, identity: str, name: str) -> None:
        assert name not in self.policies[identity]


async def discovered(db: Database, caller: Caller, ses: FakeSes, connection_id: UUID) -> dict[str, IdentityView]:
    """Has the discovery look and record, as the verification does it."""
    discovery = Discovery(ses, partition="aws")
    async with db.read(caller) as session:
        row = await connections.find(session, caller, connection_id)
        began = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    seen = await discovery.look(row.access(REGION), probe=False)
    async with db.begin(caller) as session:
        row = await connections.find(session, caller, connection_id)
        await discovery.record(session, row, [seen], began=began)
    return {view.name: view for view in await service.page(db, caller, after=None, limit=100)}


@pytest.fixture
async def owner(make_tenant: MakeTenant) -> Caller:
    return await make_tenant("owner")


@pytest.fixture
async def connection_id(db: Database, owner: Caller, gateways: Gateways) -> UUID:
    return (await connected(db, owner, gateways, ACCOUNT, Kind.ROLE)).id


async def documents(db: Database, owner: Caller) -> list[tuple[str, str, bool]]:
    query = select(PolicyDocument.name, PolicyDocument.document, PolicyDocument.ours).order_by(PolicyDocument.id)
    async with db.read(owner) as session:
        return [(name, text, ours) for name, text, ours in await session.execute(query)]


async def test_an_identity_that_was_found_keeps_its_id(db: Database, owner: Caller, connection_id: UUID) -> None:
    ses = FakeSes({"example.com": {}})
    first = await discovered(db, owner, ses, connection_id)

    again = await discovered(db, owner, ses, connection_id)

    assert first["example.com"].id == again["example.com"].id


async def test_every_policy_that_was_ever_seen_is_kept(db: Database, owner: Caller, connection_id: UUID) -> None:
    """SES cannot give back what was deleted."""
    ses = FakeSes({"example.com": {"theirs": "1", "delegation-broker-1-1": "ours"}})
    await discovered(db, owner, ses, connection_id)
    ses.policies["example.com"] = {"theirs": "2"}
    found = await discovered(db, owner, ses, connection_id)
    await discovered(db, owner, ses, connection_id)

    kept = await documents(db, owner)

    assert {("theirs", "1", False), ("theirs", "2", False), ("delegation-broker-1-1", "ours", True)} == set(kept)
    assert len(kept) == 3
    assert [policy.name for policy in found["example.com"].policies] == ["theirs"]


async def test_what_ses_lists_no_more_is_marked_and_kept(db: Database, owner: Caller, connection_id: UUID) -> None:
    ses = FakeSes({"example.com": {}, "example.org": {}})
    await discovered(db, owner, ses, connection_id)
    del ses.policies["example.org"]

    found = await discovered(db, owner, ses, connection_id)

    gone = found["example.org"]
    assert (gone.verified, gone.attributes.listed) == (False, False)
    assert found["example.com"].attributes.listed


async def test_a_read_by_the_identitys_own_work_that_is_newer_is_kept(
    db: Database, owner: Caller, connection_id: UUID
) -> None:
    """The look began before the work applied a policy: it must not bring back what it saw."""
    ses = FakeSes({"example.com": {"theirs": "1"}})
    identity = (await discovered(db, owner, ses, connection_id))["example.com"]
    async with db.begin(owner) as session:
        row = await service.find(session, owner, identity.id)
        await service.record_policies(session, row, {"theirs": "1", "delegation-broker-1-1": "ours"})
        await session.flush()
        await session.execute(
            text("UPDATE identities SET read_at = clock_timestamp() + interval '1 hour' WHERE id = :id"),
            {"id": identity.id},
        )

    found = await discovered(db, owner, ses, connection_id)

    assert [policy.name for policy in found["example.com"].policies] == ["delegation-broker-1-1", "theirs"]


async def test_an_identity_that_ses_had_no_time_for_is_read_after_a_pause(
    db: Database, owner: Caller, connection_id: UUID
) -> None:
    ses = FakeSes({"example.com": {"theirs": "1"}}, throttled={"example.com"})

    found = await discovered(db, owner, ses, connection_id)

    assert found["example.com"].attributes.production_access is True


async def test_a_stranger_cannot_see_or_refresh_an_identity(
    db: Database, owner: Caller, connection_id: UUID, make_tenant: MakeTenant
) -> None:
    identity = (await discovered(db, owner, FakeSes({"example.com": {}}), connection_id))["example.com"]
    stranger = await make_tenant("owner")

    with pytest.raises(NotFound):
        await service.one(db, stranger, identity.id)
    with pytest.raises(NotFound):
        await list_policies(db, stranger, identity.id, now=NOW)
    with pytest.raises(NotFound):
        await versions(db, stranger, identity.id, "theirs")
    with pytest.raises(NotFound):
        await service.refresh(db, stranger, identity.id)
    assert await service.page(db, stranger, after=None, limit=10) == []


async def test_refreshing_wakes_the_identity_and_its_connection(
    db: Database, owner: Caller, connection_id: UUID
) -> None:
    identity = (await discovered(db, owner, FakeSes({"example.com": {}}), connection_id))["example.com"]

    await service.refresh(db, owner, identity.id)

    async with db.read(owner) as session:
        assert await session.scalar(select(Identity.due_at).where(Identity.id == identity.id)) is not None
        assert (await connections.find(session, owner, connection_id)).due_at is not None


async def test_identities_are_listed_in_pages_and_by_name(db: Database, owner: Caller, connection_id: UUID) -> None:
    await discovered(db, owner, FakeSes({f"example{n}.com": {} for n in range(5)}), connection_id)

    first = await service.page(db, owner, after=None, limit=3)
    rest = await service.page(db, owner, after=first[-1].id, limit=3)
    named = await service.page(db, owner, after=None, limit=3, name="example4.com")

    assert {f"example{n}.com" for n in range(5)} == {view.name for view in (*first, *rest)}
    assert ["example4.com"] == [view.name for view in named]


async def test_policies_are_shown_as_ses_gave_them_with_what_they_mean(
    db: Database, owner: Caller, connection_id: UUID
) -> None:
    """Ours with their grants; those of others with who may send, and what a grant in their place would be."""
    grant = new_id()
    arn = f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/example.com"
    statement = {"Effect": "Allow", "Principal": {"AWS": "222222222222"}, "Action": "ses:SendEmail", "Resource": arn}
    theirs = json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=1)
    ours = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Sid": grant.hex}]})
    held = {"theirs": theirs, "delegation-broker-1-1": ours, "unreadable": "{"}
    identity = (await discovered(db, owner, FakeSes({"example.com": held}), connection_id))["example.com"]

    shown = await list_policies(db, owner, identity.id, now=NOW)

    mine, other, broken = shown.items
    assert [("delegation-broker-1-1", True, ours), ("theirs", False, theirs), ("unreadable", False, "{")] == [
        (each.name, each.managed, each.document) for each in shown.items
    ]
    assert ((grant,), (), None) == (mine.grant_ids, other.grant_ids, mine.adoption)
    assert other.explanation is not None
    assert "Account 222222222222 may use SendEmail without any condition." == other.explanation.may[0].sentence
    assert "no_from_limit" in [finding.code for finding in other.findings]
    assert other.adoption is not None
    assert (NO_END,) == other.adoption.reasons
    assert (None, []) == (broken.explanation, broken.senders)
    assert [("222222222222", ("theirs",), None)] == [
        (each.principal, each.policies, each.ends_at) for each in shown.foreign_senders
    ]
    assert shown.read_at is not None
    assert {shown.read_at} == {each.last_seen_at for each in shown.items}
    assert None not in [each.first_seen_at for each in shown.items]


async def test_a_policy_that_is_gone_can_still_be_read(db: Database, owner: Caller, connection_id: UUID) -> None:
    """SES cannot give back what was deleted."""
    first, second = '{"Statement":[1]}', '{"Statement":[2]}'
    ses = FakeSes({"example.com": {"theirs": first}})
    identity = (await discovered(db, owner, ses, connection_id))["example.com"]
    ses.policies["example.com"]["theirs"] = second
    await discovered(db, owner, ses, connection_id)
    before = await versions(db, owner, identity.id, "theirs")
    del ses.policies["example.com"]["theirs"]
    await discovered(db, owner, ses, connection_id)

    after = await versions(db, owner, identity.id, "theirs")

    assert [(second, True), (first, False)] == [(each.document, each.held) for each in before]
    assert [(second, False), (first, False)] == [(each.document, each.held) for each in after]
    with pytest.raises(NotFound):
        await versions(db, owner, identity.id, "never")


async def test_work_acts_through_the_role_of_the_connection(db: Database, owner: Caller, connection_id: UUID) -> None:
    identity = (await discovered(db, owner, FakeSes({"example.com": {}}), connection_id))["example.com"]

    async with db.read(owner) as session:
        found = await service.find(session, owner, identity.id)
        row = await connections.find(session, owner, connection_id)

    assert row.access(REGION) == service.access(found, row)


async def test_an_identity_is_retired_with_its_connection_and_may_come_back_with_another_tenant(
    db: Database, owner: Caller, connection_id: UUID, make_tenant: MakeTenant, gateways: Gateways
) -> None:
    ses = FakeSes({"example.com": {}})
    old = (await discovered(db, owner, ses, connection_id))["example.com"]
    await connections.remove(db, owner, connection_id, release=service.retire)
    next_owner = await make_tenant("owner")
    again = await connected(db, next_owner, gateways, ACCOUNT, Kind.ROLE)

    new = (await discovered(db, next_owner, ses, again.id))["example.com"]

    assert old.arn == new.arn
    assert await service.page(db, owner, after=None, limit=10) == []


async def test_facts_of_one_identity_are_read_from_the_local_aws(gateways: Gateways, cloud: LocalAws) -> None:
    account = cloud.account()
    account.verify("example.com")

    seen = await Discovery(gateways.ses, partition="aws").look(owner_access(account), probe=False)
    facts = seen.facts["example.com"]

    assert (facts.verified, facts.attributes.production_access) == (True, False)
    assert facts.attributes.feedback_forwarding is True


async def test_an_owner_switches_its_own_mail_and_nobody_else_does(db: Database, make_tenant: MakeTenant) -> None:
    """It is off at first; each change is in the audit trail, and asking for what is so changes nothing."""
    world = await make_world(db)
    stranger = await make_tenant("owner")
    before = await service.one(db, world.owner, world.identity_id)
    views = [
        await service.change(db, world.owner, world.identity_id, IdentityChange(own_mail=True)),
        await service.change(db, world.owner, world.identity_id, IdentityChange(own_mail=True)),
        await service.change(db, world.owner, world.identity_id, IdentityChange()),
    ]
    with pytest.raises(NotFound):
        await service.change(db, stranger, world.identity_id, IdentityChange(own_mail=False))

    async with db.read(world.owner) as session:
        told = await session.scalars(text("SELECT details FROM audit WHERE action = 'identity.changed'"))
        assert [{"own_mail": True}] == list(told)
    assert [False, True, True, True] == [view.own_mail for view in (before, *views)]
