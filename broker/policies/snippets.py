"""Writes a mail under a grant in the words of boto3, the AWS CLI, SMTP and Nodemailer. Pure."""

import json
import shlex
from collections.abc import Mapping

from broker.policies.calls import Call
from broker.policies.parameters import (
    SUBJECT,
    TEXT,
    UNSUBSCRIBE_HEADERS,
    Parameters,
    parameters,
    raw_message,
    shown_headers,
    x_headers,
)
from broker.policies.samples import Sample

_METHODS = {
    Call.v1_send_email: ("ses", "send_email"),
    Call.v1_send_raw_email: ("ses", "send_raw_email"),
    Call.v1_send_templated_email: ("ses", "send_templated_email"),
    Call.v1_send_bulk_templated_email: ("ses", "send_bulk_templated_email"),
    Call.v2_send_email_simple: ("sesv2", "send_email"),
    Call.v2_send_email_raw: ("sesv2", "send_email"),
    Call.v2_send_email_template: ("sesv2", "send_email"),
    Call.v2_send_bulk_email: ("sesv2", "send_bulk_email"),
}
_RAW = {Call.v1_send_raw_email: "RawMessage", Call.v2_send_email_raw: "Content"}
_FOR_RAW = ("from email.message import EmailMessage", "from email.policy import SMTP")
_DATA = {
    Call.v1_send_raw_email: '{"Data": message.as_bytes()}',
    Call.v2_send_email_raw: '{"Raw": {"Data": message.as_bytes()}}',
}


def boto3(call: Call, mail: Sample, *, notes: tuple[str, ...] = ()) -> str:
    """A Python program; its words are JSON's, which Python reads the same for texts, lists and mappings."""
    service, method = _METHODS[call]
    given = [f"    {name}={_indented(value)}," for name, value in parameters(call, mail).items()]
    build: list[str] = []
    if call in _RAW:
        build = [*_message(mail), ""]
        given.append(f"    {_RAW[call]}={_DATA[call]},")
    imports = ["import boto3"] if call not in _RAW else [*_FOR_RAW, "", "import boto3"]
    client = f'ses = boto3.client("{service}", region_name="{mail.identity.region}")'
    lines = [*_comments(notes), *imports, "", client, *build]
    return "\n".join([*lines, f"answer = ses.{method}(", *given, ")", "print(answer)"]) + "\n"


def cli(call: Call, mail: Sample, *, notes: tuple[str, ...] = ()) -> str:
    """A shell command for both versions of the AWS CLI; its parameters are a JSON document that no shell reads."""
    service, method = _METHODS[call]
    given: Mapping[str, object] = parameters(call, mail)
    command = f"aws {service} {method.replace('_', '-')} --region {mail.identity.region} --cli-input-json"
    lines = list(_comments(notes))
    if call in _RAW:
        # The message is text here; version 2 of the CLI takes it so only when told, version 1 does not know the option.
        lines.append("case $(aws --version 2>&1) in aws-cli/1.*) as_text= ;; *) as_text='raw-in-base64-out' ;; esac")
        command = command.replace("aws ", "aws ${as_text:+--cli-binary-format $as_text} ", 1)
        raw = {"Data": raw_message(mail)}
        given = {**given, _RAW[call]: raw if call is Call.v1_send_raw_email else {"Raw": raw}}
    return "\n".join([*lines, f"{command} {shlex.quote(_pretty(given))}"]) + "\n"


def smtp(mail: Sample) -> str:
    """The headers of a message for SES's SMTP interface; its MAIL FROM has to be the Return-Path."""
    return "".join(f"{name}: {value}\n" for name, value in (x_headers(mail) | shown_headers(mail)).items())


def nodemailer(mail: Sample, *, notes: tuple[str, ...] = ()) -> str:
    """A module for Node with Nodemailer's SES transport, which sends raw messages by API v2 (nodemailer.com, ses)."""
    ses: Parameters = {
        name: value
        for name, value in parameters(Call.v2_send_email_raw, mail).items()
        if name not in {"FromEmailAddress", "Destination"}
    }
    message: Mapping[str, object] = {
        "from": mail.sender,
        "to": mail.to,
        "subject": SUBJECT,
        "text": TEXT,
        "headers": dict(UNSUBSCRIBE_HEADERS),
        "ses": ses,
    }
    lines = [
        *(f"// {note}" for note in notes),
        "// npm install nodemailer @aws-sdk/client-sesv2 (Nodemailer 7 or newer); save as send.mjs",
        'import nodemailer from "nodemailer";',
        'import { SESv2Client, SendEmailCommand } from "@aws-sdk/client-sesv2";',
        "",
        f'const sesClient = new SESv2Client({{ region: "{mail.identity.region}" }});',
        "const transport = nodemailer.createTransport({ SES: { sesClient, SendEmailCommand } });",
        f"const info = await transport.sendMail({_pretty(message)});",
        "console.log(info.response);",
    ]
    return "\n".join(lines) + "\n"


def _message(mail: Sample) -> list[str]:
    set_each = [f'message["{name}"] = {_pretty(value)}' for name, value in shown_headers(mail).items()]
    made = "message = EmailMessage(SMTP.clone(max_line_length=990))  # so that List-Unsubscribe is not folded"
    return [made, *set_each, f"message.set_content({_pretty(TEXT)})"]


def _comments(notes: tuple[str, ...]) -> list[str]:
    return [f"# {note}" for note in notes]


def _pretty(value: object) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False)


def _indented(value: object) -> str:
    return _pretty(value).replace("\n", "\n    ")
