"""What a send asks for, read out of either version of the API into one shape."""

import base64
import email
import email.policy
from email.message import EmailMessage
from email.utils import formatdate, getaddresses, parseaddr
from typing import Any

import msgspec

from broker.sandbox.call import Call
from broker.sandbox.errors import AwsError

MAX_RECIPIENTS = 50
"""Per message (Developer Guide, quotas)."""


class Envelope(msgspec.Struct, frozen=True):
    """One message to be sent. Addresses are bare; an ARN is None where the caller passed none."""

    action: str
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


def read(call: Call, *, source_arn_covers_from: bool) -> Envelope:
    """Raises AwsError for a message without a sender or with too many recipients."""
    match call.operation, "Raw" in call.params.get("Content", {}):
        case "SendRawEmail", _:
            found = _raw_v1(call, source_arn_covers_from=source_arn_covers_from)
        case "SendEmail", True:
            found = _raw_v2(call)
        case _:
            found = _simple(call)
    if len(found.recipients) > MAX_RECIPIENTS:
        raise AwsError("InvalidParameterValue", f"Recipient count exceeds {MAX_RECIPIENTS}.")
    if not found.recipients:
        raise AwsError("InvalidParameterValue", "Missing destination.")
    return found


def bare(source: str, recipients: list[str], *, configuration_set: str | None) -> Envelope:
    """An envelope for an event that the control API asks for, without a message behind it."""
    name, address = _sender(source)
    headers = [("From", source), ("To", ", ".join(recipients)), ("Subject", "")]
    return Envelope(
        "ses:SendEmail", source, address, name, None, None, None, None, recipients, "", headers, configuration_set, {}
    )


def _simple(call: Call) -> Envelope:
    given = call.params
    second = call.api_version == "2"
    content = given["Content"].get("Simple") if second else given["Message"]
    if content is None:
        raise AwsError("BadRequestException", "The local AWS sends Simple and Raw content only.")
    source = given.get("FromEmailAddress", "") if second else given["Source"]
    subject = content["Subject"]["Data"]
    to = given.get("Destination", {})
    return_path = given.get("FeedbackForwardingEmailAddress") if second else given.get("ReturnPath")
    arn = given.get("FromEmailAddressIdentityArn") if second else given.get("SourceArn")
    shown = [
        ("From", source),
        ("To", ", ".join(to.get("ToAddresses", []))),
        ("Cc", ", ".join(to.get("CcAddresses", []))),
    ]
    name, address = _sender(source)
    return Envelope(
        "ses:SendEmail",
        source,
        address,
        name,
        arn,
        arn,
        return_path,
        given.get("FeedbackForwardingEmailAddressIdentityArn" if second else "ReturnPathArn"),
        _destination(to),
        subject,
        [*((key, value) for key, value in shown if value), ("Subject", subject), ("MIME-Version", "1.0")],
        given.get("ConfigurationSetName"),
        _tags(given.get("EmailTags" if second else "Tags", [])),
    )


def _raw_v1(call: Call, *, source_arn_covers_from: bool) -> Envelope:
    given = call.params
    message = _parsed(given["RawMessage"]["Data"])
    source_arn = given.get("SourceArn") or message.get("X-SES-SOURCE-ARN")
    from_arn = given.get("FromArn") or message.get("X-SES-FROM-ARN")
    if from_arn is None and source_arn_covers_from:
        from_arn = source_arn
    return_arn = given.get("ReturnPathArn") or message.get("X-SES-RETURN-PATH-ARN")
    recipients = given.get("Destinations") or _header_recipients(message)
    # The Source parameter is the envelope's sender, to which SES mails bounces: it is this call's Return-Path.
    return_path = given.get("Source") or message.get("Return-Path")
    return _raw(call, message, recipients, (from_arn, source_arn, return_path, return_arn))


def _raw_v2(call: Call) -> Envelope:
    given = call.params
    message = _parsed(given["Content"]["Raw"]["Data"])
    arn = given.get("FromEmailAddressIdentityArn") or message.get("X-SES-FROM-ARN") or message.get("X-SES-SOURCE-ARN")
    return_arn = given.get("FeedbackForwardingEmailAddressIdentityArn") or message.get("X-SES-RETURN-PATH-ARN")
    return_path = given.get("FeedbackForwardingEmailAddress") or message.get("Return-Path")
    recipients = _destination(given.get("Destination", {})) or _header_recipients(message)
    return _raw(call, message, recipients, (arn, arn, return_path, return_arn))


def _raw(
    call: Call,
    message: EmailMessage,
    recipients: list[str],
    named: tuple[str | None, str | None, str | None, str | None],
) -> Envelope:
    from_arn, source_arn, return_path, return_arn = named
    source = call.params.get("FromEmailAddress") or str(message.get("From", ""))
    name, address = _sender(source)
    dropped = ("x-ses-source-arn", "x-ses-from-arn", "x-ses-return-path-arn")
    headers = [(key, str(value)) for key, value in message.items() if key.lower() not in dropped]
    configuration_set = call.params.get("ConfigurationSetName") or message.get("X-SES-CONFIGURATION-SET")
    tags = _tags(call.params.get("EmailTags") or call.params.get("Tags") or [])
    bare = parseaddr(str(return_path))[1] if return_path else None
    return Envelope(
        "ses:SendRawEmail",
        source,
        address,
        name,
        from_arn,
        source_arn,
        bare,
        return_arn,
        [parseaddr(each)[1] for each in recipients],
        str(message.get("Subject", "")),
        headers,
        configuration_set,
        tags,
    )


def _parsed(data: bytes | str) -> EmailMessage:
    raw = base64.b64decode(data) if isinstance(data, str) else data
    message = email.message_from_bytes(raw, policy=email.policy.default)
    if not message.get("From"):
        raise AwsError("InvalidParameterValue", "Missing required header 'From'.")
    return message


def _sender(source: str) -> tuple[str | None, str]:
    name, address = parseaddr(source)
    if "@" not in address:
        raise AwsError("InvalidParameterValue", f"Missing or invalid sender address: {source!r}")
    return name or None, address


def _destination(to: dict[str, list[str]]) -> list[str]:
    every = [*to.get("ToAddresses", []), *to.get("CcAddresses", []), *to.get("BccAddresses", [])]
    return [parseaddr(each)[1] for each in every]


def _header_recipients(message: EmailMessage) -> list[str]:
    fields = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return [address for _, address in getaddresses(fields)]


def _tags(given: list[dict[str, str]]) -> dict[str, list[str]]:
    return {tag["Name"]: [tag["Value"]] for tag in given}


def common_headers(envelope: Envelope, message_id: str) -> dict[str, Any]:
    """The `commonHeaders` of a notification; SES calls it a list and sends an object."""
    named = dict(envelope.headers)
    found: dict[str, Any] = {"from": [envelope.source], "date": named.get("Date", formatdate(usegmt=True))}
    for key in ("To", "Cc"):
        if key in named:
            found[key.lower()] = [each.strip() for each in named[key].split(",")]
    return found | {"messageId": message_id, "subject": envelope.subject}
