"""`broker trigger`: its scenarios, where it may act, and what it says when it cannot begin."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from broker.feedback.events import EVENT_TYPES
from broker.local.child import StartError
from broker.local.scenarios import ON_IDENTITY_TOPICS, STORIES, expected, repeats
from broker.local.trigger_place import Agreed, Grant, account_of, local_aws, sender_of
from broker.local.whereabouts import announced, find
from broker.policies.terms import FeedbackKind
from broker.sandbox.server import start_in_thread

NOW = datetime(2026, 2, 20, 10, tzinfo=UTC)
GRANT = Grant(
    id="01961e2c-6f3a-7c3e-9d5b-0a7d3c1f2e4b",
    state="active",
    you_are="delegate",
    identity_arn="arn:aws:ses:eu-west-1:111111111111:identity/example.com",
    terms=Agreed(["222222222222"]),
    activated_at=NOW,
)


def trigger(tmp_path: Path, *arguments: str) -> Result:
    """Runs the command to its end."""
    words = ["trigger", "--data-dir", str(tmp_path), *arguments]
    return CliRunner().invoke(main, words, env={"BROKER_API_KEY": "sdb_key"})


def events_of(name: str, *recipients: str, count: int = 1) -> dict[str, int]:
    """How many events of each type a story makes."""
    found: dict[str, int] = {}
    for (_, kind), number in expected(STORIES[name].compose(recipients, count)).items():
        found[kind] = found.get(kind, 0) + number
    return found


@pytest.mark.parametrize("kind", list(FeedbackKind))
def test_every_kind_of_feedback_has_a_scenario_named_after_its_event(kind: FeedbackKind) -> None:
    [[scene]] = STORIES[EVENT_TYPES[kind]].compose((), 1)

    assert {EVENT_TYPES[kind]: 1} == events_of(EVENT_TYPES[kind])
    assert (kind not in ON_IDENTITY_TOPICS) == scene.stands_in


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("soft-bounce", {"email.bounced": 1}),
        ("complaint-after-delivery", {"email.delivered": 1, "email.complained": 1}),
        ("out-of-order", {"email.complained": 1, "email.delivered": 1}),
        ("duplicate", {"email.bounced": 1}),
        ("both-paths", {"email.bounced": 1}),
        ("multi-recipient", {"email.bounced": 3}),
    ],
)
def test_a_story_makes_these_events(name: str, events: dict[str, int]) -> None:
    assert events == events_of(name)


def test_a_burst_is_of_as_many_mails_as_asked_for() -> None:
    assert {"email.delivered": 85, "email.bounced": 10, "email.complained": 5} == events_of("burst", count=100)


def test_recipients_can_be_given() -> None:
    assert {"email.bounced": 2} == events_of("email.bounced", "a@example.org", "b@example.org")
    assert {"email.opened": 1} == events_of("email.opened", "a@example.org", "b@example.org")
    assert {"email.bounced": 1} == events_of("email.bounced", "a@example.org", "A@example.org")


@pytest.mark.parametrize("name", sorted(STORIES))
def test_only_what_is_told_twice_repeats(name: str) -> None:
    assert (name in {"duplicate", "both-paths"}) == repeats(STORIES[name].compose((), 4))


def test_no_mail_is_older_than_its_grant() -> None:
    [[delivered], [complained]] = STORIES["complaint-after-delivery"].compose((), 1)

    assert (NOW - timedelta(days=2), NOW) == complained.times(NOW, earliest=NOW - timedelta(days=9))
    assert (NOW, NOW) == delivered.times(NOW, earliest=NOW)


def test_the_list_names_every_scenario(tmp_path: Path) -> None:
    done = trigger(tmp_path, "--list")

    assert done.exit_code == 0
    assert list(STORIES) == [line.split()[0] for line in done.output.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Say what to trigger"),
        (["email.bounced", "nonsense"], 2, "There is no scenario nonsense"),
        (["email.bounced"], 2, "No local run is under way"),
        (["email.bounced", "--api", "http://127.0.0.1:1"], 2, "say with --aws"),
        (["email.bounced", "--grant", "x"], 2, "is not a valid UUID"),
        (
            ["email.bounced", "--api", "http://127.0.0.1:1", "--aws", "https://sns.eu-west-1.amazonaws.com"],
            1,
            "local AWS only",
        ),
        (["email.bounced", "--api", "http://127.0.0.1:1", "--aws", "http://127.0.0.1:1"], 1, "does not answer"),
    ],
)
def test_what_cannot_begin_is_a_sentence(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = trigger(tmp_path, *arguments)

    assert code == done.exit_code
    assert said in done.output
    assert "Traceback" not in done.output


def test_an_api_that_is_not_there_is_a_sentence(tmp_path: Path, port: int) -> None:
    with start_in_thread() as aws:
        done = trigger(tmp_path, "email.bounced", "--api", f"http://127.0.0.1:{port}", "--aws", aws.url)

    assert done.exit_code == 1
    assert "does not answer: Connection refused. Is it running" in done.output


def test_a_broker_on_the_real_aws_is_left_alone(tmp_path: Path) -> None:
    with announced(tmp_path_of(tmp_path, "run-1"), api_url="http://127.0.0.1:1", aws_url=""):
        done = trigger(tmp_path, "email.bounced")

    assert done.exit_code == 1
    assert "works with the real AWS" in done.output


def tmp_path_of(tmp_path: Path, name: str) -> Path:
    """A run's directory."""
    directory = tmp_path / name
    directory.mkdir()
    return directory


