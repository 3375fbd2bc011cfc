"""The CloudFormation template of the broker's own account: what it makes, and that the code agrees with it."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from broker.connections import permissions
from broker.feedback import poller, queued, topics
from broker.ids import new_id
from broker.policies.context import Caller
from broker.sandbox import iam_policy
from broker.settings import Settings
from tests.deploy.template import TEMPLATE, Stack, load

ACCOUNT, REGION = "999999999999", "eu-west-1"
FUNCTIONS = {"Ref", "Fn::Sub", "Fn::GetAtt", "Fn::If", "Fn::Not", "Fn::Equals", "Fn::Join"}
# Required properties (CloudFormation Template Reference).
REQUIRED = {
    "AWS::SQS::Queue": set[str](),
    "AWS::SQS::QueuePolicy": {"PolicyDocument", "Queues"},
    "AWS::IAM::ManagedPolicy": {"PolicyDocument"},
    "AWS::Events::EventBusPolicy": {"StatementId"},
    "AWS::Events::Rule": {"EventPattern"},
    "AWS::CloudWatch::Alarm": {"ComparisonOperator", "EvaluationPeriods"},
}


@pytest.fixture
def stack() -> Stack:
    return Stack(account_id=ACCOUNT, region=REGION)


@pytest.fixture
def with_events() -> Stack:
    return Stack(account_id=ACCOUNT, region=REGION, EventAccounts="111111111111,222222222222")


def properties(stack: Stack, name: str) -> Any:
    return stack.resources[name]["Properties"]


def decide(stack: Stack, name: str, service: str, source_arn: str, *, tls: str = "true") -> str:
    """What a queue's policy says to a service that sends on behalf of a resource."""
    queue = name.removesuffix("Policy")
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{properties(stack, queue)['QueueName']}"
    document = json.dumps(properties(stack, name)["PolicyDocument"])
    keys = {"aws:sourcearn": (source_arn,), "aws:securetransport": (tls,)}
    return iam_policy.decide([document], "sqs:SendMessage", arn, caller=iam_policy.service(service), keys=keys)


def functions_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "Ref" or key.startswith("Fn::"):
                yield key
            yield from functions_in(each)
    if isinstance(value, list):
        for each in value:
            yield from functions_in(each)


def test_every_resource_is_of_a_known_type_with_what_it_requires(with_events: Stack) -> None:
    for name, resource in with_events.resources.items():
        assert REQUIRED[resource["Type"]] <= set(resource["Properties"]), name


def test_everything_that_is_referred_to_is_there() -> None:
    """Stack.worked_out raises KeyError for a parameter, condition or resource that is not."""
    for given in ({}, {"EventAccounts": "1", "KeyArn": "k", "BrokerRoleName": "r", "AlarmTopicArn": "t"}):
        stack = Stack(account_id=ACCOUNT, region=REGION, **given)

        assert set() == set(functions_in(stack.resources)) | set(functions_in(stack.outputs))
    assert set(functions_in(load())) <= FUNCTIONS


def test_every_parameter_and_condition_is_used() -> None:
    text = TEMPLATE.read_text()

    for name in (*load()["Parameters"], *load()["Conditions"]):
        assert len(re.findall(rf"\b{name}\b", text)) > 1, name


def test_what_is_in_a_queue_stays_for_fourteen_days_and_after_the_stack(with_events: Stack) -> None:
    for name in ("Feedback", "DeadLetters", "Events", "EventDeadLetters"):
        queue = with_events.resources[name]
        assert timedelta(days=14).total_seconds() == queue["Properties"]["MessageRetentionPeriod"]
        assert "Retain" == queue["DeletionPolicy"] == queue["UpdateReplacePolicy"]


def test_a_message_is_dead_after_five_receives_at_the_soonest(stack: Stack) -> None:
    redrive = properties(stack, "Feedback")["RedrivePolicy"]

    assert redrive["maxReceiveCount"] >= 5
    assert f"arn:aws:sqs:{REGION}:{ACCOUNT}:ses-delegation-broker-feedback-dead" == redrive["deadLetterTargetArn"]


def test_the_queue_waits_and_hides_as_the_poller_asks(stack: Stack) -> None:
    queue = properties(stack, "Feedback")

    assert poller.WAIT.total_seconds() == queue["ReceiveMessageWaitTimeSeconds"]
    assert poller.HIDDEN.total_seconds() == queue["VisibilityTimeout"]


def test_the_setting_that_it_gives_names_both_queues(stack: Stack, settings: Settings) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com"
    stack = Stack(account_id=ACCOUNT, region=REGION, queues_url=url)
    found = Settings(
        database_url="", secret_keys="", api_key_pepper="", feedback_queues=stack.outputs["FeedbackQueue"]
    ).queues[REGION]

    assert f"arn:aws:sqs:{REGION}:{ACCOUNT}:{properties(stack, 'Feedback')['QueueName']}" == found.arn
    assert f"arn:aws:sqs:{REGION}:{ACCOUNT}:{properties(stack, 'DeadLetters')['QueueName']}" == found.dead_arn
    assert stack.outputs["DeadLetterQueueUrl"] == found.dead_url


