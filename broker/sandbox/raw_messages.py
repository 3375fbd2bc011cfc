"""Raw messages of both versions of the API: what their headers and parameters ask for."""

import base64
import email
import email.policy
from email.message import EmailMessage
from email.utils import getaddresses, parseaddr

from broker.sandbox.call import Call
from broker.sandbox.envelope import Envelope, destination, sender, tags_of
from broker.sandbox.errors import AwsError


def raw_v1(call: Call, *, source_arn_covers_from: bool) -> Envelope:
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


def raw_v2(call: Call) -> Envelope:
    given = call.params
    message = _parsed(given["Content"]["Raw"]["Data"])
    arn = given.get("FromEmailAddressIdentityArn") or message.get("X-SES-FROM-ARN") or message.get("X-SES-SOURCE-ARN")
    return_arn = given.get("FeedbackForwardingEmailAddressIdentityArn") or message.get("X-SES-RETURN-PATH-ARN")
    return_path = given.get("FeedbackForwardingEmailAddress") or message.get("Return-Path")
    recipients = destination(given.get("Destination", {})) or _header_recipients(message)
    return _raw(call, message, recipients, (arn, arn, return_path, return_arn))


def _raw(
    call: Call,
    message: EmailMessage,
    recipients: list[str],
    named: tuple[str | None, str | None, str | None, str | None],
) -> Envelope:
    from_arn, source_arn, return_path, return_arn = named
    source = call.params.get("FromEmailAddress") or str(message.get("From", ""))
    name, address = sender(source)
    dropped = ("x-ses-source-arn", "x-ses-from-arn", "x-ses-return-path-arn")
    headers = [(key, str(value)) for key, value in message.items() if key.lower() not in dropped]
    configuration_set = call.params.get("ConfigurationSetName") or message.get("X-SES-CONFIGURATION-SET")
    tags = tags_of(call.params.get("EmailTags") or call.params.get("Tags") or [])
    bare = parseaddr(str(return_path))[1] if return_path else None
    return Envelope(
        ("ses:SendRawEmail",),
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


def _header_recipients(message: EmailMessage) -> list[str]:
    fields = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return [address for _, address in getaddresses(fields)]
