"""Old cross-account notifications on the local AWS: found, edited, removed, and moved to another route."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import insert, select, update

from broker.aws_access import RoleAccess
from broker.connections.permissions import Role as PartyRole
from broker.connections.role_documents import role_policy, trust_policy
from broker.db import Database, Role
from broker.errors import Conflict
from broker.feedback import migrate
from broker.feedback.handling import Checked
from broker.feedback.legacy import Legacy
from broker.feedback.legacy_terms import BOUNCE, LegacyEdit, LegacySettings, Target, sender_for
from broker.feedback.migrate import Migrating, MigrationView
from broker.feedback.models import Route, Topic
from broker.feedback.set_rules import set_name
from broker.feedback.views import RouteKind, RouteState
from broker.gateways.ses_notifications import NotificationsGateway
from broker.grants.models import Grant
from broker.ids import new_id
from broker.policies.wildcards import matches
from broker.webhooks.models import EventRow
from tests.connections.aws import EXTERNAL_ID
from tests.feedback.foreign import Scene, local, make_scene, ses  # noqa: F401 — fixtures
from tests.sandbox.aws import REGION, Account, simple
from tests.sandbox.aws import Aws as LocalAws


@pytest_asyncio.fixture
async def scene(db: Database, local: LocalAws) -> Scene:  # noqa: F811 — the fixture
    return await make_scene(db, local)


@pytest.fixture
def handler(db: Database, ses: NotificationsGateway) -> Legacy:  # noqa: F811 — the fixture
    return Legacy(db, ses)


def attach(scene: Scene, **topics: str) -> None:
    """What the delegate did years ago."""
    attach_in(scene, scene.delegate, **topics)


def attach_in(scene: Scene, account: Account, **topics: str) -> None:
    """The same in another account of its."""
    body = {"account_id": account.id, "identity_arn": scene.world.identity_arn, "topics": topics}
    scene.local.control("POST", "legacy", body)


def held(scene: Scene, account: Account | None = None) -> dict[str, Any]:
    """As the delegate sees them."""
    arn = scene.world.identity_arn
    found = (account or scene.delegate).client("ses").get_identity_notification_attributes(Identities=[arn])
    return {key: value for key, value in found["NotificationAttributes"].get(arn, {}).items() if "Topic" in key}


def own_topic(scene: Scene, name: str) -> str:
    """SES publishes old notifications on behalf of the delegate's own account."""
    return scene.topic(name, for_account=scene.delegate.id)


async def listed(scene: Scene, handler: Legacy, **topics: str) -> UUID:
    """A route that has found the old notifications."""
    attach(scene, **topics)
    route_id = await scene.make_route(RouteKind.legacy, {})
    await scene.turn(handler, route_id)
    return route_id


async def test_old_notifications_are_found_and_still_come(scene: Scene, handler: Legacy) -> None:
    bounces = own_topic(scene, "bounces")
    queue = scene.delegate.make_queue("feedback", bounces)
    attach(scene, Bounce=bounces)
    route_id = await scene.make_route(RouteKind.legacy, {})

    checked = await scene.turn(handler, route_id)
    scene.delegate.client("sesv2").send_email(
        FromEmailAddress=f"news@{scene.name}",
        FromEmailAddressIdentityArn=scene.world.identity_arn,
        Destination={"ToAddresses": [BOUNCE]},
        Content={"Simple": {"Subject": {"Data": "x"}, "Body": {"Text": {"Data": "x"}}}},
    )

    assert RouteState.configured == checked.state
    bounce = {"topic": bounces, "headers": False}
    assert {"notifications": {scene.delegate.id: {"bounce": bounce}}} == checked.found
    assert ["Bounce"] == [record["notificationType"] for record in queue.feedback()]


async def test_where_there_are_none_it_says_that_no_new_ones_can_be_made(scene: Scene, handler: Legacy) -> None:
    checked = await scene.turn(handler, await scene.make_route(RouteKind.legacy, {}))

    assert RouteState.broken == checked.state
    assert "SES lets nobody create new cross-account notifications" in (checked.reason or "")


async def test_topic_and_headers_of_existing_ones_are_edited(scene: Scene, handler: Legacy) -> None:
    other = own_topic(scene, "other")
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    edit = LegacySettings(bounce=LegacyEdit(topic_arn=other, include_headers=True))

    await migrate.edit(scene.world.db, scene.world.delegate, route_id, edit)
    checked = await scene.turn(handler, route_id)

    assert RouteState.configured == checked.state
    assert {"notifications": {scene.delegate.id: {"bounce": {"topic": other, "headers": True}}}} == checked.found
    assert {"BounceTopic": other} == held(scene)


