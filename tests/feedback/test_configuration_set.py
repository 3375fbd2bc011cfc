"""The `configuration_set` route in the delegate's account of a local AWS: made, repaired, told, removed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable
from broker.feedback.configuration_set import ConfigurationSets
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.set_rules import DESTINATION, EVENT_TYPES, MARK
from broker.feedback.views import RouteState
from broker.gateways.aws import Aws, Credentials
from broker.gateways.http import HttpFetcher
from broker.gateways.sts import StsGateway
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Settings
from tests.connections.aws import Gateways
from tests.feedback.sets import BROKER, after, delegate_role, handler, listed, ours, work_for
from tests.sandbox.aws import REGION, Account, refusal
from tests.sandbox.aws import Aws as LocalAws

QUEUE = f"arn:aws:sqs:{REGION}:{BROKER}:feedback"


@pytest.fixture
def account(cloud: LocalAws) -> Account:
    return cloud.account()


@pytest.fixture
def access(account: Account) -> RoleAccess:
    return delegate_role(account)


class OverSqs:
    """A queue of ours: the broker's account subscribes it, and nothing has to be confirmed."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    async def subscribe(self, topic_arn: str, endpoint: str, /) -> str | None:
        answer = await self._aws.call(
            "sns",
            "subscribe",
            region=REGION,
            account_id=BROKER,
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint=endpoint,
        )
        return str(answer["SubscriptionArn"])

    async def keep_all(self, subscription_arn: str, *, dead_letters: str | None) -> bool:
        return dead_letters is None and subscription_arn.startswith("arn:")


@pytest.fixture
def sets(gateways: Gateways) -> ConfigurationSets:
    return handler(gateways.aws, gateways.sts, OverSqs(gateways.aws), QUEUE)


async def made(sets: ConfigurationSets, work: RouteWork) -> tuple[RouteWork, Checked]:
    """Checked until it is heard, as the due loop does it: first the topic is known, then it is subscribed to."""
    first = await sets.check(work)
    work = after(work, first)
    second = await sets.check(work)
    return after(work, second), second


async def made_and_looked_at(sets: ConfigurationSets, work: RouteWork) -> Checked:
    work, _ = await made(sets, work)
    return await sets.check(work)


def attributes(account: Account, work: RouteWork) -> dict[str, str]:
    arn = f"arn:aws:sns:{REGION}:{account.id}:{ours(work)}"
    return dict(account.client("sns").get_topic_attributes(TopicArn=arn)["Attributes"])


