"""The commands about policies and sends: `broker policy evaluate`, `broker simulate`, `broker explain-error`."""

import sys
from pathlib import Path
from typing import Any

import click

from broker.local.options import CALLS

# What answers is imported when it is needed: `broker --help` has to answer at once.


@click.group(short_help="Ask what SES policies mean, without AWS.")
def policy() -> None:
    """Ask what sending-authorization policies mean, without AWS and without a broker."""


@policy.command()
def evaluate() -> None:
    """Decide sends by the policies of an identity: JSON lines in, JSON lines out, in the same order.

    \b
    In, one object a line:
      id             anything; it comes back as it is
      policies       a list of all policies of the identity, as objects or as texts
      identity_arn   arn:aws:ses:REGION:ACCOUNT:identity/NAME
      send           action (ses:SendEmail), caller_account, caller_arn, caller_service, from,
                     from_display_name, feedback_address, recipients, time, source_ip,
                     secure_transport, and context: any other condition key with its value

    All of send but the action may be absent or null, which means that the key is not in the request. A time is a text
    of ISO 8601 (UTC where it has no offset) or epoch seconds. A context value may be a list; null takes a key away.

    \b
    Out:
      {"id", "decision": "allow" | "explicit_deny" | "implicit_deny", "statement", "reason"}
      {"id", "error"} for a line that cannot be answered; the rest goes on

    The statement is named by its Sid, or by its place in the document from 0; for an implicit deny it is the Allow that
    came closest, if there is any. This is the identity's side alone: across accounts the caller's own IAM policy has to
    allow the send as well. Unknown fields of a line are passed over, those of send are errors. Empty lines get no
    answer. A policy of more than 16,384 characters (SES takes 4,096 bytes) and a line of more than 16 MiB are errors.

    \b
    Example:
      echo '{"id": 1, "identity_arn": "arn:aws:ses:eu-west-1:111122223333:identity/example.com",
      "policies": [{"Version": "2012-10-17", "Statement": [{"Sid": "news", "Effect": "Allow",
      "Principal": {"AWS": "444455556666"}, "Action": "ses:SendEmail",
      "Resource": "arn:aws:ses:eu-west-1:111122223333:identity/example.com",
      "Condition": {"StringEquals": {"ses:FromAddress": "newsletter@example.com"}}}]}],
      "send": {"action": "ses:SendEmail", "caller_account": "444455556666",
      "from": "ceo@example.com"}}' | tr -d '\\n' | broker policy evaluate
    \b
      {"id":1,"decision":"implicit_deny","statement":"news",
      "reason":"From `ceo@example.com` does not match `newsletter@example.com`."}
    """
    from broker.local.policy_lines import answer_all, hand_over

    with hand_over(sys.stdout.buffer) as out:
        answer_all(sys.stdin.buffer, out)


@click.command(short_help="Would SES allow this send?")
@click.argument("files", nargs=-1, required=True, metavar="POLICY…", type=click.Path(path_type=Path, exists=True))
@click.option("--identity", metavar="ARN", required=True, help="The identity that the policies are on.")
@click.option("--from", "sender", metavar="HEADER", required=True, help="The From header.")
@click.option("--caller", metavar="WHO", required=True, help="Account id, or the ARN of a user, role or session.")
@click.option("--call", type=click.Choice(CALLS), default="v2_send_email_simple", show_default=True)
@click.option("--to", "recipients", multiple=True, metavar="ADDRESS", help="Repeat it for several recipients.")
@click.option("--return-path", metavar="ADDRESS", help="Where bounces go.")
@click.option("--region", metavar="REGION", help="The Region that the send goes through.")
@click.option("--source-ip", metavar="IP", help="Where the call comes from.")
@click.option("--at", metavar="TIME", help="When, such as 2026-03-01T12:00:00Z; default now.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def simulate(*, files: tuple[Path, ...], identity: str, as_json: bool, **send: Any) -> None:
    """Would SES allow this send under the policies in these files? Exit code 0 for yes, 1 for no.

    Names the statement that decided, or what came closest, and what else has to be looked at. Under a grant, with what
    SES is known to hold: POST /v1/simulations.
    """
    from broker.local.sending import simulated

    allowed, said = simulated(files, identity, send, as_json=as_json)
    click.echo(said)
    sys.exit(0 if allowed else 1)


@click.command("explain-error", short_help="Say what is behind an error text of SES.")
@click.argument("text", nargs=-1)
@click.option("--identity", metavar="ARN", help="The identity that was sent from, for a closer look.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain_error(*, text: tuple[str, ...], identity: str | None, as_json: bool) -> None:
    """Say what is behind an error text of SES, likeliest cause first. Without TEXT it is read from stdin."""
    from broker.local.sending import explained

    told = " ".join(text) or sys.stdin.read()
    if not told.strip():
        raise click.UsageError("Give the error text, as TEXT or on standard input.")
    click.echo(explained(told, identity, as_json=as_json))