async def test_an_edit_of_what_is_not_there_is_refused(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    edit = LegacySettings(complaint=LegacyEdit(topic_arn=own_topic(scene, "complaints")))

    with pytest.raises(Conflict, match="There is no complaint notification to edit"):
        await migrate.edit(scene.world.db, scene.world.delegate, route_id, edit)


async def test_only_the_delegate_edits(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))

    with pytest.raises(Conflict, match="are the delegate's"):
        await migrate.edit(scene.world.db, scene.world.owner, route_id, LegacySettings())


async def test_removal_takes_every_type_and_leaves_the_right_to_send(scene: Scene, handler: Legacy) -> None:
    topic = own_topic(scene, "all")
    route_id = await listed(scene, handler, Bounce=topic, Complaint=topic, Delivery=topic)
    await scene.forget(route_id)

    checked = await scene.turn(handler, route_id)
    again = await scene.turn(handler, route_id)

    assert [RouteState.removed] * 2 == [checked.state, again.state]
    assert {} == held(scene)


async def test_without_the_delegate_s_role_nothing_can_be_seen(scene: Scene, handler: Legacy) -> None:
    checked = await scene.turn(handler, await scene.make_route(RouteKind.legacy, {}), by_role=False)

    assert RouteState.pending == checked.state
    assert "not connected by a role" in (checked.reason or "")


async def test_what_ses_dropped_is_told_then_tried_again_then_said_to_be_gone(scene: Scene, handler: Legacy) -> None:
    """New ones cannot be made (sending-authorization); here one that was dropped is not taken again either."""
    topics = {"Bounce": own_topic(scene, "bounces"), "Complaint": own_topic(scene, "complaints")}
    route_id = await listed(scene, handler, **topics)
    scene.delegate.client("sns").delete_topic(TopicArn=topics["Bounce"])
    mail = simple(f"news@{scene.name}", BOUNCE)
    scene.delegate.client("sesv2").send_email(**mail, FromEmailAddressIdentityArn=scene.world.identity_arn)

    told, after, later = [await scene.turn(handler, route_id) for _ in range(3)]

    assert (RouteState.broken, True) == (told.state, told.unfinished)
    assert f"SES no longer sends the bounce notifications of {scene.name}" in (told.reason or "")
    for checked in (after, later):
        assert (RouteState.configured, False) == (checked.state, checked.unfinished)
        assert "SES dropped the bounce notifications and does not take them again" in (checked.reason or "")
        assert {"complaint"} == (checked.found or {})["notifications"][scene.delegate.id].keys()
    assert "lost" not in (later.found or {})


async def test_each_of_the_delegate_s_connected_accounts_of_the_grant_is_looked_in(
    scene: Scene, handler: Legacy
) -> None:
    """Topics are edited where they belong, and all are removed."""
    second, third = with_role(scene), with_role(scene)
    route_id = await scene.make_route(RouteKind.legacy, {})
    bounces = [own_topic(scene, "b"), scene.topic("b", second[0], for_account=second[0].id)]
    attach(scene, Bounce=bounces[0])
    attach_in(scene, second[0], Bounce=bounces[1])
    attach_in(scene, third[0], Bounce=scene.topic("b", third[0], for_account=third[0].id))
    other = scene.topic("other", second[0], for_account=second[0].id)
    edit = msgspec.to_builtins(LegacySettings(bounce=LegacyEdit(topic_arn=other)))
    work = msgspec.structs.replace(
        await scene.work(route_id),
        accounts=(scene.delegate.id, second[0].id),
        delegates=(scene.delegate_access, second[1], third[1]),
    )

    found = await handler.check(work)
    edited = await handler.check(msgspec.structs.replace(work, settings=edit))
    removed = await handler.remove(work)

    both = {scene.delegate.id: bounces[0], second[0].id: bounces[1]}
    assert both == topics_in(found)
    assert both | {second[0].id: other} == topics_in(edited)
    assert RouteState.removed == removed.state
    assert [{}, {}, True] == [held(scene), held(scene, second[0]), bool(held(scene, third[0]))]