async def test_a_set_with_all_ten_types_is_made_and_heard_without_confirmation(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work, checked = await made(sets, work_for(access))
    (destination,) = listed(account, ours(work))

    assert (RouteState.configured, None) == (checked.state, checked.reason)
    assert {"configuration_set": None, "topic": None} == work.previous
    assert (DESTINATION, True) == (destination["Name"], destination["Enabled"])
    assert set(EVENT_TYPES) == set(destination["MatchingEventTypes"])
    assert checked.topic is not None
    assert destination["SnsDestination"] == {"TopicArn": checked.topic.arn}
    assert (ours(work), work.delegate_id) == (checked.topic.configuration_set, checked.topic.tenant_id)
    assert checked.topic.subscription_arn is not None


async def test_the_first_check_makes_the_topic_known_before_it_is_subscribed(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    first = await sets.check(work_for(access))

    assert (RouteState.requested, True) == (first.state, first.unfinished)
    assert first.topic is not None
    assert first.topic.subscription_arn is None
    assert [] == account.client("sns").list_topics()["Topics"]


async def test_the_topic_admits_ses_for_this_set_and_the_broker_alone(
    sets: ConfigurationSets,
    account: Account,
    access: RoleAccess,
    cloud: LocalAws,
) -> None:
    work, _ = await made(sets, work_for(access))
    held = attributes(account, work)
    statements = json.loads(held["Policy"])["Statement"]
    stranger = cloud.account()

    assert "2" == held["SignatureVersion"]
    assert "KmsMasterKeyId" not in held
    assert {
        json.dumps(
            {
                f"aws:{key}": account.id,
                "aws:SourceArn": f"arn:aws:ses:{REGION}:{account.id}:configuration-set/{ours(work)}",
            }
        )
        for key in ("SourceAccount", "SourceOwner")
    } == {json.dumps(each["Condition"]["StringEquals"]) for each in statements if "Condition" in each}
    assert [("sns:Subscribe", f"arn:aws:iam::{BROKER}:root")] == [
        (each["Action"], each["Principal"]["AWS"]) for each in statements if "Condition" not in each
    ]
    queue = f"arn:aws:sqs:{REGION}:{stranger.id}:theirs"
    refused = refusal(
        lambda: stranger.client("sns").subscribe(TopicArn=held["TopicArn"], Protocol="sqs", Endpoint=queue)
    )
    assert "AuthorizationErrorException" == refused[0] or "AuthorizationError" == refused[0]


async def test_without_a_role_it_waits_and_says_what_can_be_done(sets: ConfigurationSets) -> None:
    checked = await sets.check(work_for(None))

    assert RouteState.pending == checked.state
    assert checked.reason is not None
    assert "not connected by a role" in checked.reason
    assert any("POST /v1/connections" in choice for choice in checked.choices)


async def test_a_role_in_an_account_that_may_not_send_is_not_used(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work = work_for(access, accounts=("222222222222",))
    checked = await sets.check(work)

    assert RouteState.pending == checked.state
    assert account.id in (checked.reason or "")
    assert [] == account.client("sesv2").list_configuration_sets()["ConfigurationSets"]


async def test_the_choices_name_the_set_exactly(sets: ConfigurationSets, access: RoleAccess) -> None:
    work, checked = await made(sets, work_for(access, accounts=(access.account_id, "333333333333")))
    told = " ".join(checked.choices)

    assert f"ConfigurationSetName={ours(work)}" in told
    assert f"X-SES-CONFIGURATION-SET: {ours(work)}" in told
    assert "Mail sent from 333333333333 is not heard here" in told


@pytest.mark.parametrize("asked", ["require", "optional"])
async def test_tls_to_recipients_is_set_as_asked(
    sets: ConfigurationSets, account: Account, access: RoleAccess, asked: str
) -> None:
    """Also on a set that is there already (SES API v2, PutConfigurationSetDeliveryOptions)."""
    work, _ = await made(sets, work_for(access, settings={"tls_policy": asked}))
    ses = account.client("sesv2")
    at_first = ses.get_configuration_set(ConfigurationSetName=ours(work))["DeliveryOptions"]["TlsPolicy"]
    other = "OPTIONAL" if asked == "require" else "REQUIRE"
    ses.put_configuration_set_delivery_options(ConfigurationSetName=ours(work), TlsPolicy=other)
    await sets.check(work)
    held = ses.get_configuration_set(ConfigurationSetName=ours(work))["DeliveryOptions"]["TlsPolicy"]

    assert asked.upper() == at_first == held


async def test_what_was_changed_is_put_right(sets: ConfigurationSets, account: Account, access: RoleAccess) -> None:
    work, checked = await made(sets, work_for(access))
    assert checked.topic is not None
    ses, sns, arn = account.client("sesv2"), account.client("sns"), checked.topic.arn
    before = attributes(account, work)
    again = listed(account, ours(work))
    few = again[0] | {"MatchingEventTypes": ["BOUNCE"]}
    ses.update_configuration_set_event_destination(
        ConfigurationSetName=ours(work), EventDestinationName=few.pop("Name"), EventDestination=few
    )
    sns.set_topic_attributes(TopicArn=arn, AttributeName="SignatureVersion", AttributeValue="1")
    sns.set_topic_attributes(TopicArn=arn, AttributeName="KmsMasterKeyId", AttributeValue="alias/aws/sns")
    checked = await sets.check(work)

    assert RouteState.configured == checked.state
    assert before == attributes(account, work)
    assert again == listed(account, ours(work))


async def test_a_set_and_a_topic_that_were_deleted_are_made_anew(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work, checked = await made(sets, work_for(access))
    assert checked.topic is not None
    account.client("sesv2").delete_configuration_set(ConfigurationSetName=ours(work))
    account.client("sns").delete_topic(TopicArn=checked.topic.arn)
    told = await sets.check(work)
    checked = await sets.check(after(work, told))

    assert RouteState.configured == checked.state
    assert [DESTINATION] == [each["Name"] for each in listed(account, ours(work))]
    assert "1" == attributes(account, work)["SubscriptionsConfirmed"]


async def test_a_set_of_our_name_that_is_not_ours_is_left_alone(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work = work_for(access)
    account.client("sesv2").create_configuration_set(ConfigurationSetName=ours(work))
    work, checked = await made(sets, work)
    removed = await sets.remove(work)

    assert RouteState.broken == checked.state
    assert "already has a configuration set" in (checked.reason or "")
    assert checked.choices
    assert RouteState.removed == removed.state
    assert [ours(work)] == account.client("sesv2").list_configuration_sets()["ConfigurationSets"]
    assert [] == listed(account, ours(work))


async def test_a_topic_of_our_name_that_is_not_ours_is_left_alone(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work = work_for(access)
    account.make_topic(ours(work))
    before = attributes(account, work)
    work, checked = await made(sets, work)
    await sets.remove(work)

    assert "already has an SNS topic" in (checked.reason or "")
    assert before == attributes(account, work)


async def test_what_a_crash_left_behind_is_known_by_its_mark(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    """The set was made, and the note of it was lost."""
    work = work_for(access)
    tag = {"Key": MARK, "Value": str(work.grant_id)}
    account.client("sesv2").create_configuration_set(ConfigurationSetName=ours(work), Tags=[tag])
    _, checked = await made(sets, work)

    assert RouteState.configured == checked.state


async def test_removal_takes_away_all_that_is_ours(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work, checked = await made(sets, work_for(access))
    assert checked.topic is not None
    arn = checked.topic.arn
    first, second = await sets.remove(work), await sets.remove(work)

    assert [(RouteState.removed, None)] * 2 == [(each.state, each.reason) for each in (first, second)]
    assert [] == account.client("sesv2").list_configuration_sets()["ConfigurationSets"]
    assert "NotFound" in refusal(lambda: account.client("sns").get_topic_attributes(TopicArn=arn))[0]


async def test_removal_leaves_a_set_that_holds_destinations_of_the_delegates_own(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work, _ = await made(sets, work_for(access))
    own = {"Enabled": True, "MatchingEventTypes": ["BOUNCE"], "EventBridgeDestination": {"EventBusArn": bus(account)}}
    account.client("sesv2").create_configuration_set_event_destination(
        ConfigurationSetName=ours(work), EventDestinationName="own", EventDestination=own
    )
    removed = await sets.remove(work)

    assert RouteState.removed == removed.state
    assert ours(work) in (removed.reason or "")
    assert ["own"] == [each["Name"] for each in listed(account, ours(work))]


def bus(account: Account) -> str:
    return f"arn:aws:events:{REGION}:{account.id}:event-bus/default"


async def test_removal_without_a_role_says_what_is_left(sets: ConfigurationSets, access: RoleAccess) -> None:
    work, _ = await made(sets, work_for(access))
    unreachable = work_for(None, grant_id=work.grant_id, previous=work.previous)
    left, nothing = await sets.remove(unreachable), await sets.remove(work_for(None))

    assert (RouteState.broken, True) == (left.state, ours(work) in (left.reason or ""))
    assert (RouteState.removed, None) == (nothing.state, nothing.reason)


async def test_after_the_end_of_a_grant_nothing_is_put_back(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    work, _ = await made(sets, work_for(access))
    changes: dict[str, Any] = {"grant_id": work.grant_id, "found": work.found, "ended": True}
    ended = work_for(access, **changes)
    still = await sets.check(ended)
    account.client("sesv2").delete_configuration_set(ConfigurationSetName=ours(work))
    gone = await sets.check(ended)

    assert (RouteState.configured, RouteState.broken) == (still.state, gone.state)
    assert [] == account.client("sesv2").list_configuration_sets()["ConfigurationSets"]


@pytest.mark.parametrize(
    "missing",
    ["ses:CreateConfigurationSet", "ses:TagResource", "sns:CreateTopic", "sns:TagResource", "sns:ListTagsForResource"],
)
async def test_each_right_of_the_table_is_needed(sets: ConfigurationSets, account: Account, missing: str) -> None:
    access = delegate_role(account, without=[missing])

    with pytest.raises(Refused) as caught:
        await made_and_looked_at(sets, work_for(access))
    assert missing.casefold() in caught.value.detail.casefold()


async def test_one_call_a_second_only_takes_longer(settings: Settings) -> None:
    """SES's limit for each of these operations (Developer Guide, quotas), twice as fast here; nothing is done twice."""
    with start_in_thread(dialect=Dialect(rate_limit_per_second=2)) as running:
        local = LocalAws(running)
        account = local.account()
        async with broker_at(local, settings) as sets:
            work = work_for(delegate_role(account))
            work, checked = await patiently(sets, work)
            account.client("sesv2").delete_configuration_set_event_destination(
                ConfigurationSetName=ours(work), EventDestinationName=DESTINATION
            )
            work, repaired = await patiently(sets, work)
            calls = local.control("GET", f"calls?account_id={account.id}")

    assert RouteState.configured == checked.state == repaired.state
    done = [each["operation"] for each in calls if each["status"] == 200 and each["service"] in {"sesv2", "sns"}]
    made = [operation for operation in done if operation.startswith("Create")]
    destinations = ["CreateConfigurationSetEventDestination"] * 2
    assert ["CreateConfigurationSet", *destinations, "CreateTopic"] == sorted(made)
    assert 429 in {each["status"] for each in calls}


@asynccontextmanager
async def broker_at(local: LocalAws, settings: Settings) -> AsyncIterator[ConfigurationSets]:
    mine = msgspec.structs.replace(settings, aws_endpoint_url=local.url, aws_region=REGION)
    made = local.control("POST", "accounts", {"account_id": BROKER})
    aws = Aws(mine, own=Credentials(made["access_key_id"], made["secret_access_key"]))
    fetcher = HttpFetcher(trusted_url=local.url)
    yield handler(aws, StsGateway(aws, fetcher, mine), OverSqs(aws), QUEUE)
    await fetcher.close()
    await aws.close()


async def patiently(sets: ConfigurationSets, work: RouteWork) -> tuple[RouteWork, Checked]:
    """Checked again and again, as the due loop does it, until it is configured; fails after a minute."""
    async with asyncio.timeout(60):
        while True:
            try:
                checked = await sets.check(work)
            except Unavailable:
                await asyncio.sleep(0.05)
                continue
            work = after(work, checked)
            if checked.state is RouteState.configured:
                return work, checked


@pytest.mark.parametrize("operation", ["CreateConfigurationSet", "CreateConfigurationSetEventDestination"])
async def test_trouble_of_aws_is_tried_again_and_finished(
    sets: ConfigurationSets,
    account: Account,
    access: RoleAccess,
    cloud: LocalAws,
    operation: str,
) -> None:
    """It takes effect, and its answer is lost: the next check finds it."""
    work = work_for(access)
    fault = {"service": "sesv2", "operation": operation, "error": "500", "account_id": account.id, "after": True}
    cloud.control("POST", "faults", fault)
    work = after(work, await sets.check(work))
    with pytest.raises(Unavailable):
        await sets.check(work)
    _, checked = await made(sets, work)

    assert RouteState.configured == checked.state


async def test_a_route_stays_in_the_account_in_which_it_was_set_up(
    sets: ConfigurationSets, cloud: LocalAws, account: Account, access: RoleAccess
) -> None:
    """The first account's connection is lost for a while; the delegate's second account is left alone meanwhile."""
    second = cloud.account()
    work, _ = await made(sets, work_for(access, accounts=(account.id, second.id)))
    moved = msgspec.structs.replace(work, delegate=delegate_role(second))
    waits, kept = await sets.check(moved), await sets.remove(moved)
    ended = await sets.check(msgspec.structs.replace(moved, ended=True))

    assert [RouteState.pending, RouteState.broken, RouteState.pending] == [each.state for each in (waits, kept, ended)]
    assert all(account.id in (each.reason or "") for each in (waits, kept, ended))
    assert [] == second.client("sesv2").list_configuration_sets()["ConfigurationSets"]
    assert [] == second.client("sns").list_topics()["Topics"]
    gone = await sets.remove(work)
    assert RouteState.removed == gone.state
    assert [] == account.client("sesv2").list_configuration_sets()["ConfigurationSets"]


async def test_what_will_be_made_is_on_paper_before_it_is_made(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    """So that a removal knows of it after a crash, even when the role is gone by then."""
    work = work_for(access)
    first = await sets.check(work)
    nothing_yet = account.client("sesv2").list_configuration_sets()["ConfigurationSets"]
    work = after(work, first)
    await sets.check(work)  # its answer is lost
    left = await sets.remove(msgspec.structs.replace(work, delegate=None))

    assert (RouteState.requested, True, []) == (first.state, first.unfinished, nothing_yet)
    assert (RouteState.broken, True) == (left.state, account.id in (left.reason or ""))
    assert ours(work) in (left.reason or "")


@pytest.mark.parametrize("what", ["the configuration set", "its event destination", "its SNS topic"])
async def test_what_aws_dropped_is_told_before_it_is_put_back(
    sets: ConfigurationSets, account: Account, access: RoleAccess, what: str
) -> None:
    work, checked = await made(sets, work_for(access))
    drop(account, work, what)
    told = await sets.check(work)
    again = await sets.check(work)  # the first answer was lost
    mended = await sets.check(after(work, told))

    assert [(RouteState.broken, True)] * 2 == [(each.state, each.unfinished) for each in (told, again)]
    assert what in (told.reason or "")
    assert (RouteState.configured, None) == (mended.state, mended.reason)
    assert checked.found is not None
    assert mended.found is not None
    assert checked.found.keys() == mended.found.keys()
    assert RouteState.configured == (await sets.check(after(after(work, told), mended))).state


def drop(account: Account, work: RouteWork, what: str) -> None:
    ses = account.client("sesv2")
    if what == "the configuration set":
        ses.delete_configuration_set(ConfigurationSetName=ours(work))
    elif what == "its event destination":
        named = {"ConfigurationSetName": ours(work), "EventDestinationName": DESTINATION}
        ses.delete_configuration_set_event_destination(**named)
    else:
        account.client("sns").delete_topic(TopicArn=f"arn:aws:sns:{REGION}:{account.id}:{ours(work)}")


async def test_a_subscription_that_was_ended_is_told_of_and_made_again(
    sets: ConfigurationSets, account: Account, access: RoleAccess
) -> None:
    """SNS confirms nothing for a queue of ours, so a new subscription would not be noticed by itself."""
    work, checked = await made(sets, work_for(access))
    assert checked.topic is not None
    account.client("sns").unsubscribe(SubscriptionArn=checked.topic.subscription_arn)
    told = await sets.check(work)
    mended = await sets.check(after(work, told))

    assert (RouteState.broken, True) == (told.state, told.unfinished)
    assert "subscription" in (told.reason or "")
    assert RouteState.configured == mended.state
    assert "1" == attributes(account, work)["SubscriptionsConfirmed"]
