"""The commands for policies: `broker policy evaluate`."""

import sys

import click


@click.group()
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
