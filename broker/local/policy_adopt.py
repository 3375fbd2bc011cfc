"""The command `broker policy adopt`: from a policy to the terms of a grant that means the same, or the reasons."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from broker.local.options import json_option
from broker.local.policy_lint import BAD, all_documents, as_json_text, give_up

# What judges is imported when it is needed: `broker --help` has to answer at once.

if TYPE_CHECKING:
    from broker.policies.adopt import Adoption


@click.command(
    short_help="Derive the terms of a grant from a policy.",
    epilog=(
        "Example: broker policy adopt agency.json --identity arn:aws:ses:eu-west-1:111111111111:identity/example.com "
        "--expires-at 2027-12-31"
    ),
)
@click.argument("file", metavar="FILE")
@click.option("--identity", "identity_arn", metavar="ARN", required=True, help="The identity that the policy hangs on.")
@click.option(
    "--expires-at",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    default=None,
    help="When the grant ends, in UTC; needed for a policy without an end.",
)
@json_option
def adopt(*, file: str, identity_arn: str, expires_at: datetime | None, as_json: bool) -> None:
    """Derive the terms of a grant that means the same as a policy, or say why there are none.

    FILE is one policy document, or a JSON object of names and documents; - is standard input. Nothing is sent
    anywhere: an owner replaces the policy by POST /v1/identities/{id}/policies/{name}/adopt. With --json the answer is
    an object of names, each with terms, reasons and narrows. The exit code is 1 when a policy has no terms, 2 when the
    file cannot be read.
    """
    from broker import clock
    from broker.policies.adopt import adopt as derive

    documents = all_documents([file])
    ends = expires_at.replace(tzinfo=UTC) if expires_at is not None else None
    try:
        found = {
            name: derive(document, identity_arn=identity_arn, now=clock.now(), expires_at=ends)
            for name, document in documents.items()
        }
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--identity") from error
    if not found:
        give_up(f"{file} holds no policy.")
    if as_json:
        click.echo(as_json_text(found))
    else:
        for name, adoption in found.items():
            _tell(name, adoption, identity_arn)
    sys.exit(BAD if any(each.terms is None for each in found.values()) else 0)


def _tell(name: str, adoption: "Adoption", identity_arn: str) -> None:
    from broker.policies.explain import explain

    if adoption.terms is None:
        click.secho(f"{name}: no terms mean the same.", bold=True)
        for reason in adoption.reasons:
            click.echo(f"{click.style('-', fg='red', bold=True)} {reason}")
        return
    click.secho(f"{name}: these terms mean the same.", bold=True)
    click.echo(as_json_text(adoption.terms))
    for said in explain(adoption.terms, identity_arn=identity_arn):
        click.echo(f"{click.style('+', fg='green', bold=True)} {said}")
    for narrower in adoption.narrows:
        click.echo(f"{click.style('!', fg='yellow', bold=True)} {narrower}")