def test_a_run_is_found_while_it_runs(tmp_path: Path) -> None:
    directory = tmp_path_of(tmp_path, "run-1")
    with announced(directory, api_url="http://127.0.0.1:1", aws_url="http://127.0.0.1:2"):
        found = find(tmp_path)
        modes = [oct(path.stat().st_mode)[-3:] for path in directory.iterdir()]

    assert found is not None
    assert ("http://127.0.0.1:1", "http://127.0.0.1:2", ["600"]) == (found.api_url, found.aws_url, modes)
    assert (None, []) == (find(tmp_path), list(directory.iterdir()))


def test_of_several_runs_one_has_to_be_named(tmp_path: Path) -> None:
    with (
        announced(tmp_path_of(tmp_path, "run-1"), api_url="http://127.0.0.1:1", aws_url=""),
        announced(tmp_path_of(tmp_path, "run-2"), api_url="http://127.0.0.1:2", aws_url=""),
    ):
        named = find(tmp_path, api_url="http://127.0.0.1:2")
        with pytest.raises(StartError, match="Several local runs"):
            find(tmp_path)

    assert named is not None


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', json.dumps({"pid": 2**22 + 1, "api_url": "", "aws_url": ""})])
def test_what_a_killed_run_left_behind_is_not_found(tmp_path: Path, text: str) -> None:
    (tmp_path_of(tmp_path, "run-1") / "running.json").write_text(text)

    assert find(tmp_path) is None
    assert os.getpid() < 2**22


@pytest.mark.parametrize("url", ["http://192.0.2.1:4566", "https://email.amazonaws.com", "http://", "nonsense"])
def test_only_this_machine_is_spoken_to(url: str) -> None:
    with pytest.raises(StartError, match="not on this machine"):
        local_aws(url)


@pytest.mark.parametrize(
    ("terms", "identity", "sender"),
    [
        ({"from_addresses": ["news@example.com"]}, "example.com", "news@example.com"),
        ({"from_addresses": ["*@example.com", "a@example.com"]}, "example.com", "a@example.com"),
        ({"from_addresses": ["*@example.com"]}, "example.com", "news@example.com"),
        ({}, "me@example.com", "me@example.com"),
        ({"from_display_names": ["Example *", "News"]}, "example.com", "News <news@example.com>"),
    ],
)
def test_the_sender_is_one_that_the_terms_allow(terms: dict[str, Any], identity: str, sender: str) -> None:
    arn = f"arn:aws:ses:eu-west-1:111111111111:identity/{identity}"
    grant = Grant(GRANT.id, "active", "owner", arn, Agreed(["222222222222"], **terms), NOW)

    assert sender == sender_of(grant)


@pytest.mark.parametrize(
    "principal", ["222222222222", "arn:aws:iam::222222222222:root", "arn:aws:iam::222222222222:role/x"]
)
def test_the_sending_account_is_that_of_the_first_principal(principal: str) -> None:
    grant = Grant(GRANT.id, "active", "owner", GRANT.identity_arn, Agreed([principal]), NOW)

    assert "222222222222" == account_of(grant)
