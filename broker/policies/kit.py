"""The sending kit of a grant: what the delegate pastes into its program, and what its own account must allow."""

import json
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from broker.policies import snippets
from broker.policies.calls import CALLS, Call
from broker.policies.samples import CONFIGURATION_SET, TEMPLATE, Sample, sample
from broker.policies.terms import ACTION_TO_IAM, Action, Terms


class Format(StrEnum):
    """One snippet of the kit."""

    boto3_v2 = "boto3_v2"
    boto3_v2_raw = "boto3_v2_raw"
    boto3_v2_template = "boto3_v2_template"
    boto3_v2_bulk = "boto3_v2_bulk"
    boto3_v1 = "boto3_v1"
    boto3_v1_raw = "boto3_v1_raw"
    boto3_v1_template = "boto3_v1_template"
    boto3_v1_bulk = "boto3_v1_bulk"
    cli_v2 = "cli_v2"
    cli_v2_raw = "cli_v2_raw"
    cli_v2_template = "cli_v2_template"
    cli_v2_bulk = "cli_v2_bulk"
    cli_v1 = "cli_v1"
    cli_v1_raw = "cli_v1_raw"
    cli_v1_template = "cli_v1_template"
    cli_v1_bulk = "cli_v1_bulk"
    nodemailer = "nodemailer"
    smtp = "smtp"
    iam = "iam"


class Snippet(msgspec.Struct, frozen=True):
    """One text to paste. `call` is what it does, `actions` what SES checks it against (none for the IAM policy)."""

    format: Format
    call: str
    language: str
    actions: tuple[str, ...]
    text: str
    notes: tuple[str, ...] = ()


class Kit(msgspec.Struct, frozen=True):
    """Snippets for each call that the terms permit, and what holds for all of them."""

    identity_arn: str
    region: str
    from_address: str
    return_path: str
    configuration_set: str
    snippets: tuple[Snippet, ...]
    notes: tuple[str, ...]


_PLAIN = {"": Call.v2_send_email_simple, "_raw": Call.v2_send_email_raw, "_template": Call.v2_send_email_template,
          "_bulk": Call.v2_send_bulk_email}  # fmt: skip
_OLD = {"": Call.v1_send_email, "_raw": Call.v1_send_raw_email, "_template": Call.v1_send_templated_email,
        "_bulk": Call.v1_send_bulk_templated_email}  # fmt: skip
_NO_HEADERS = ("This call takes no headers: for List-Unsubscribe use API v2 or a raw message.",)
_MAIL_FROM = "MAIL FROM of the SMTP session has to be the Return-Path: {}."
_UNSIGNED = "SES takes the X-SES headers out before it sends: leave them out of a DKIM signature of your own."


def kit(terms: Terms, *, identity_arn: str, configuration_set: str | None = None) -> Kit:
    """Everything that these terms permit; `configuration_set` is the delegate's own, a placeholder without one."""
    mail = sample(terms, identity_arn=identity_arn, configuration_set=configuration_set)
    return Kit(
        identity_arn=identity_arn,
        region=mail.identity.region,
        from_address=mail.address,
        return_path=mail.return_path,
        configuration_set=mail.configuration_set,
        snippets=tuple(_snippets(terms, mail)),
        notes=tuple(_notes(terms, mail)),
    )


def _snippets(terms: Terms, mail: Sample) -> Iterator[Snippet]:
    for version, calls in (("v2", _PLAIN), ("v1", _OLD)):
        for suffix, call in calls.items():
            if CALLS[call].term in terms.actions:
                notes = _NO_HEADERS if version == "v1" and suffix != "_raw" else ()
                python, shell = snippets.boto3(call, mail, notes=notes), snippets.cli(call, mail, notes=notes)
                yield _snippet(Format(f"boto3_{version}{suffix}"), call, "python", python, notes)
                yield _snippet(Format(f"cli_{version}{suffix}"), call, "sh", shell, notes)
    if Action.send_raw in terms.actions:
        yield _snippet(Format.nodemailer, Call.v2_send_email_raw, "javascript", snippets.nodemailer(mail), ())
        said = (_MAIL_FROM.format(mail.return_path), _UNSIGNED)
        yield _snippet(Format.smtp, Call.smtp, "email", snippets.smtp(mail), said)
    text = json.dumps(iam_policy(terms, mail), indent=2) + "\n"
    yield Snippet(Format.iam, "IAM policy of whoever sends", "json", (), text, _iam_notes(terms))


def _snippet(form: Format, call: Call, language: str, text: str, notes: tuple[str, ...]) -> Snippet:
    return Snippet(form, CALLS[call].title, language, CALLS[call].actions, text, notes)


def iam_policy(terms: Terms, mail: Sample) -> dict[str, object]:
    """What the sending user or role needs on its own side: the send on the identity and on its configuration set.

    Across accounts both sides have to allow (IAM User Guide, reference_policies_evaluation-logic-cross-account), and a
    send that names a configuration set is checked on its ARN too (Service Authorization Reference, Amazon SES).
    """
    partition, region = mail.identity.partition, mail.identity.region
    own = [f"arn:{partition}:ses:{region}:{account}" for account in mail.accounts]
    resources = [mail.arn, *(f"{each}:configuration-set/{mail.configuration_set}" for each in own)]
    if _uses_templates(terms):
        resources += [f"{each}:template/{TEMPLATE}" for each in own]
    actions = [name for action in ACTION_TO_IAM if action in terms.actions for name in ACTION_TO_IAM[action]]
    statement = {"Sid": "SendForTheOwner", "Effect": "Allow", "Action": actions, "Resource": resources}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _uses_templates(terms: Terms) -> bool:
    return bool({Action.send_templated, Action.send_bulk} & set(terms.actions))


def _iam_notes(terms: Terms) -> tuple[str, ...]:
    notes = ["Attach it to the user or role that sends; the owner's policy alone is not enough across accounts."]
    if _uses_templates(terms):
        notes.append(f"{TEMPLATE} is a template of your own account: the owner's templates cannot be used.")
    if Action.send_templated in terms.actions and Action.send not in terms.actions:
        notes.append(
            "AWS does not document whether a template send by API v2 is also checked against ses:SendEmail: if a "
            "refusal names it, agree on the action send as well."
        )
    return tuple(notes)


def _notes(terms: Terms, mail: Sample) -> Iterator[str]:
    yield f"Send through {mail.identity.region}: the identity and the policy exist in no other Region."
    if mail.configuration_set == CONFIGURATION_SET:
        yield (
            f"Replace {CONFIGURATION_SET} with a configuration set of your own account in {mail.identity.region}; "
            "the owner's cannot be used."
        )
    yield (
        "Replace the unsubscribe address: it has to be https and to unsubscribe by a POST without further questions "
        "(RFC 8058); leave both headers out of mail that is not a list's."
    )
    if mail.name and not mail.identity.is_domain:
        yield (
            "Some callers saw SES refuse a display name beside the ARN of a single address (does not align with the "
            "given ARN, aws-sdk-js#1146): send the bare address if that happens."
        )
    if terms.feedback_addresses:
        yield "The terms limit the Return-Path: a send without one is refused."
    yield "Spelling counts in addresses, upper and lower case included."
