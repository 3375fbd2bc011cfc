"""The export: the same policy in three forms, quoted so that nothing in it can act."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from broker.policies.export import Format, export, policy_name, render
from broker.policies.normal import same_meaning
from broker.policies.plan import is_ours
from broker.policies.terms import Terms
from broker.policies.validate import refusals
from tests.policies.examples import GRANT, IDENTITY, compiled, good_terms, terms

AWKWARD = (
    "O'Brien $(id) `id`",
    '"; rm -rf /; "',
    "%{ if true }x%{ endif }",
    "${path}".replace("$", "$$"),
    "Zoë \\ Söhne",
)


def of_shell(text: str) -> str:
    """The document that the script gives to SES, as a shell reads it."""
    words = shlex.split(text, comments=True)
    return next(word for word in words if word.startswith("policy=")).removeprefix("policy=")


def of_terraform(text: str) -> str:
    """The document that Terraform makes: an object of its language is JSON with `=`, and texts undo `$${` and `%%{`."""
    body = text[text.index("jsonencode(") + len("jsonencode(") : text.rindex(")")]
    strings: list[str] = []

    def keep(found: re.Match[str]) -> str:
        assert not re.search(r"(?<!\$)\$\{|(?<!%)%\{", found[0])  # a template would be evaluated
        strings.append(found[0].replace("$${", "${").replace("%%{", "%{"))
        return f"@{len(strings) - 1}@"

    skeleton = re.sub(r'"(?:[^"\\]|\\.)*"', keep, body)
    skeleton = re.sub(r"(@\d+@) = ", r"\1: ", skeleton)
    skeleton = re.sub(r"([@\]}])\n(\s*@)", r"\1,\n\2", skeleton)
    return re.sub(r"@(\d+)@", lambda found: strings[int(found[1])], skeleton)


@given(good_terms())
def test_all_forms_hold_the_compiled_policy(agreed: Terms) -> None:
    exported = export(agreed, grant_id=GRANT, identity_arn=IDENTITY)
    wanted = compiled(agreed)

    assert same_meaning(of_shell(render(exported, Format.shell)), wanted)
    assert same_meaning(of_terraform(render(exported, Format.terraform)), wanted)
    plain = json.loads(render(exported, Format.json))
    assert same_meaning(json.dumps(plain["policy"]), wanted)
    assert msgspec.convert(plain["terms"], Terms) == agreed


@pytest.mark.parametrize("name", AWKWARD)
def test_no_text_can_leave_its_quotes(name: str) -> None:
    agreed = msgspec.structs.replace(terms(), from_display_names=(name,))
    exported = export(agreed, grant_id=GRANT, identity_arn=IDENTITY)

    for document in (of_shell(render(exported, Format.shell)), of_terraform(render(exported, Format.terraform))):
        (statement,) = json.loads(document)["Statement"]
        (held,) = {
            value
            for condition in statement["Condition"].values()
            for key, value in condition.items()
            if key == "ses:FromDisplayName"
        }
        assert name == held


def test_what_ses_holds_is_shown_as_it_is(tmp_path: Path) -> None:
    """The echo of some shells, dash among them, reads backslashes."""
    agreed = msgspec.structs.replace(terms(), from_display_names=("a\\nb",))
    exported = export(agreed, grant_id=GRANT, identity_arn=IDENTITY)
    held = json.dumps(exported.policy)
    aws = tmp_path / "aws"
    account = IDENTITY.split(":")[4]
    answers = f"get-caller-identity) echo {account} ;; get-*) printf '%s\\n' {shlex.quote(held)} ;;"
    aws.write_text(f'#!/bin/sh\ncase "$2" in {answers} esac\n')
    aws.chmod(0o755)

    path = f"{tmp_path}:{os.environ['PATH']}"
    script = render(exported, Format.shell)
    done = subprocess.run(["/bin/sh"], input=script, env={"PATH": path}, capture_output=True, text=True, check=True)

    assert exported.policy == json.loads(done.stdout)


def test_the_name_is_one_that_ses_takes_and_the_broker_never_touches() -> None:
    """The broker removes every policy under its own prefix that it does not want."""
    name = policy_name(GRANT)

    assert [] == refusals(compiled(terms()), identity_arn=IDENTITY, name=name)
    assert not is_ours(name)


def test_each_form_warns_of_two_managers() -> None:
    exported = export(terms(), grant_id=GRANT, identity_arn=IDENTITY)

    assert all("never both" in render(exported, form) for form in (Format.terraform, Format.shell))
