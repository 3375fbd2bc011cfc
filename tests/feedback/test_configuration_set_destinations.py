"""The delegate's own event destinations: over HTTP, against the local AWS, which is asked what SES holds."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from sqlalchemy import text

from broker import problems, web
from broker.caller import Caller
from broker.connections import permissions, role_documents
from broker.connections.models import Connection
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import BrokerError
from broker.feedback.destinations.api import DestinationController
from broker.feedback.handling import RouteWork
from broker.feedback.models import Route
from broker.feedback.set_rules import DESTINATION
from broker.gateways.ses_sets import SesSets
from broker.idempotency import Replayed
from broker.ids import new_id
from tests.connections.aws import EXTERNAL_ID, Gateways
from tests.feedback.conftest import World
from tests.feedback.sets import after, delegate_role, handler, listed, ours, work_for
from tests.feedback.test_api import ByHeader, as_tenant
from tests.sandbox.aws import REGION, Account, simple
from tests.sandbox.aws import Aws as LocalAws

CLOUDWATCH = {"dimensions": [{"name": "campaign", "source": "message_tag", "default": "none"}]}
PINPOINT = "AWS ended support for Amazon Pinpoint on October 30, 2026"


class Here(msgspec.Struct, frozen=True):
    """A delegate with a `configuration_set` route that is set up, and a client of the API."""

    world: World
    account: Account
    work: RouteWork
    http: httpx.AsyncClient
    cloud: LocalAws

    @property
    def path(self) -> str:
        return f"/v1/routes/{self.work.id}/destinations"

    async def call(
        self, method: str, below: str = "", body: Any = None, *, caller: Caller | None = None, key: str | None = None
    ) -> httpx.Response:
        sent = as_tenant(caller or self.world.delegate) | ({"idempotency-key": key} if key else {})
        return await self.http.request(method, self.path + below, json=body, headers=sent)

    async def make(self, name: str = "own", **target: Any) -> httpx.Response:
        return await self.call("POST", body={"name": name, "event_types": ["bounce", "rendering_failure"]} | target)

    def own(self) -> list[dict[str, Any]]:
        """What SES holds beside ours."""
        return [each for each in listed(self.account, ours(self.work)) if each["Name"] != DESTINATION]


@pytest_asyncio.fixture
async def here(
    db: Database, world: World, gateways: Gateways, cloud: LocalAws, keyring: Keyring
) -> AsyncIterator[Here]:
    account = cloud.account()
    account.leave_sandbox()
    access = msgspec.structs.replace(delegate_role(account), tenant_id=world.delegate.tenant)
    work = work_for(access, grant_id=world.grant_id, delegate_id=world.delegate.tenant)
    sets = handler(gateways.aws, gateways.sts, gateways.sns, "http://127.0.0.1:1/")
    work = after(work, await sets.check(work))  # on paper
    work = after(work, await sets.check(work))  # in SES
    await write_down(world, account, work)
    gateway = SesSets(gateways.aws, gateways.sts, role_documents.session_policy, partition="aws")
    app: Any = Litestar(
        route_handlers=[DestinationController],
        middleware=[ByHeader],
        dependencies={
            "db": Provide(lambda: db, sync_to_thread=False),
            "caller": Provide(web.provide_caller),
            "sets": Provide(lambda: gateway, sync_to_thread=False),
        },
        exception_handlers={
            BrokerError: problems.answer_broker_error,
            HTTPException: problems.answer_http_error,
            Replayed: problems.answer_replay(keyring),
        },
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker") as client:
        yield Here(world, account, work, client, cloud)


async def write_down(world: World, account: Account, work: RouteWork) -> None:
    """The delegate's connection and the route, as the rest of the broker keeps them."""
    async with world.db.begin(world.delegate) as session:
        session.add(
            Connection(
                id=new_id(),
                tenant_id=world.delegate.tenant,
                kind="role",
                account_id=account.id,
                regions=[REGION],
                external_id=EXTERNAL_ID,
                role_arn=f"arn:aws:iam::{account.id}:role/SesDelegationBroker",
                state="verified",
            )
        )
    async with world.db.begin(world.owner) as session:
        session.add(
            Route(
                id=work.id,
                tenant_id=world.owner.tenant,
                delegate_id=world.delegate.tenant,
                grant_id=world.grant_id,
                identity_id=world.identity_id,
                kind="configuration_set",
                state="configured",
                found=dict(work.found),
                made_by="delegate",
            )
        )


