"""`broker simulate` and `broker explain-error`: what they say, and with which exit code."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import main
from broker.local.options import CALLS
from broker.policies.calls import Call
from tests.policies.examples import DELEGATE, IDENTITY, policy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy that allows one From address."""
    path = tmp_path / "policy.json"
    path.write_text(policy(Condition={"StringEquals": {"ses:FromAddress": "newsletter@example.com"}}, Sid="News"))
    return path


def simulated(file: Path, sender: str, *more: str) -> tuple[int, str]:
    words = ["simulate", str(file), "--identity", IDENTITY, "--from", sender, "--caller", DELEGATE, *more]
    found = CliRunner().invoke(main, words)
    return found.exit_code, found.output


def test_a_send_within_the_policy_is_allowed_and_the_statement_named(file: Path) -> None:
    code, said = simulated(file, "News <newsletter@example.com>")

    assert code == 0
    assert "statement News" in said
    assert "unknown  owner_sandbox" in said


def test_a_send_outside_of_it_is_refused_with_the_reason(file: Path) -> None:
    code, said = simulated(file, "ceo@example.com", "--json")

    found = json.loads(said)
    assert (1, False, "implicit_deny") == (code, found["allowed"], found["decision"]["decision"])
    assert "ceo@example.com" in found["decision"]["reason"]


def test_a_policy_that_says_two_things_at_once_is_refused(file: Path) -> None:
    """Readers differ in which of two keys they take (RFC 8259, section 4), so nobody can say what SES would."""
    file.write_text(file.read_text().replace('"Effect"', '"Effect":"Deny","Effect"', 1))
    code, said = simulated(file, "newsletter@example.com")

    assert (1, True) == (code, said.startswith("broker: "))
    assert "'Effect' appears twice" in said


@pytest.mark.parametrize(
    "more", [("--at", "yesterday"), ("--source-ip", "1" * 100), ("--caller", "somebody"), ("--identity", "x")]
)
def test_what_cannot_be_asked_is_told_in_a_sentence(file: Path, more: tuple[str, ...]) -> None:
    code, said = simulated(file, "ceo@example.com", *more)

    assert code == 1
    assert said.startswith("broker: ")


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text("{")

    code, said = simulated(path, "ceo@example.com")

    assert (1, True) == (code, "bad.json" in said)


def test_every_call_can_be_asked_about() -> None:
    assert tuple(call.value for call in Call) == CALLS


def test_an_error_is_explained_from_words_and_from_stdin() -> None:
    text = "Unknown or unapplicable condition field 'AWS:SourceAccount'"

    given = CliRunner().invoke(main, ["explain-error", text])
    piped = CliRunner().invoke(main, ["explain-error"], input=text)

    assert given.output == piped.output
    assert "Fix: Write aws:SourceAccount." in given.output
