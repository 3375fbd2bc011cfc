"""Configuration sets and event destinations, in both versions of the API."""

from typing import Any

import pytest

from tests.sandbox.aws import Account, Aws, allow, refusal


@pytest.fixture
def sender(aws: Aws) -> Account:
    account = aws.account()
    account.client("sesv2").create_configuration_set(ConfigurationSetName="mine")
    return account


def destination(topic: str, *kinds: str) -> dict[str, Any]:
    return {"Enabled": True, "MatchingEventTypes": list(kinds), "SnsDestination": {"TopicArn": topic}}


def listed(sender: Account) -> list[dict[str, Any]]:
    found = sender.client("sesv2").get_configuration_set_event_destinations(ConfigurationSetName="mine")
    return list(found["EventDestinations"])


def create(sender: Account, given: dict[str, Any], name: str = "broker") -> None:
    sender.client("sesv2").create_configuration_set_event_destination(
        ConfigurationSetName="mine", EventDestinationName=name, EventDestination=given
    )


def test_a_destination_lives_and_dies(sender: Account) -> None:
    topic = sender.make_topic("events", publishers=sender.id)
    v2 = sender.client("sesv2")

    create(sender, destination(topic, "BOUNCE"))
    after_create = listed(sender)
    v2.update_configuration_set_event_destination(
        ConfigurationSetName="mine",
        EventDestinationName="broker",
        EventDestination=destination(topic, "BOUNCE", "COMPLAINT"),
    )
    after_update = listed(sender)
    v2.delete_configuration_set_event_destination(ConfigurationSetName="mine", EventDestinationName="broker")

    assert [{"Name": "broker"} | destination(topic, "BOUNCE")] == after_create
    assert after_update[0]["MatchingEventTypes"] == ["BOUNCE", "COMPLAINT"]
    assert listed(sender) == []


def test_a_new_topic_hears_a_text_that_is_no_json(sender: Account) -> None:
    topic = sender.make_topic("events", publishers=sender.id)
    queue = sender.make_queue("events", topic)

    create(sender, destination(topic, "BOUNCE"))

    assert queue.receive()[0]["Message"] == "Successfully validated SNS topic for Amazon SES event publishing."


def test_a_destination_is_created_once_and_changed_only_if_there(sender: Account) -> None:
    topic = sender.make_topic("events", publishers=sender.id)
    given = destination(topic, "BOUNCE")
    create(sender, given)

    again = refusal(lambda: create(sender, given))
    missing = refusal(
        lambda: sender.client("sesv2").update_configuration_set_event_destination(
            ConfigurationSetName="mine", EventDestinationName="none", EventDestination=given
        )
    )

    assert (again[0], missing[0]) == ("AlreadyExistsException", "NotFoundException")


def test_topics_that_ses_cannot_publish_to_are_refused(sender: Account) -> None:
    silent = sender.make_topic("silent")

    without_policy = refusal(lambda: create(sender, destination(silent, "BOUNCE")))
    missing = refusal(lambda: create(sender, destination(f"{silent}-missing", "BOUNCE")))

    assert "BadRequestException" == without_policy[0] == missing[0]
    assert listed(sender) == []


def test_a_set_has_at_most_ten_destinations(sender: Account) -> None:
    topic = sender.make_topic("events", publishers=sender.id)
    for number in range(10):
        create(sender, destination(topic, "BOUNCE"), f"broker-{number}")

    assert refusal(lambda: create(sender, destination(topic, "BOUNCE"), "one-more"))[0] == "LimitExceededException"


def test_exactly_one_target_is_given(sender: Account) -> None:
    topic = sender.make_topic("events", publishers=sender.id)
    two = destination(topic, "BOUNCE") | {
        "EventBridgeDestination": {"EventBusArn": "arn:aws:events:eu-west-1:1:event-bus/default"}
    }

    assert refusal(lambda: create(sender, two))[0] == "BadRequestException"
    assert (
        refusal(lambda: create(sender, {"Enabled": True, "MatchingEventTypes": ["BOUNCE"]}))[0] == "BadRequestException"
    )


def bus(account_id: str, name: str = "default") -> dict[str, Any]:
    target = {"EventBusArn": f"arn:aws:events:eu-west-1:{account_id}:event-bus/{name}"}
    return {"Enabled": True, "MatchingEventTypes": ["BOUNCE"], "EventBridgeDestination": target}


def dimension(**changes: str) -> dict[str, Any]:
    given = {"DimensionName": "campaign", "DimensionValueSource": "MESSAGE_TAG", "DefaultDimensionValue": "none"}
    target = {"DimensionConfigurations": [given | changes]}
    return {"Enabled": True, "MatchingEventTypes": ["BOUNCE"], "CloudWatchDestination": target}


