"""`broker policy lint`: sentences or JSON, and an exit code for scripts."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli import main

IDENTITY = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
STATEMENT: dict[str, object] = {
    "Effect": "Allow",
    "Principal": {"AWS": "222222222222"},
    "Action": ["ses:SendEmail", "ses:SendRawEmail"],
    "Resource": IDENTITY,
    "Condition": {
        "StringEquals": {"ses:FromAddress": "newsletter@example.com"},
        "DateLessThan": {"aws:CurrentTime": "9000-01-01T08:00:00Z"},
    },
}
GOOD = {"Version": "2012-10-17", "Statement": STATEMENT}
OPEN = {"Version": "2012-10-17", "Statement": {**STATEMENT, "Principal": "*"}}


def run(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["policy", "lint", *words, "--identity", IDENTITY], input=text)


def test_a_good_policy_ends_with_0() -> None:
    done = run("-", text=json.dumps(GOOD))

    assert (0, "1 policy: nothing to say.\n") == (done.exit_code, done.output)


def test_a_danger_ends_with_1_and_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "agency.json"
    file.write_text(json.dumps(OPEN))

    done = run(str(file))

    assert 1 == done.exit_code
    assert "danger open_principal  agency · 0\n    Anybody with an AWS account may do this" in done.output
    assert "Fix: Name the account" in done.output
    assert done.output.endswith("1 policy: 1 danger.\n")


def test_what_get_email_identity_policies_answers_is_taken(tmp_path: Path) -> None:
    """Names with documents as text, with and without the member that the AWS CLI prints around them."""
    named, answer = tmp_path / "named.json", tmp_path / "answer.json"
    named.write_text(json.dumps({"a": json.dumps(GOOD), "b": OPEN}))
    answer.write_text(json.dumps({"Policies": {"a": json.dumps(OPEN)}}))

    done = run(str(named), str(answer), "--json")

    said = json.loads(done.stdout)
    assert (1, False) == (done.exit_code, said["ok"])
    assert [("open_principal", "b"), ("open_principal", "a-2")] == [
        (each["code"], each["policy"]) for each in said["findings"]
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a":\n  x}', "broker: standard input is not JSON: Expecting value in line 2, column 3."),
        ("[1]", "broker: standard input holds no JSON object: give one policy document, or names with documents."),
        ("[" * 100_000, "broker: standard input is nested too deeply."),
        (" " * 1_100_000, "broker: - has more than 1048576 bytes; a policy has at most 4096."),
    ],
)
def test_what_is_no_policy_ends_with_2_and_a_sentence(text: str, sentence: str) -> None:
    done = run("-", text=text)

    assert (2, f"{sentence}\n") == (done.exit_code, done.stderr)


def test_a_file_that_is_not_there_and_one_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")

    assert "cannot be read: No such file" in run(str(tmp_path / "nothing")).stderr
    assert "is not UTF-8 (byte 0)" in run(str(tmp_path / "bytes")).stderr


def test_a_key_that_is_in_a_document_twice_is_found() -> None:
    done = run("-", text=json.dumps(GOOD)[:-1] + ', "Version": "2012-10-17"}')

    assert (1, True) == (done.exit_code, "'Version' appears twice" in done.output)


def test_help_has_an_example() -> None:
    shown = CliRunner().invoke(main, ["policy", "lint", "--help"])

    assert "Example: broker policy lint" in shown.output


def test_a_wrong_identity_is_a_wrong_option() -> None:
    done = CliRunner().invoke(main, ["policy", "lint", "-", "--identity", "example.com"], input=json.dumps(GOOD))

    assert (2, True) == (done.exit_code, "is not the ARN of an SES identity" in done.stderr)


def test_policies_are_explained() -> None:
    words = ("policy", "explain", "-", "--identity", IDENTITY)

    told = CliRunner().invoke(main, [*words], input=json.dumps(GOOD))
    as_json = CliRunner().invoke(main, [*words, "--json"], input=json.dumps(GOOD))

    assert told.output.startswith(
        "+ Account 222222222222 may use SendEmail and SendRawEmail, if From is newsletter@example.com and it is before "
        "1 Jan 9000 08:00 UTC.\n- Statement 0 permits nothing unless From is newsletter@example.com.\n"
    )
    assert "newsletter@example.com" == json.loads(as_json.stdout)["may"][0]["example"]["from"]


def test_what_is_no_policy_is_not_explained() -> None:
    done = CliRunner().invoke(main, ["policy", "explain", "-", "--identity", IDENTITY], input='{"Statement": []}')

    assert (2, "broker: The document has no statement.\n") == (done.exit_code, done.stderr)


@pytest.mark.parametrize(
    ("new", "code", "said"),
    [
        (GOOD, 0, "Both mean the same."),
        (OPEN, 1, "In all: widens."),
    ],
)
def test_two_versions_are_compared(tmp_path: Path, new: dict[str, object], code: int, said: str) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"Policies": {"a": json.dumps(GOOD)}}))

    done = CliRunner().invoke(main, ["policy", "diff", str(old), "-"], input=json.dumps(new))
    as_json = CliRunner().invoke(main, ["policy", "diff", str(old), "-", "--json"], input=json.dumps(new))

    assert (code, said) == (done.exit_code, done.output.splitlines()[-1]), done.output
    assert (code, bool(code)) == (as_json.exit_code, bool(json.loads(as_json.stdout)["changes"]))


def test_what_cannot_be_compared_ends_with_2(tmp_path: Path) -> None:
    none = tmp_path / "none.json"
    none.write_text('{"Statement": [{}]}')

    both = CliRunner().invoke(main, ["policy", "diff", "-", "-"], input="{}")
    bad = CliRunner().invoke(main, ["policy", "diff", str(none), str(none)])

    assert [2, 2] == [both.exit_code, bad.exit_code]
    assert "standard input" in both.output