def firehose(account: Account, *, name: str = "delegation-broker-firehose") -> dict[str, str]:
    """A role that trusts SES for this account, as SES's guide has it, and the name of a stream."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ses.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"aws:SourceAccount": account.id}},
            }
        ],
    }
    role = account.make_role(name, trust)
    return {"role_arn": role, "stream_arn": f"arn:aws:firehose:{REGION}:{account.id}:deliverystream/events"}


async def audited(world: World) -> list[str]:
    async with world.db.read(world.delegate) as session:
        query = text("SELECT action FROM audit WHERE action LIKE 'route.destination%' ORDER BY id")
        return list(await session.scalars(query))


async def test_our_own_is_listed_and_cannot_be_touched(here: Here) -> None:
    (found,) = (await here.call("GET")).json()["items"]
    refused = [
        await here.call("PATCH", f"/{DESTINATION}", {"enabled": False}),
        await here.call("DELETE", f"/{DESTINATION}"),
        await here.make(DESTINATION, eventbridge={}),
    ]

    assert (DESTINATION, "sns", True, 10) == (found["name"], found["kind"], found["ours"], len(found["event_types"]))
    assert [409] * 3 == [answer.status_code for answer in refused]
    assert all("broker's own destination" in answer.json()["detail"] for answer in refused)


async def test_each_kind_is_made_shown_changed_and_removed(here: Here) -> None:
    topic = here.account.make_topic("own-events", publishers=here.account.id)
    bus = f"arn:aws:events:{REGION}:{here.account.id}:event-bus/default"
    targets: dict[str, Any] = {
        "cloudwatch": CLOUDWATCH,
        "firehose": firehose(here.account),
        "eventbridge": {"bus_arn": bus},
        "sns": {"topic_arn": topic},
    }
    made = [await here.make(f"own-{kind}", **{kind: target}) for kind, target in targets.items()]
    shown = (await here.call("GET")).json()["items"]
    changed = [
        await here.call("PATCH", f"/own-{kind}", {"event_types": ["click"], "enabled": False}) for kind in targets
    ]
    held = here.own()
    gone = [await here.call("DELETE", f"/own-{kind}") for kind in targets]

    assert [201] * 4 == [answer.status_code for answer in made]
    assert list(targets.items()) == [(each["kind"], each[each["kind"]]) for each in shown if not each["ours"]]
    assert [(200, ["click"], False, target) for target in targets.values()] == [
        (answer.status_code, answer.json()["event_types"], answer.json()["enabled"], answer.json()[kind])
        for kind, answer in zip(targets, changed, strict=True)
    ]
    assert {(False, ("CLICK",))} == {(each["Enabled"], tuple(each["MatchingEventTypes"])) for each in held}
    assert [204] * 4 == [answer.status_code for answer in gone]
    assert [] == here.own()
    actions = [f"route.destination.{verb}" for verb in ("made", "changed", "removed") for _ in targets]
    assert actions == await audited(here.world)


async def test_where_events_go_can_be_changed(here: Here) -> None:
    await here.make(eventbridge={})
    answer = await here.call("PATCH", "/own", {"cloudwatch": CLOUDWATCH})

    assert ("cloudwatch", CLOUDWATCH, None) == tuple(
        answer.json()[key] for key in ("kind", "cloudwatch", "eventbridge")
    )
    assert ["bounce", "rendering_failure"] == answer.json()["event_types"]


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ({}, ""),
        ({"eventbridge": {}, "cloudwatch": CLOUDWATCH}, ""),
        ({"eventbridge": {"bus_arn": "arn:aws:events:eu-west-1:222222222222:event-bus/own"}}, "/eventbridge/bus_arn"),
        ({"sns": {"topic_arn": f"arn:aws:sns:{REGION}:222222222222:theirs"}}, "/sns/topic_arn"),
        ({"cloudwatch": {"dimensions": CLOUDWATCH["dimensions"] * 2}}, "/cloudwatch/dimensions"),
        (
            {
                "firehose": {
                    "role_arn": "arn:aws:iam::222222222222:role/delegation-broker-x",
                    "stream_arn": f"arn:aws:firehose:{REGION}:222222222222:deliverystream/x",
                }
            },
            "/firehose/role_arn",
        ),
        ({"pinpoint": {"application_arn": "arn:aws:mobiletargeting:eu-west-1:1:apps/a"}}, "/pinpoint"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(here: Here, target: dict[str, Any], pointer: str) -> None:
    answer = await here.make(**target)

    assert 422 == answer.status_code
    assert pointer in {flaw["pointer"] for flaw in answer.json()["errors"]}
    assert [] == here.own()


@pytest.mark.parametrize(
    "dimension",
    [
        {"name": "with space", "source": "message_tag", "default": "none"},
        {"name": "x" * 257, "source": "message_tag", "default": "none"},
        {"name": "ok", "source": "message_tag", "default": "not a value"},
        {"name": "ok", "source": "message_tag", "default": ""},
        {"name": "ok", "source": "messageTag", "default": "none"},
    ],
)
async def test_dimensions_are_checked_as_ses_does(here: Here, dimension: dict[str, str]) -> None:
    """SES API v2, CloudWatchDimensionConfiguration."""
    assert 422 == (await here.make(cloudwatch={"dimensions": [dimension]})).status_code


async def test_our_own_topic_is_no_destination_of_the_delegates(here: Here) -> None:
    answer = await here.make(sns={"topic_arn": here.work.found["topic_arn"]})

    assert (422, True) == (answer.status_code, "broker's own topic" in answer.json()["detail"])


async def test_pinpoint_is_listed_kept_and_removed_but_not_made(here: Here) -> None:
    application = f"arn:aws:mobiletargeting:{REGION}:{here.account.id}:apps/1f2e"
    old = {"Enabled": True, "MatchingEventTypes": ["SEND"], "PinpointDestination": {"ApplicationArn": application}}
    here.account.client("sesv2").create_configuration_set_event_destination(
        ConfigurationSetName=ours(here.work), EventDestinationName="old", EventDestination=old
    )
    new = await here.make(pinpoint={"application_arn": application})
    changed = await here.call("PATCH", "/old", {"enabled": False})
    shown = [each for each in (await here.call("GET")).json()["items"] if each["name"] == "old"]
    kept = here.own()
    removed = await here.call("DELETE", "/old")

    assert (422, 409, 204) == (new.status_code, changed.status_code, removed.status_code)
    assert all(PINPOINT in answer.json()["detail"] for answer in (new, changed))
    assert [("pinpoint", {"application_arn": application})] == [(each["kind"], each["pinpoint"]) for each in shown]
    assert PINPOINT in shown[0]["note"]
    assert [old | {"Name": "old"}] == kept
    assert [] == here.own()


async def test_a_role_that_does_not_trust_ses_is_refused_in_ses_words(here: Here) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "firehose.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    role = here.account.make_role("delegation-broker-other", trust)
    answer = await here.make(firehose=firehose(here.account, name="delegation-broker-used") | {"role_arn": role})

    assert (409, f"Could not assume IAM role <{role}>.") == (answer.status_code, answer.json()["detail"])


async def test_a_role_of_another_name_cannot_be_passed(here: Here) -> None:
    """Ours may pass what carries the prefix, to SES, and nothing else; not even itself."""
    answer = await here.make(firehose=firehose(here.account, name="admin"))

    assert (422, "/firehose/role_arn") == (answer.status_code, answer.json()["errors"][0]["pointer"])


async def test_without_the_right_to_pass_a_role_only_firehose_is_refused(here: Here) -> None:
    target = firehose(here.account)
    policy = role_documents.role_policy(permissions.Role.DELEGATE, here.account.id, "aws")
    policy["Statement"] = [each for each in policy["Statement"] if "iam:PassRole" not in each["Action"]]
    iam = here.account.client("iam")
    iam.put_role_policy(RoleName="SesDelegationBroker", PolicyName="inline", PolicyDocument=json.dumps(policy))
    refused, taken = await here.make(firehose=target), await here.make("other", eventbridge={})

    assert (409, 201) == (refused.status_code, taken.status_code)
    assert "iam:PassRole" in refused.json()["detail"]


async def test_names_are_unique_and_ses_says_so(here: Here) -> None:
    await here.make(eventbridge={})
    answer = await here.make(cloudwatch=CLOUDWATCH)

    assert (409, "Event destination <own> already exists.") == (answer.status_code, answer.json()["detail"])


async def test_a_set_takes_ten_with_ours(here: Here) -> None:
    """Developer Guide, quotas."""
    made = [(await here.make(f"own-{number}", eventbridge={})).status_code for number in range(9)]
    more = await here.make("own-9", eventbridge={})

    assert [201] * 9 == made
    assert (409, "Maximum of 10 event destinations reached.") == (more.status_code, more.json()["detail"])


async def test_only_the_delegate_of_the_grant_may(here: Here) -> None:
    body = {"name": "own", "event_types": ["bounce"], "eventbridge": {}}
    calls = [("GET", "", None), ("POST", "", body), ("PATCH", "/own", {}), ("DELETE", "/own", None)]
    for caller, status in ((here.world.owner, 403), (here.world.second, 404)):
        answers = [await here.call(*call, caller=caller) for call in calls]

        assert [status] * 4 == [answer.status_code for answer in answers]
    assert [] == here.own()


async def test_a_missing_destination_is_not_found(here: Here) -> None:
    assert 404 == (await here.call("PATCH", "/none", {"enabled": True})).status_code
    assert 404 == (await here.call("DELETE", "/none")).status_code


async def test_the_same_request_twice_makes_one_destination(here: Here) -> None:
    body = {"name": "own", "event_types": ["bounce"], "eventbridge": {}}
    first, second = [await here.call("POST", "", body, key="made-only-once-0001") for _ in range(2)]

    assert (201, 201, first.json()) == (first.status_code, second.status_code, second.json())
    assert ["own"] == [each["Name"] for each in here.own()]
    assert ["route.destination.made"] == await audited(here.world)


async def test_a_repeated_request_whose_answer_was_lost_finds_what_it_made(here: Here) -> None:
    fault = {"service": "sesv2", "operation": "CreateConfigurationSetEventDestination", "error": "500", "after": True}
    here.cloud.control("POST", "faults", fault | {"account_id": here.account.id})
    body = {"name": "own", "event_types": ["bounce"], "eventbridge": {}}
    lost = await here.call("POST", "", body, key="asked-once-more-01")
    found = await here.call("POST", "", body, key="asked-once-more-01")

    assert (503, 201) == (lost.status_code, found.status_code)


async def test_slow_ses_is_waited_for_after_a_write_and_else_is_503(here: Here) -> None:
    """One call of a kind a second (Developer Guide, quotas)."""
    await here.make(eventbridge={})
    fault = {"service": "sesv2", "operation": "GetConfigurationSetEventDestinations", "error": "throttle"}
    here.cloud.control("POST", "faults", fault | {"account_id": here.account.id})
    listed_ = await here.call("GET")
    here.cloud.control("POST", "faults", fault | {"account_id": here.account.id})
    made = await here.make("other", eventbridge={})

    assert (503, 201) == (listed_.status_code, made.status_code)


async def test_before_the_set_is_there_and_without_a_role_it_is_a_conflict(here: Here) -> None:
    async with here.world.db.begin(here.world.delegate) as session:
        await session.execute(text("UPDATE connections SET state = 'lost'"))
    without_role = await here.call("GET")
    async with here.world.db.begin(here.world.owner) as session:
        await session.execute(text("UPDATE routes SET found = '{}' WHERE id = :id"), {"id": here.work.id})
    without_set = await here.call("GET")

    assert (409, 409) == (without_role.status_code, without_set.status_code)
    assert "not connected by a role" in without_role.json()["detail"]
    assert "not been made yet" in without_set.json()["detail"]


async def test_a_set_that_was_deleted_says_so(here: Here) -> None:
    here.account.client("sesv2").delete_configuration_set(ConfigurationSetName=ours(here.work))
    answer = await here.call("GET")

    assert (409, True) == (answer.status_code, "made anew" in answer.json()["detail"])


async def test_other_kinds_of_routes_have_no_destinations(here: Here) -> None:
    async with here.world.db.read(here.world.delegate) as session:
        query = text("SELECT id FROM routes WHERE kind = 'identity_topic'")
        route: UUID = (await session.scalars(query)).one()
    answer = await here.http.get(f"/v1/routes/{route}/destinations", headers=as_tenant(here.world.delegate))

    assert 409 == answer.status_code


async def test_events_reach_what_was_set_up(here: Here) -> None:
    """CloudWatch gets the tag or the default, EventBridge its envelope, Firehose and topics the record."""
    topic = here.account.make_topic("own-events", publishers=here.account.id)
    queue = here.account.make_queue("own-events", topic)
    here.account.verify("delegate.example")
    types = {"event_types": ["send", "delivery"]}
    await here.make("metrics", cloudwatch=CLOUDWATCH, **types)
    await here.make("stream", firehose=firehose(here.account), **types)
    await here.make("bus", eventbridge={}, **types)
    await here.make("topic", sns={"topic_arn": topic}, **types)
    await here.make("off", eventbridge={}, **types, enabled=False)
    sent = simple("news@delegate.example", "success@simulator.amazonses.com")
    tags = [{"Name": "campaign", "Value": "spring"}]
    ses = here.account.client("sesv2")
    ses.send_email(**sent, ConfigurationSetName=ours(here.work), EmailTags=tags)
    records = queue.feedback(2)
    kept = here.cloud.control("GET", f"published?account_id={here.account.id}")

    by_name = {(each["destination"], _type(each["body"])): each["body"] for each in kept}
    assert {("metrics", "Send"), ("metrics", "Delivery"), ("stream", "Send"), ("stream", "Delivery")} | {
        ("bus", "Email Sent"),
        ("bus", "Email Delivered"),
    } == set(by_name)
    assert {"campaign": "spring"} == by_name["metrics", "Send"]["dimensions"]
    assert ("aws.ses", "Send") == (
        by_name["bus", "Email Sent"]["source"],
        by_name["bus", "Email Sent"]["detail"]["eventType"],
    )
    assert {"Send", "Delivery"} == {record["eventType"] for record in records}


def _type(body: dict[str, Any]) -> str:
    return str(body.get("metric") or body.get("detail-type") or body.get("eventType"))
