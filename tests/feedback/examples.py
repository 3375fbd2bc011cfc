"""Payloads in the shapes of the SES Developer Guide, retyped: notification-examples and event-publishing examples."""

from typing import Any

OWNER_ACCOUNT = "111111111111"
DELEGATE_ACCOUNT = "222222222222"
IDENTITY = f"arn:aws:ses:eu-west-1:{OWNER_ACCOUNT}:identity/example.com"
MESSAGE_ID = "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000"


def mail(**changes: Any) -> dict[str, Any]:
    """The `mail` object of an identity notification (notification-contents, "Mail object")."""
    return {
        "timestamp": "2026-01-05T11:59:00.000Z",
        "source": "Example News <newsletter@example.com>",
        "sourceArn": IDENTITY,
        "sourceIp": "127.0.3.0",
        "callerIdentity": "sender",
        "sendingAccountId": DELEGATE_ACCOUNT,
        "messageId": MESSAGE_ID,
        "destination": ["jane@example.org", "mary@example.org"],
        "headersTruncated": False,
        "headers": [{"name": "From", "value": '"Example News" <newsletter@example.com>'}],
        "commonHeaders": {
            "from": ["Example News <newsletter@example.com>"],
            "to": ["Jane Doe <jane@example.org>, Mary Doe <mary@example.org>"],
            "messageId": "custom-message-ID",
            "subject": "Hello",
        },
        **changes,
    }


def bounce(**changes: Any) -> dict[str, Any]:
    """A bounce with a DSN (notification-examples)."""
    return {
        "bounceType": "Permanent",
        "bounceSubType": "General",
        "bouncedRecipients": [
            {
                "emailAddress": "jane@example.org",
                "status": "5.1.1",
                "action": "failed",
                "diagnosticCode": "smtp; 550 5.1.1 <jane@example.org>... User unknown",
            }
        ],
        "reportingMTA": "dns; email.example.com",
        "timestamp": "2026-01-05T11:59:30.500Z",
        "feedbackId": "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa068a-000000",
        "remoteMtaIp": "127.0.2.0",
        **changes,
    }


def complaint(**changes: Any) -> dict[str, Any]:
    """A complaint with a feedback report (notification-examples)."""
    return {
        "userAgent": "AnyCompany Feedback Loop (V0.01)",
        "complainedRecipients": [{"emailAddress": "jane@example.org"}],
        "complaintFeedbackType": "abuse",
        "arrivalDate": "2026-01-05T11:59:20.000Z",
        "timestamp": "2026-01-05T11:59:40.000Z",
        "feedbackId": "000001378603177f-18c07c78-fa81-4a58-9dd1-fedc3cb8f49a-000000",
        **changes,
    }


def delivery(**changes: Any) -> dict[str, Any]:
    """A delivery (notification-examples)."""
    return {
        "timestamp": "2026-01-05T11:59:10.000Z",
        "processingTimeMillis": 546,
        "recipients": ["jane@example.org"],
        "smtpResponse": "250 ok:  Message 64111812 accepted",
        "reportingMTA": "a8-70.smtp-out.amazonses.com",
        "remoteMtaIp": "127.0.2.0",
        **changes,
    }


def notified(kind: str, details: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The shape of identity notifications."""
    return {"notificationType": kind, kind.lower(): details, "mail": mail(**changes)}


def published(kind: str, where: str, details: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The shape of event publishing, with message tags."""
    tags = {"ses:configuration-set": ["delegation-broker-1"], "ses:operation": ["SendEmail"], "campaign": ["spring"]}
    return {"eventType": kind, where: details, "mail": mail(tags=tags, **changes)}