async def test_an_account_that_cannot_be_reached_now_keeps_the_removal_waiting(scene: Scene, handler: Legacy) -> None:
    """One that has no connection any more does not: it is said instead."""
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "b"))
    found = {"notifications": {"555555555555": {"bounce": {"topic": "arn:aws:sns:eu-west-1:555555555555:b"}}}}
    work = msgspec.structs.replace(await scene.work(route_id), found=found)

    waiting = await handler.remove(msgspec.structs.replace(work, connected=frozenset({"555555555555"})))
    left = await handler.remove(work)

    assert RouteState.broken == waiting.state
    assert "account 555555555555 is not connected by a role that we may use now" in (waiting.reason or "")
    assert RouteState.removed == left.state
    assert "account 555555555555 were left as they are: it is not connected any more" in (left.reason or "")


async def test_a_set_of_one_account_does_not_take_over_for_another(scene: Scene, handler: Legacy) -> None:
    """There would be a gap: the set hears mail of its own account only."""
    second, access = with_role(scene)
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "b"))
    attach_in(scene, second, Bounce=scene.topic("b", second, for_account=second.id))
    view = await begin(scene, route_id, Target.CONFIGURATION_SET)
    await has_set(scene, view.new_route.id, "delegation-broker-x")
    await bounced(scene, configuration_set="delegation-broker-x")
    work = msgspec.structs.replace(
        await scene.work(route_id),
        accounts=(second.id, scene.delegate.id),
        delegates=(access, scene.delegate_access),
    )

    checked = await handler.check(work)

    assert RouteState.configured == checked.state
    assert f"account {second.id} were left as they are" in (checked.reason or "")
    assert ({}, True) == (held(scene), bool(held(scene, second)))


def topics_in(checked: Checked) -> dict[str, str]:
    """Of bounces, by account."""
    return {account: each["bounce"]["topic"] for account, each in (checked.found or {})["notifications"].items()}


def with_role(scene: Scene) -> tuple[Account, RoleAccess]:
    """Another account of the delegate's, with our role in it."""
    account = scene.local.account()
    account.leave_sandbox()
    policy = role_policy(PartyRole.DELEGATE, account.id, "aws")
    role = account.make_role("SesDelegationBroker", trust_policy("999999999999", "aws", EXTERNAL_ID), policy=policy)
    return account, RoleAccess(scene.world.delegate.tenant, account.id, role, EXTERNAL_ID, REGION)


async def begin(scene: Scene, route_id: UUID, to: Target = Target.IDENTITY_TOPIC) -> MigrationView:
    return await migrate.migrate(scene.world.db, scene.world.delegate, route_id, Migrating(to=to))


async def bounced(scene: Scene, *, later: timedelta = timedelta(seconds=1), **changes: Any) -> None:
    """The test's bounce as ingest stores it."""
    world, now = scene.world, datetime.now(UTC) + later
    data = {
        "recipient": BOUNCE,
        "sending_account": scene.delegate.id,
        "identity": world.identity_arn,
        "configuration_set": None,
        **changes,
    }
    row = insert(EventRow).values(
        id=new_id(),
        at=now,
        created_at=now,
        type="email.bounced",
        owner_id=world.owner.tenant,
        delegate_id=world.delegate.tenant,
        grant_id=world.grant_id,
        source="broker_topic",
        data=data,
    )
    async with world.db.as_role(Role.INGEST).begin(world.owner) as session:
        await session.execute(row)


async def test_the_old_ones_stay_until_the_bounce_came_through_the_new_route(scene: Scene, handler: Legacy) -> None:
    bounces = own_topic(scene, "bounces")
    route_id = await listed(scene, handler, Bounce=bounces)

    view = await begin(scene, route_id)
    waiting = await scene.turn(handler, route_id)
    still = held(scene)
    await bounced(scene)
    done = await scene.turn(handler, route_id)

    assert ("identity_topic", "configured") == (view.new_route.kind.value, view.new_route.state.value)
    assert RouteState.configured == waiting.state
    assert "waiting_for_bounce" == (waiting.found or {})["migration"]["state"]
    assert view.command == (waiting.found or {})["migration"]["command"]
    assert {"BounceTopic": bounces} == still
    assert (RouteState.removed, "done") == (done.state, (done.found or {})["migration"]["state"])
    assert {} == held(scene)


