"""Reads out of a call what it sends: one message, or many in bulk."""

from typing import Any

from broker.sandbox import templates
from broker.sandbox.call import Call
from broker.sandbox.envelope import Envelope, destination, sender, tags_of
from broker.sandbox.errors import AwsError
from broker.sandbox.raw_messages import raw_v1, raw_v2

MAX_RECIPIENTS = 50
"""Per message (Developer Guide, quotas)."""


def read(call: Call, *, source_arn_covers_from: bool) -> list[Envelope]:
    """One envelope, of a bulk call one for each entry. Raises AwsError without a sender or with too many recipients."""
    match call.operation:
        case "SendRawEmail":
            found = [raw_v1(call, source_arn_covers_from=source_arn_covers_from)]
        case "SendBulkEmail" | "SendBulkTemplatedEmail":
            found = [_plain(call, entry["Destination"]) for entry in _entries(call)]
        case _ if "Raw" in call.params.get("Content", {}):
            found = [raw_v2(call)]
        case _:
            found = [_plain(call, call.params.get("Destination", {}))]
    for each in found:
        if len(each.recipients) > MAX_RECIPIENTS:
            raise AwsError("InvalidParameterValue", f"Recipient count exceeds {MAX_RECIPIENTS}.")
        if not each.recipients:
            raise AwsError("InvalidParameterValue", "Missing destination.")
    return found


def _entries(call: Call) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call.params.get("BulkEmailEntries") or call.params.get("Destinations") or []
    return found


_BULK = {
    "SendBulkTemplatedEmail": ("ses:SendBulkTemplatedEmail",),
    # Users report that version 2 checks both.
    "SendBulkEmail": ("ses:SendBulkEmail", "ses:SendBulkTemplatedEmail"),
}


def _content(call: Call) -> tuple[tuple[str, ...], str]:
    """The actions to check and the subject of a message that is not raw."""
    given = call.params
    if call.operation in _BULK:
        template = given.get("DefaultContent", {}).get("Template") or {"TemplateName": given.get("Template")}
        return _BULK[call.operation], templates.subject(call, template)
    if call.operation == "SendTemplatedEmail":
        return ("ses:SendTemplatedEmail",), templates.subject(call, {"TemplateName": given["Template"]})
    content = given["Content"] if call.api_version == "2" else {"Simple": given["Message"]}
    if "Template" in content:
        return ("ses:SendTemplatedEmail",), templates.subject(call, content["Template"])
    if "Simple" not in content:
        raise AwsError("BadRequestException", "Content must be exactly one of Simple, Raw and Template.")
    return ("ses:SendEmail",), content["Simple"]["Subject"]["Data"]


def _plain(call: Call, to: dict[str, list[str]]) -> Envelope:
    """A message to be made by SES, from its parts or from a template."""
    given = call.params
    second = call.api_version == "2"
    actions, subject = _content(call)
    source = given.get("FromEmailAddress", "") if second else given["Source"]
    arn = given.get("FromEmailAddressIdentityArn" if second else "SourceArn")
    shown = [
        ("From", source),
        ("To", ", ".join(to.get("ToAddresses", []))),
        ("Cc", ", ".join(to.get("CcAddresses", []))),
    ]
    tags = ("EmailTags", "DefaultEmailTags") if second else ("Tags", "DefaultTags")
    name, address = sender(source)
    return Envelope(
        actions,
        source,
        address,
        name,
        arn,
        arn,
        given.get("FeedbackForwardingEmailAddress" if second else "ReturnPath"),
        given.get("FeedbackForwardingEmailAddressIdentityArn" if second else "ReturnPathArn"),
        destination(to),
        subject,
        [*((key, value) for key, value in shown if value), ("Subject", subject), ("MIME-Version", "1.0")],
        given.get("ConfigurationSetName"),
        tags_of(given.get(tags[0]) or given.get(tags[1]) or []),
    )
