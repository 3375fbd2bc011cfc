"""`broker policy adopt`: terms or reasons, and an exit code for scripts."""

import json

import msgspec
import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from broker.policies.adopt import Adoption
from tests.local.test_policy_lint import GOOD, IDENTITY, OPEN, STATEMENT


def run(document: object, *words: str) -> Result:
    return CliRunner().invoke(
        main, ["policy", "adopt", "-", "--identity", IDENTITY, *words], input=json.dumps(document)
    )


def test_terms_are_printed_with_what_they_permit() -> None:
    done = run(GOOD, "--expires-at", "2100-01-01")

    assert 0 == done.exit_code, done.output
    assert "stdin: these terms mean the same." in done.output
    assert '"from_addresses": [\n    "newsletter@example.com"\n  ]' in done.output
    assert "! The policy ends on 1 Jan 9000 08:00 UTC, or with that second; the grant ends on" in done.output


def test_reasons_end_with_1() -> None:
    done = run(OPEN)

    assert 1 == done.exit_code
    assert "stdin: no terms mean the same.\n- Statement 0 lets anybody send; terms name who may.\n" == done.output


def test_json_names_each_policy() -> None:
    endless = {"Version": "2012-10-17", "Statement": {**STATEMENT, "Condition": {}}}

    done = run({"agency": endless, "all": OPEN}, "--json", "--expires-at", "2100-01-01T00:00:00Z")

    said = msgspec.json.decode(done.stdout, type=dict[str, Adoption])
    assert (1, ["agency", "all"]) == (done.exit_code, list(said))
    assert said["agency"].terms is not None
    assert (("222222222222",), ()) == (said["agency"].terms.principals, said["agency"].reasons)
    assert (None, 1) == (said["all"].terms, len(said["all"].reasons))


@pytest.mark.parametrize("words", [["--identity", "example.com"], ["--expires-at", "soon"]])
def test_what_makes_no_sense_names_its_option(words: list[str]) -> None:
    done = run(GOOD, *words)

    assert (2, True) == (done.exit_code, words[0] in done.output)


def test_what_is_no_json_ends_with_2() -> None:
    done = CliRunner().invoke(main, ["policy", "adopt", "-", "--identity", IDENTITY], input="{")

    assert (2, "") == (done.exit_code, done.stdout)
