"""The commands `broker policy lint`, `explain` and `diff`: files in, findings or sentences out; no database, no AWS."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from broker.local.options import json_option

# What judges is imported when it is needed: `broker --help` has to answer at once.

if TYPE_CHECKING:
    from broker.policies.findings import Finding

BAD, UNREADABLE = 1, 2
STDIN = "-"
MAX_BYTES = 1_048_576  # of one file; 20 policies of 4 KB, written with white space, have a tenth of it
_EFFECTS = {"widens": "red", "narrows": "green", "alters": "yellow", "neither": None}
_COLOURS = {"error": "red", "danger": "red", "warning": "yellow", "note": "blue"}


@click.command(
    short_help="Say what is wrong with policies.",
    epilog=(
        "Example: broker policy lint agency.json --identity arn:aws:ses:eu-west-1:111111111111:identity/example.com"
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--identity", "identity_arn", metavar="ARN", required=True, help="The identity that the policies hang on."
)
@json_option
def lint(*, files: tuple[str, ...], identity_arn: str, as_json: bool) -> None:
    """Say what SES would refuse in policies, what is dangerous and what is of no use, with the fix for each.

    A FILE is one policy document, or a JSON object of names and documents, which is what GetEmailIdentityPolicies
    answers; - is standard input. All files are taken as policies of the one identity. The exit code is 1 when there
    are errors or dangers, 2 when a file cannot be read.
    """
    from broker import clock
    from broker.policies.lint import is_bad
    from broker.policies.lint import lint as judge

    documents = all_documents(files)
    try:
        findings = judge(documents, identity_arn=identity_arn, now=clock.now())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--identity") from error
    if as_json:
        click.echo(as_json_text({"ok": not is_bad(findings), "findings": findings}))
    else:
        _tell(findings, len(documents))
    sys.exit(BAD if is_bad(findings) else 0)


@click.command(
    short_help="Say in plain words what policies permit.",
    epilog=(
        "Example: broker policy explain agency.json --identity arn:aws:ses:eu-west-1:111111111111:identity/example.com"
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--identity", "identity_arn", metavar="ARN", required=True, help="The identity that the policies hang on."
)
@json_option
def explain(*, files: tuple[str, ...], identity_arn: str, as_json: bool) -> None:
    """Say in plain words what policies permit together, and what they refuse.

    FILE is as for `broker policy lint`. With --json each sentence comes with a send that shows it. The exit code is 2
    when a file cannot be read or is no policy.
    """
    from broker import clock
    from broker.policies.arns import parse_identity_arn
    from broker.policies.document import DocumentError
    from broker.policies.explain_policies import explain_policies

    documents = all_documents(files)
    try:
        parse_identity_arn(identity_arn)
        said = explain_policies(list(documents.values()), identity_arn=identity_arn, now=clock.now())
    except DocumentError as error:
        give_up(str(error))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--identity") from error
    if as_json:
        click.echo(as_json_text(said))
        return
    for sign, colour, claims in (("+", "green", said.may), ("-", "red", said.cannot)):
        for claim in claims:
            click.echo(f"{click.style(sign, fg=colour, bold=True)} {claim.sentence}")


@click.command(
    short_help="Say what is different between policies.", epilog="Example: broker policy diff old.json new.json"
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@json_option
def diff(*, old: str, new: str, as_json: bool) -> None:
    """Say what NEW permits or refuses beside OLD, by what the policies mean and not by how they are written.

    Each is a file as for `broker policy lint`: one policy document, or names with documents; - is standard input for
    one of them. The exit code is 0 where both mean the same, 1 where they differ, 2 when a file cannot be read or is no
    policy.
    """
    from broker.policies.changes import Change, verdict
    from broker.policies.diff_policies import diff_policies
    from broker.policies.document import DocumentError

    if old == new == "-":
        give_up("standard input can be one of the two only.")
    before, after = (list(all_documents([file]).values()) for file in (old, new))
    try:
        changes = diff_policies(before, after)
    except DocumentError as error:
        give_up(str(error))
    effect = verdict(Change(each.text, each.effect) for each in changes)
    if as_json:
        click.echo(as_json_text({"effect": effect, "changes": changes}))
    else:
        for each in changes:
            click.echo(f"{click.style(each.effect, fg=_EFFECTS[each.effect], bold=True)} {each.statement}: {each.text}")
        click.echo(f"In all: {effect}." if changes else "Both mean the same.")
    sys.exit(1 if changes else 0)


def all_documents(files: Sequence[str]) -> dict[str, str]:
    """The policies of all files by name."""
    documents: dict[str, str] = {}
    for file in files:
        for name, document in _documents(file).items():
            documents[_free(name, documents)] = document
    return documents


def _documents(file: str) -> dict[str, str]:
    """The policies of one file by name."""
    text, shown = _read(file), "standard input" if file == STDIN else file
    try:
        raw = json.loads(text)
    except RecursionError:
        give_up(f"{shown} is nested too deeply.")
    except json.JSONDecodeError as error:
        give_up(f"{shown} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}.")
    if not isinstance(raw, dict):
        give_up(f"{shown} holds no JSON object: give one policy document, or names with documents.")
    answer = raw.get("Policies", raw)  # as `aws sesv2 get-email-identity-policies` prints it
    if isinstance(answer, dict) and answer and not _looks_like_a_policy(answer):
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in answer.items()}
    # The text itself, and not what was read: a key that is in it twice is to be found.
    return {_name_of(file): text}


def _looks_like_a_policy(raw: dict[str, Any]) -> bool:
    return not all(isinstance(value, dict) or _holds_object(value) for value in raw.values())


def _holds_object(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("{")


def _name_of(file: str) -> str:
    stem = "stdin" if file == STDIN else Path(file).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", stem)[:64] or "policy"


def _free(name: str, taken: dict[str, str]) -> str:
    """Two files may hold policies of one name: the second gets a number."""
    number = 2
    chosen = name
    while chosen in taken:
        chosen, number = f"{name}-{number}", number + 1
    return chosen


def _read(file: str) -> str:
    try:
        with click.open_file(file, "rb") as stream:
            content: bytes = stream.read(MAX_BYTES + 1)
    except OSError as error:
        give_up(f"{file} cannot be read: {error.strerror}.")
    if len(content) > MAX_BYTES:
        give_up(f"{file} has more than {MAX_BYTES} bytes; a policy has at most 4096.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        give_up(f"{file} is not UTF-8 (byte {error.start}).")


def give_up(sentence: str) -> NoReturn:
    click.echo(f"broker: {sentence}", err=True)
    sys.exit(UNREADABLE)


def as_json_text(answer: object) -> str:
    import msgspec

    return json.dumps(msgspec.to_builtins(answer), indent=2, ensure_ascii=False)


def _tell(findings: "Sequence[Finding]", policies: int) -> None:
    from broker.policies.wording import counted, listed

    for each in findings:
        place = " · ".join(part for part in (each.policy, each.statement, each.condition) if part)
        click.echo(f"{click.style(each.severity, fg=_COLOURS[each.severity], bold=True)} {each.code}  {place}")
        click.echo(f"    {each.detail}")
        click.echo(f"    {click.style('Fix:', bold=True)} {each.fix}")
    severities = list(dict.fromkeys(each.severity for each in findings))
    sums = [counted(sum(each.severity is severity for each in findings), severity) for severity in severities]
    looked = "1 policy" if policies == 1 else f"{policies} policies"
    click.echo(f"{looked}: {listed(sums) if sums else 'nothing to say'}.")