def test_the_setting_for_events_names_both_of_their_queues() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com"
    stack = Stack(account_id=ACCOUNT, region=REGION, queues_url=url, EventAccounts="111111111111")
    given = stack.outputs["EventQueue"]
    found = Settings(database_url="", secret_keys="", api_key_pepper="", event_queues=given).queues_of_events[REGION]

    assert f"arn:aws:sqs:{REGION}:{ACCOUNT}:{properties(stack, 'Events')['QueueName']}" == found.arn
    assert f"arn:aws:sqs:{REGION}:{ACCOUNT}:{properties(stack, 'EventDeadLetters')['QueueName']}" == found.dead_arn


def test_sns_may_send_from_the_topics_of_the_region_over_tls_only(stack: Stack) -> None:
    """Owners' own topics have any name; what is believed is decided by confirmation and signature."""

    def says(topic: str, *, tls: str = "true") -> str:
        return decide(stack, "FeedbackPolicy", "sns.amazonaws.com", topic, tls=tls)

    own = f"arn:aws:sns:{REGION}:{ACCOUNT}:{topics.topic_name(new_id())}"
    delegates = f"arn:aws:sns:{REGION}:111111111111:{permissions.PREFIX}feedback"
    owners = f"arn:aws:sns:{REGION}:111111111111:an-owners-own"

    assert "allow" == says(own) == says(delegates) == says(owners)
    assert "explicit_deny" == says(own, tls="false")
    assert "implicit_deny" == says(own.replace(REGION, "us-east-1"))
    assert "implicit_deny" == says(own.replace(":sns:", ":events:"))


def test_only_our_own_topics_may_fill_the_dead_letter_queue(stack: Stack) -> None:
    own = f"arn:aws:sns:{REGION}:{ACCOUNT}:{topics.topic_name(new_id())}"
    stranger = f"arn:aws:sns:{REGION}:123456789012:{permissions.PREFIX}stranger"

    assert "allow" == decide(stack, "DeadLettersPolicy", "sns.amazonaws.com", own)
    assert "implicit_deny" == decide(stack, "DeadLettersPolicy", "sns.amazonaws.com", stranger)
    assert "explicit_deny" == decide(stack, "DeadLettersPolicy", "sns.amazonaws.com", own, tls="false")


@pytest.mark.parametrize("policy", ["EventsPolicy", "EventDeadLettersPolicy"])
def test_eventbridge_may_send_from_our_own_rule_only_and_nobody_else_to_its_queues(
    with_events: Stack, policy: str
) -> None:
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/ses-delegation-broker-feedback"
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:{topics.topic_name(new_id())}"

    def says(arn: str, service: str = "events.amazonaws.com", *, tls: str = "true") -> str:
        return decide(with_events, policy, service, arn, tls=tls)

    assert ("allow", "explicit_deny") == (says(rule), says(rule, tls="false"))
    assert "implicit_deny" == says(rule.replace(ACCOUNT, "111111111111")) == says(topic, "sns.amazonaws.com")


@pytest.mark.parametrize("policy", ["FeedbackPolicy", "DeadLettersPolicy"])
def test_eventbridge_may_not_send_where_sns_may(with_events: Stack, policy: str) -> None:
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/ses-delegation-broker-feedback"

    assert "implicit_deny" == decide(with_events, policy, "events.amazonaws.com", rule)


def test_our_rule_leads_events_of_the_accounts_that_were_given_into_their_queue(with_events: Stack) -> None:
    rule = properties(with_events, "EventRule")
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:ses-delegation-broker-events"

    assert "ses-delegation-broker-feedback" == rule["Name"]
    pattern = rule["EventPattern"]
    assert (["aws.ses"], ["111111111111", "222222222222"]) == (pattern["source"], pattern["account"])
    assert set(queued.DETAIL_TYPES) == set(pattern["detail-type"])
    assert [(arn, f"{arn}-dead")] == [(each["Arn"], each["DeadLetterConfig"]["Arn"]) for each in rule["Targets"]]


def test_without_accounts_there_is_nothing_of_eventbridge(stack: Stack) -> None:
    assert [] == [name for name in (*stack.resources, *stack.outputs) if name.startswith("Event")]


def test_a_queue_is_encrypted_in_one_way_or_the_other(stack: Stack) -> None:
    keyed = Stack(account_id=ACCOUNT, region=REGION, KeyArn="arn:aws:kms:eu-west-1:999999999999:key/1")
    for name in ("Feedback", "DeadLetters"):
        assert (True, None) == tuple(properties(stack, name).get(k) for k in ("SqsManagedSseEnabled", "KmsMasterKeyId"))
        assert properties(keyed, name)["KmsMasterKeyId"].startswith("arn:aws:kms:")
        assert "SqsManagedSseEnabled" not in properties(keyed, name)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        *(
            (f"sqs:{action}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:ses-delegation-broker-{name}")
            for name in ("feedback", "events")
            for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes")
        ),
        ("sqs:GetQueueAttributes", f"arn:aws:sqs:{REGION}:{ACCOUNT}:ses-delegation-broker-feedback-dead"),
        ("sns:CreateTopic", f"arn:aws:sns:{REGION}:{ACCOUNT}:ses-delegation-broker-1"),
        ("sns:Subscribe", f"arn:aws:sns:{REGION}:111111111111:an-owners-own"),
        ("sts:AssumeRole", "arn:aws:iam::111111111111:role/SesDelegationBroker"),
    ],
)
def test_the_brokers_role_may_do_its_work(with_events: Stack, action: str, resource: str) -> None:
    document = json.dumps(properties(with_events, "BrokerPolicy")["PolicyDocument"])
    caller = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/broker", None, ())

    assert "allow" == iam_policy.decide([document], action, resource, caller=caller, keys={})
