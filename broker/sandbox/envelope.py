"""One message to be sent, in one shape for every call that sends."""

from email.utils import formatdate, parseaddr
from typing import Any

import msgspec

from broker.sandbox.errors import AwsError


class Envelope(msgspec.Struct, frozen=True):
    """One message to be sent. Addresses are bare; an ARN is None where the caller passed none."""

    actions: tuple[str, ...]
    """The IAM actions that are checked; all must be allowed."""
    source: str
    """As given, with a display name if there is one."""
    from_address: str
    from_display_name: str | None
    from_arn: str | None
    """Of the From header."""
    source_arn: str | None
    """Of the envelope's sender; differs from `from_arn` only for raw messages."""
    return_path: str | None
    return_path_arn: str | None
    recipients: list[str]
    subject: str
    headers: list[tuple[str, str]]
    configuration_set: str | None
    tags: dict[str, list[str]]


def bare(source: str, recipients: list[str], *, configuration_set: str | None, subject: str = "") -> Envelope:
    """An envelope for an event that the control API asks for, without a message behind it."""
    name, address = sender(source)
    headers = [("From", source), ("To", ", ".join(recipients)), ("Subject", subject)]
    return Envelope(
        ("ses:SendEmail",),
        source,
        address,
        name,
        None,
        None,
        None,
        None,
        recipients,
        subject,
        headers,
        configuration_set,
        {},
    )


def sender(source: str) -> tuple[str | None, str]:
    name, address = parseaddr(source)
    if "@" not in address:
        raise AwsError("InvalidParameterValue", f"Missing or invalid sender address: {source!r}")
    return name or None, address


def destination(to: dict[str, list[str]]) -> list[str]:
    every = [*to.get("ToAddresses", []), *to.get("CcAddresses", []), *to.get("BccAddresses", [])]
    return [parseaddr(each)[1] for each in every]


def tags_of(given: list[dict[str, str]]) -> dict[str, list[str]]:
    return {tag["Name"]: [tag["Value"]] for tag in given}


def common_headers(envelope: Envelope, message_id: str) -> dict[str, Any]:
    """The `commonHeaders` of a notification; SES calls it a list and sends an object."""
    named = dict(envelope.headers)
    found: dict[str, Any] = {"from": [envelope.source], "date": named.get("Date", formatdate(usegmt=True))}
    for key in ("To", "Cc"):
        if key in named:
            found[key.lower()] = [each.strip() for each in named[key].split(",")]
    return found | {"messageId": message_id, "subject": envelope.subject}
