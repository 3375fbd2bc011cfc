"""Calls of SES's slow kinds take turns; whoever takes access back waits for none of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
import pytest
import pytest_asyncio

from broker.connections import role_documents
from broker.errors import Unavailable
from broker.gateways.aws import Aws, Credentials
from broker.gateways.ses import SesGateway
from broker.gateways.sts import StsGateway
from broker.gateways.turns import LONGEST_TURN, Turns, takes_turns
from tests.connections.aws import Gateways, cloud, foreign_policy, gateways, owner_access
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Aws as LocalAws

__all__ = ["cloud", "gateways"]

KIND = ("111111111111", "eu-west-1", "set_identity_notification_topic")
LIMIT, RATE = 20, 2  # of SES and of ours, each second, so that a busy machine is no reason to fail


@pytest_asyncio.fixture
async def turning(gateways: Gateways, cloud: LocalAws) -> AsyncIterator[SesGateway]:
    """SES as it is asked in production, in a local AWS that has SES's limit."""
    made = cloud.control("POST", "accounts", {"account_id": gateways.settings.aws_account_id})
    own = Credentials(made["access_key_id"], made["secret_access_key"])
    aws = Aws(msgspec.structs.replace(gateways.settings, ses_call_rate=RATE), own=own)
    await aws.warm(REGION)  # else the second call would catch up with the first, which makes the client
    sts = StsGateway(aws, gateways.fetcher, gateways.settings)
    cloud.control("PATCH", "dialect", {"rate_limit_per_second": LIMIT})
    yield SesGateway(aws, sts, role_documents.session_policy, partition="aws")
    cloud.control("PATCH", "dialect", {"rate_limit_per_second": None})
    await aws.close()


def test_the_first_call_of_each_kind_goes_at_once() -> None:
    turns = Turns(1)
    kinds = [KIND, ("222222222222", *KIND[1:]), (KIND[0], "us-east-1", KIND[2]), (*KIND[:2], "get_configuration_set")]

    assert [0.0] * 4 == [turns.reserve(kind, 100.0) for kind in kinds]


def test_further_ones_follow_a_second_apart_and_who_is_far_back_comes_again() -> None:
    turns = Turns(1)
    waits = [turns.reserve(KIND, 100.0) for _ in range(3)]
    with pytest.raises(Unavailable, match="wait for their turn") as put_off:
        turns.reserve(KIND, 100.0)

    assert pytest.approx([0, 1.05, 2.1]) == waits
    assert put_off.value.retry_after is not None
    assert LONGEST_TURN < put_off.value.retry_after.total_seconds() < LONGEST_TURN + 1
    assert pytest.approx(0.15) == turns.reserve(KIND, 103.0)  # what was put off has taken no turn
    assert 0.0 == turns.reserve(KIND, 200.0)


async def test_who_has_waited_long_enough_in_all_goes_at_once() -> None:
    """A route with hundreds of identities does not outlive its lease: SES tells it to come back."""
    turns = Turns(0.5, in_all=1.0)

    async with asyncio.timeout(0):  # over as soon as anything is waited for
        for _ in range(2):
            await turns.take(*KIND)


@pytest.mark.parametrize(
    ("service", "operation", "expected"),
    [
        ("ses", "set_identity_notification_topic", True),
        ("ses", "get_identity_notification_attributes", True),
        ("sesv2", "create_configuration_set_event_destination", True),
        ("sesv2", "delete_email_identity_policy", False),
        ("sesv2", "create_email_identity_policy", False),
        ("sesv2", "get_email_identity_policies", False),
        ("sesv2", "send_email", False),
        ("sns", "subscribe", False),
        ("sts", "assume_role", False),
    ],
)
def test_calls_about_policies_take_no_turns(service: str, operation: str, *, expected: bool) -> None:
    assert expected is takes_turns(service, operation)


async def test_routes_of_one_account_do_not_run_into_the_limit_and_a_removal_waits_for_none(
    turning: SesGateway, cloud: LocalAws
) -> None:
    account, delegate = cloud.account(), cloud.account()
    document = foreign_policy(account.verify("example.com"), delegate.id)
    access = owner_access(account)
    await turning.create_policy(access, "example.com", "p", document)

    setting = [
        asyncio.create_task(turning.set_notification_topic(access, "example.com", kind, None))
        for kind in ("bounce", "complaint", "delivery")
    ]
    await turning.delete_policy(access, "example.com", "p")
    await asyncio.gather(*setting)

    calls = cloud.control("GET", f"calls?account_id={account.id}")
    came: dict[str, list[datetime]] = {}
    for each in calls:
        came.setdefault(each["operation"], []).append(datetime.fromisoformat(each["at"]))
    sets, (removed,) = came["SetIdentityNotificationTopic"], came["DeleteEmailIdentityPolicy"]
    assert {200} == {each["status"] for each in calls}
    assert 3 == len(sets)
    assert (sets[2] - sets[0]).total_seconds() > 1 / RATE
    assert removed < sets[2]