async def test_the_command_is_one_line_that_names_the_owner_s_identity(scene: Scene, handler: Legacy) -> None:
    """sesv2 send-email of the AWS CLI; its options are those of the call (SES API v2, SendEmail)."""
    view = await begin(scene, await listed(scene, handler, Bounce=own_topic(scene, "bounces")))
    words = shlex.split(view.command)

    assert "\n" not in view.command
    assert ["aws", "sesv2", "send-email"] == words[:3]
    assert scene.world.identity_arn == words[words.index("--from-email-address-identity-arn") + 1]
    assert f"ToAddresses={BOUNCE}" == words[words.index("--destination") + 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipient": "jane@example.org"},
        {"sending_account": "333333333333"},
        {"identity": "arn:aws:ses:eu-west-1:111111111111:identity/other.example"},
        {"configuration_set": "delegation-broker-other"},
        {"later": timedelta(minutes=-30)},
    ],
)
async def test_another_bounce_does_not_count(scene: Scene, handler: Legacy, changes: dict[str, Any]) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    await begin(scene, route_id)
    await bounced(scene, **changes)

    checked = await scene.turn(handler, route_id)

    assert RouteState.configured == checked.state
    assert "BounceTopic" in held(scene)


async def test_a_new_route_that_is_not_set_up_is_waited_for(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    view = await begin(scene, route_id, Target.CONFIGURATION_SET)
    await bounced(scene)

    checked = await scene.turn(handler, route_id)

    assert f"--configuration-set-name {set_name(scene.world.grant_id)}" in view.command
    assert "requested" == view.new_route.state.value
    assert "waiting_for_route" == (checked.found or {})["migration"]["state"]
    assert "BounceTopic" in held(scene)


async def test_it_is_looked_at_again_soon_and_less_and_less_often(scene: Scene, handler: Legacy) -> None:
    """From the beginning when it was asked for again, or has come a step further."""
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    view = await begin(scene, route_id, Target.CONFIGURATION_SET)

    pauses = [(await scene.turn(handler, route_id)).again_in for _ in range(12)]
    await has_set(scene, view.new_route.id, "delegation-broker-x")
    further = (await scene.turn(handler, route_id)).again_in
    await scene.turn(handler, route_id)
    await begin(scene, route_id, Target.CONFIGURATION_SET)
    anew = (await scene.turn(handler, route_id)).again_in

    assert [1, 2, 4, 8] == [pause.total_seconds() for pause in pauses[:4] if pause]
    assert timedelta(minutes=15) == pauses[-1]
    assert [timedelta(seconds=1)] * 2 == [further, anew]


async def has_set(scene: Scene, route_id: UUID, name: str, **values: Any) -> None:
    """The new route is set up in the delegate's account."""
    topic_id = new_id()
    async with scene.world.db.begin(scene.world.delegate) as session:
        session.add(
            Topic(
                id=topic_id,
                tenant_id=scene.world.delegate.tenant,
                arn=f"arn:aws:sns:eu-west-1:{scene.delegate.id}:{name}",
                region="eu-west-1",
                source="tenant_topic",
                state="confirmed",
                configuration_set=name,
            )
        )
        await session.flush()
        changed = update(Route).where(Route.id == route_id)
        await session.execute(changed.values(topic_id=topic_id, state="configured", **values))


async def test_a_configuration_set_counts_by_its_own_name(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    view = await begin(scene, route_id, Target.CONFIGURATION_SET)
    await has_set(scene, view.new_route.id, "delegation-broker-x")

    waiting = await scene.turn(handler, route_id)
    await bounced(scene)  # by the identity's topic, which is set up as well
    other = await scene.turn(handler, route_id)
    await bounced(scene, configuration_set="delegation-broker-x")
    done = await scene.turn(handler, route_id)

    assert "--configuration-set-name delegation-broker-x" in (waiting.found or {})["migration"]["command"]
    assert [RouteState.configured, RouteState.removed] == [other.state, done.state]


async def test_a_bounce_that_came_first_by_the_other_way_counts_once_the_set_was_heard(
    scene: Scene, handler: Legacy
) -> None:
    """What comes twice is stored once, under the way that was first."""
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    view = await begin(scene, route_id, Target.CONFIGURATION_SET)
    heard_at = datetime.now(UTC) + timedelta(seconds=1)
    await has_set(scene, view.new_route.id, "delegation-broker-x", live_at=heard_at)
    await bounced(scene)

    assert RouteState.removed == (await scene.turn(handler, route_id)).state


async def test_the_broker_sends_the_test_where_the_role_lets_it(
    db: Database,
    local: LocalAws,  # noqa: F811 — the fixture
    handler: Legacy,
) -> None:
    scene = await make_scene(db, local, may_test=True)
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    await begin(scene, route_id)

    first = await scene.turn(handler, route_id)
    await scene.turn(handler, route_id)
    once = mailed(scene)
    await begin(scene, route_id)
    await scene.turn(handler, route_id)

    assert (first.found or {})["migration"]["test"] == once[0]["message_id"]
    assert (1, 2) == (len(once), len(mailed(scene)))
    assert {scene.delegate.id} == {mail["account_id"] for mail in once}


def mailed(scene: Scene) -> list[dict[str, Any]]:
    """What was sent to the simulator from the identity."""
    found: list[dict[str, Any]] = scene.local.control("GET", f"mailbox?recipient={BOUNCE}")
    return [mail for mail in found if mail["source_arn"] == scene.world.identity_arn]


async def test_without_that_right_nothing_is_sent(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    await begin(scene, route_id)

    checked = await scene.turn(handler, route_id)

    assert [] == mailed(scene)
    assert "Send one by `found.migration.command`" in (checked.reason or "")


async def test_the_role_cannot_write_to_anybody_else(
    db: Database,
    local: LocalAws,  # noqa: F811 — the fixture
) -> None:
    scene = await make_scene(db, local, may_test=True)
    broker = Account(local, "999999999999")
    keys = broker.assume(scene.delegate_access.role_arn, ExternalId=scene.delegate_access.external_id)
    session = local.client("sesv2", keys)

    for recipients in (["jane@example.org"], [BOUNCE, "jane@example.org"]):
        with pytest.raises(session.exceptions.ClientError, match=re.escape("ses:SendEmail")):
            session.send_email(
                FromEmailAddress=f"news@{scene.name}",
                FromEmailAddressIdentityArn=scene.world.identity_arn,
                Destination={"ToAddresses": recipients},
                Content={"Simple": {"Subject": {"Data": "x"}, "Body": {"Text": {"Data": "x"}}}},
            )


async def test_a_migration_needs_the_new_route_from_its_owner(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    async with scene.world.db.begin(scene.world.owner) as session:
        mine = (Route.grant_id == scene.world.grant_id, Route.kind == "identity_topic")
        await session.execute(update(Route).where(*mine).values(state="removed"))

    with pytest.raises(Conflict, match="The owner has no identity_topic route"):
        await begin(scene, route_id)


async def test_one_migration_at_a_time(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    await begin(scene, route_id)

    with pytest.raises(Conflict, match="A migration to identity_topic is under way"):
        await begin(scene, route_id, Target.CONFIGURATION_SET)


async def test_asking_again_counts_and_changes_nothing_else(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    first = await begin(scene, route_id, Target.CONFIGURATION_SET)
    again = await begin(scene, route_id, Target.CONFIGURATION_SET)

    async with scene.world.db.read(scene.world.owner) as session:
        kinds = list(await session.scalars(select(Route.kind).where(Route.grant_id == scene.world.grant_id)))
    assert first.new_route.id == again.new_route.id
    assert 2 == (await scene.route(route_id)).settings["migration"]["asked"]
    assert ["configuration_set", "identity_topic", "legacy"] == sorted(kinds)


async def test_an_ended_grant_is_not_migrated(scene: Scene, handler: Legacy) -> None:
    route_id = await listed(scene, handler, Bounce=own_topic(scene, "bounces"))
    async with scene.world.db.begin(scene.world.owner) as session:
        ended = update(Grant).where(Grant.id == scene.world.grant_id).values(ended_at=datetime.now(UTC))
        await session.execute(ended)

    with pytest.raises(Conflict, match="The grant has ended"):
        await begin(scene, route_id)


@pytest.mark.parametrize(
    ("identity", "patterns"),
    [
        ("example.com", ()),
        ("example.com", ("*@example.com",)),
        ("example.com", ("news-?@example.com", "x@example.com")),
        ("example.com", ("*@*.example.com",)),
        ("example.com", ("*@mail.example.com",)),
        ("me@example.com", ("me@example.com",)),
    ],
)
def test_the_test_is_sent_from_an_address_that_the_grant_permits(identity: str, patterns: tuple[str, ...]) -> None:
    sender = sender_for(identity, patterns)

    assert "*" not in sender
    assert "?" not in sender
    assert not patterns or matches(patterns[0], sender, None)
