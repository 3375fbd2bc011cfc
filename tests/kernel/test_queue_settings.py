"""The setting that names the queues."""

import pytest

from broker.configuration import load
from broker.settings import SettingsError

NEEDED = {
    "BROKER_DATABASE_URL": "postgresql+asyncpg://a:b@127.0.0.1/c",
    "BROKER_SECRET_KEYS": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "BROKER_API_KEY_PEPPER": "p" * 32,
    "BROKER_REGISTRATION": "open",
}
URL = "https://sqs.{}.amazonaws.com/123456789012/feedback"


def test_each_region_has_a_queue_and_its_dead_letter_queue() -> None:
    text = ", ".join(f"{region}={URL.format(region)}" for region in ("eu-west-1", "us-gov-west-1"))
    queues = load({**NEEDED, "BROKER_FEEDBACK_QUEUES": text, "BROKER_AWS_PARTITION": "aws-us-gov"}).queues

    assert ["eu-west-1", "us-gov-west-1"] == list(queues)
    assert "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:feedback" == queues["us-gov-west-1"].arn
    assert URL.format("eu-west-1") + "-dead" == queues["eu-west-1"].dead_url


def test_without_any_there_is_none() -> None:
    assert {} == load(NEEDED).queues


@pytest.mark.parametrize(
    "text",
    [
        "feedback",
        "eu-west-1",
        URL.format("eu-west-1"),
        "eu-west-1=https://sqs.eu-west-1.amazonaws.com/feedback",
        f"nowhere={URL.format('eu-west-1')}",
        f"eu-west-1={URL.format('eu-west-1')},eu-west-1={URL.format('eu-west-1')}2",
        "eu-west-1=https://sqs.eu-west-1.amazonaws.com/123456789012/feedback.fifo",
    ],
)
def test_what_names_no_queue_is_said_at_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="BROKER_FEEDBACK_QUEUES must be like"):
        load({**NEEDED, "BROKER_FEEDBACK_QUEUES": text})


def test_events_have_queues_of_their_own() -> None:
    url = URL.format("eu-west-1")
    found = load({**NEEDED, "BROKER_FEEDBACK_QUEUES": f"eu-west-1={url}", "BROKER_EVENT_QUEUES": f"eu-west-1={url}2"})

    assert ("eu-west-1", False) == (found.queues["eu-west-1"].label, found.queues["eu-west-1"].events)
    events = found.queues_of_events["eu-west-1"]
    assert ("eu-west-1 events", True, f"{url}2") == (events.label, events.events, events.url)


@pytest.mark.parametrize("sns", [URL.format("eu-west-1"), "http://localhost/123456789012/feedback"])
def test_a_queue_that_sns_may_send_to_is_never_read_as_one_of_events(sns: str) -> None:
    """Whatever host its URL names."""
    events = URL.format("eu-west-1")
    with pytest.raises(SettingsError, match="BROKER_EVENT_QUEUES names"):
        load({**NEEDED, "BROKER_FEEDBACK_QUEUES": f"eu-west-1={sns}", "BROKER_EVENT_QUEUES": f"eu-west-1={events}"})


def test_a_bad_queue_of_events_is_said_by_its_name() -> None:
    with pytest.raises(SettingsError, match="BROKER_EVENT_QUEUES must be like"):
        load({**NEEDED, "BROKER_EVENT_QUEUES": "eu-west-1"})
