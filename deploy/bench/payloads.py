"""What SES says about the mail of a benchmark, and the names in it: accounts, identities and topics by group. Pure."""

from datetime import UTC, datetime, timedelta

import msgspec

from broker.local.aws import REGION

BROKER_ACCOUNT = "999999999999"
SES_PREFIX = b"0102019b8e1f0a2b-"  # all our SES message ids begin so; eight hex digits follow, the message's number


def topic_arn(group: int) -> str:
    """The broker's topic for a group's owner."""
    return f"arn:aws:sns:{REGION}:{BROKER_ACCOUNT}:ses-delegation-broker-bench-{group:06d}"


def identity_name(group: int) -> str:
    """The domain of a group's owner."""
    return f"g{group:06d}.example.com"


def owner_account(group: int) -> str:
    """AWS account of a group's owner."""
    return str(100_000_000_000 + group)


def delegate_account(group: int) -> str:
    """AWS account of a group's delegate."""
    return str(200_000_000_000 + group)


def identity_arn(group: int) -> str:
    """The SES identity of a group's owner."""
    return f"arn:aws:ses:{REGION}:{owner_account(group)}:identity/{identity_name(group)}"


def payload(number: int, group: int, at: datetime) -> bytes:
    """What SES says about message ``number``: one recipient; one in ten bounced, the others were delivered.

    Shapes and fields as in the SES Developer Guide, event-publishing-retrieving-sns-examples; about 1.4 kB.
    """
    kind = "Bounce" if number % 10 == 0 else "Delivery"
    recipient = f"recipient.{number:08x}@mail.example.org"
    details = _bounce(recipient, at) if kind == "Bounce" else _delivery(recipient, at)
    return msgspec.json.encode({"eventType": kind, "mail": _mail(number, group, recipient, at), kind.lower(): details})


def _mail(number: int, group: int, recipient: str, at: datetime) -> dict[str, object]:
    sender, subject = f"Example News <newsletter@{identity_name(group)}>", "What is new this week, and what is not"
    ses_id = f"{SES_PREFIX.decode()}{number:08x}-4c1f-9d3e-0a1b2c3d4e5f-000000"
    return {
        "timestamp": written(at - timedelta(seconds=4)),
        "source": sender,
        "sourceArn": identity_arn(group),
        "sendingAccountId": delegate_account(group),
        "messageId": ses_id,
        "destination": [recipient],
        "headersTruncated": False,
        "headers": [
            {"name": "From", "value": sender},
            {"name": "To", "value": recipient},
            {"name": "Subject", "value": subject},
            {"name": "MIME-Version", "value": "1.0"},
            {"name": "Content-Type", "value": 'multipart/alternative; boundary="----=_Part_0_1"'},
        ],
        "commonHeaders": {"from": [sender], "to": [recipient], "messageId": ses_id, "subject": subject},
        "tags": {
            "ses:operation": ["SendEmail"],
            "ses:configuration-set": ["delegation-broker-bench"],
            "ses:source-ip": ["192.0.2.3"],
            "ses:from-domain": [identity_name(group)],
            "ses:caller-identity": ["sender"],
            "campaign": ["spring"],
        },
    }


def _bounce(recipient: str, at: datetime) -> dict[str, object]:
    return {
        "feedbackId": "0102019b8e1f0a2b-33322211-cccc-cccc-cccc-ddddaaaa068a-000000",
        "bounceType": "Permanent",
        "bounceSubType": "General",
        "bouncedRecipients": [
            {
                "emailAddress": recipient,
                "action": "failed",
                "status": "5.1.1",
                "diagnosticCode": f"smtp; 550 5.1.1 <{recipient}>... User unknown",
            }
        ],
        "timestamp": written(at - timedelta(seconds=1)),
        "reportingMTA": "dns; a8-70.smtp-out.amazonses.com",
    }


def _delivery(recipient: str, at: datetime) -> dict[str, object]:
    return {
        "timestamp": written(at - timedelta(seconds=1)),
        "processingTimeMillis": 546,
        "recipients": [recipient],
        "smtpResponse": "250 2.6.0 Message received and queued for delivery as 64111812",
        "remoteMtaIp": "192.0.2.44",
        "reportingMTA": "a8-70.smtp-out.amazonses.com",
    }


def written(at: datetime) -> str:
    """A time as SES and SNS write it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