def test_only_the_default_bus_of_ones_own_account_is_taken(sender: Account) -> None:
    create(sender, bus(sender.id))
    own = refusal(lambda: create(sender, bus(sender.id, "own"), "other"))
    theirs = refusal(lambda: create(sender, bus("222222222222"), "other"))

    assert "BadRequestException" == own[0] == theirs[0]


@pytest.mark.parametrize(
    "wrong", [{"DimensionName": "a b"}, {"DefaultDimensionValue": "a b"}, {"DimensionName": "x" * 257}]
)
def test_dimensions_are_checked(sender: Account, wrong: dict[str, str]) -> None:
    """SES API v2, CloudWatchDimensionConfiguration."""
    create(sender, dimension(DefaultDimensionValue="a@b.c_d-e"))

    assert "BadRequestException" == refusal(lambda: create(sender, dimension(**wrong), "other"))[0]


@pytest.mark.parametrize("passed_to", ["ses.amazonaws.com", "firehose.amazonaws.com"])
def test_a_firehose_role_must_be_passed_to_ses(aws: Aws, sender: Account, passed_to: str) -> None:
    """Service Authorization Reference, Amazon SES: iam:PassRole with iam:PassedToService ses.amazonaws.com."""
    trust = allow("sts:AssumeRole", principal={"Service": "ses.amazonaws.com"})
    role = sender.make_role("stream", trust)
    statements = [
        {"Effect": "Allow", "Action": "ses:*", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": role,
            "Condition": {"StringEquals": {"iam:PassedToService": passed_to}},
        },
    ]
    _, keys = sender.make_user("maker", policy={"Version": "2012-10-17", "Statement": statements})
    stream = f"arn:aws:firehose:eu-west-1:{sender.id}:deliverystream/events"
    target = {"IamRoleArn": role, "DeliveryStreamArn": stream}
    given = {"Enabled": True, "MatchingEventTypes": ["BOUNCE"], "KinesisFirehoseDestination": target}

    def make() -> None:
        sender.client("sesv2", keys=keys).create_configuration_set_event_destination(
            ConfigurationSetName="mine", EventDestinationName="stream", EventDestination=given
        )

    if passed_to == "ses.amazonaws.com":
        make()
        assert [{"Name": "stream"} | given] == listed(sender)
    else:
        assert "iam:PassRole" in refusal(make)[1]


def test_delivery_options_are_stored(sender: Account) -> None:
    v2 = sender.client("sesv2")
    v2.put_configuration_set_delivery_options(ConfigurationSetName="mine", TlsPolicy="REQUIRE")

    assert {"TlsPolicy": "REQUIRE"} == v2.get_configuration_set(ConfigurationSetName="mine")["DeliveryOptions"]


def test_tags_need_a_right_of_their_own(sender: Account) -> None:
    policy = allow("ses:CreateConfigurationSet", "*")
    _, keys = sender.make_user("maker", policy=policy)
    v2 = sender.client("sesv2", keys=keys)
    refused = refusal(lambda: v2.create_configuration_set(ConfigurationSetName="a", Tags=[{"Key": "k", "Value": "v"}]))
    v2.create_configuration_set(ConfigurationSetName="b")

    assert "ses:TagResource" in refused[1]


def test_version_1_sees_the_same_sets_in_its_own_words(sender: Account) -> None:
    topic = sender.make_topic("events", publishers=sender.id)
    v1 = sender.client("ses")
    given = {
        "Name": "old",
        "Enabled": True,
        "MatchingEventTypes": ["bounce", "renderingFailure"],
        "SNSDestination": {"TopicARN": topic},
    }

    v1.create_configuration_set_event_destination(ConfigurationSetName="mine", EventDestination=given)

    found = v1.describe_configuration_set(
        ConfigurationSetName="mine", ConfigurationSetAttributeNames=["eventDestinations"]
    )
    assert [given] == found["EventDestinations"]
    assert listed(sender)[0]["MatchingEventTypes"] == ["BOUNCE", "RENDERING_FAILURE"]


def test_sets_are_created_once_listed_and_deleted(sender: Account) -> None:
    v2 = sender.client("sesv2")

    again = refusal(lambda: v2.create_configuration_set(ConfigurationSetName="mine"))
    before = v2.list_configuration_sets()["ConfigurationSets"]
    v2.delete_configuration_set(ConfigurationSetName="mine")

    assert again[0] == "AlreadyExistsException"
    assert before == ["mine"]
    assert refusal(lambda: v2.get_configuration_set(ConfigurationSetName="mine"))[0] == "NotFoundException"
