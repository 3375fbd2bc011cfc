"""Every example of SES's guide, retyped with other names, addresses and ids, oddities of its form kept.

Pages of the SES Developer Guide: notification-examples (N), event-publishing-retrieving-sns-examples (E), and
notification-contents (C) for what only the tables there show.
"""

from typing import Any

from broker.policies.terms import FeedbackKind

OWNER, AGENCY = "111111111111", "222222222222"
DOMAIN = f"arn:aws:ses:eu-west-1:{OWNER}:identity/example.com"
ID = "0102019b8d3f5a21-6f0d3a1c-0b5e-4c55-8e4c-2f6a0b1c9d7e-000000"
FROM = "Example News <news@example.com>"
READER, OTHER = "reader@example.org", "other@example.net"


def _headers(*to: str, subject: str = "Spring is here") -> dict[str, Any]:
    return {
        "headersTruncated": False,
        "headers": [
            {"name": "From", "value": FROM},
            {"name": "To", "value": ", ".join(to)},
            {"name": "Subject", "value": subject},
            {"name": "MIME-Version", "value": "1.0"},
            {"name": "Content-Type", "value": 'multipart/alternative; boundary="----=_Part_1"'},
        ],
        "commonHeaders": {"from": [FROM], "to": [", ".join(to)], "messageId": ID, "subject": subject},
    }


def _notified(**more: Any) -> dict[str, Any]:
    """`mail` as identity notifications have it."""
    return {
        "timestamp": "2026-01-05T11:59:00.000Z",
        "source": "news@example.com",
        "sourceArn": DOMAIN,
        "sourceIp": "192.0.2.9",
        "callerIdentity": "mailer",
        "sendingAccountId": AGENCY,
        "messageId": ID,
        "destination": [READER, OTHER],
        **_headers(READER, OTHER),
        **more,
    }


def _published(**more: Any) -> dict[str, Any]:
    """`mail` as event publishing has it."""
    return {
        "timestamp": "2026-01-05T11:59:00.012Z",
        "source": FROM,
        "sourceArn": DOMAIN,
        "sendingAccountId": AGENCY,
        "messageId": ID,
        "destination": [READER],
        **_headers(READER),
        "tags": {
            "ses:configuration-set": ["agency"],
            "ses:source-ip": ["192.0.2.9"],
            "ses:from-domain": ["example.com"],
            "ses:caller-identity": ["mailer"],
            "campaign": ["spring"],
        },
        **more,
    }


def _without(mail: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mail.items() if name not in names}


_BARE = ("headers", "commonHeaders")
Example = tuple[dict[str, Any], FeedbackKind, list[str | None], dict[str, Any]]

EXAMPLES: dict[str, Example] = {
    "N bounce with a DSN": (
        {
            "notificationType": "Bounce",
            "bounce": {
                "bounceType": "Permanent",
                "reportingMTA": "dns; mail.example.com",
                "bouncedRecipients": [
                    {
                        "emailAddress": READER,
                        "status": "5.1.1",
                        "action": "failed",
                        "diagnosticCode": f"smtp; 550 5.1.1 <{READER}>... User",
                    }
                ],
                "bounceSubType": "General",
                "timestamp": "2026-01-05T11:59:38.237Z",
                "feedbackId": "0102019b8d3f5a99-bounce-000000",
                "remoteMtaIp": "192.0.2.25",
            },
            "mail": _notified(),
        },
        FeedbackKind.bounce,
        [READER],
        {
            "final": True,
            "status": "5.1.1",
            "reporting_mta": "mail.example.com",
            "diagnostic_code": f"550 5.1.1 <{READER}>... User",
            "remote_mta": "192.0.2.25",
        },
    ),
    "N bounce without a DSN": (
        {
            "notificationType": "Bounce",
            "bounce": {
                "bounceType": "Permanent",
                "bounceSubType": "General",
                "bouncedRecipients": [{"emailAddress": READER}, {"emailAddress": OTHER}],
                "timestamp": "2026-01-05T11:59:38.237Z",
                "feedbackId": "0102019b8d3f5a9a-bounce-000000",
                "remoteMtaIp": "192.0.2.25",
            },
            "mail": _notified(),
        },
        FeedbackKind.bounce,
        [READER, OTHER],
        {"final": True, "status": None, "diagnostic_code": None, "reporting_mta": None},
    ),
    "N complaint with a report": (
        {
            "notificationType": "Complaint",
            "complaint": {
                "userAgent": "AnyCompany Feedback Loop (V0.01)",
                "complainedRecipients": [{"emailAddress": READER}],
                "complaintFeedbackType": "abuse",
                "arrivalDate": "2026-01-05T11:59:20.000Z",
                "timestamp": "2026-01-05T11:59:38.237Z",
                "feedbackId": "0102019b8d3f5a9b-complaint-000000",
            },
            "mail": _notified(),
        },
        FeedbackKind.complaint,
        [READER],
        {"feedback_type": "abuse", "user_agent": "AnyCompany Feedback Loop (V0.01)", "complaint_sub_type": None},
    ),
    "N complaint without a report": (
        {
            "notificationType": "Complaint",
            "complaint": {
                "complainedRecipients": [{"emailAddress": READER}],
                "timestamp": "2026-01-05T11:59:38.237Z",
                "feedbackId": "0102019b8d3f5a9c-complaint-000000",
            },
            "mail": _notified(),
        },
        FeedbackKind.complaint,
        [READER],
        {"feedback_type": None, "user_agent": None, "arrival_date": None},
    ),
    "N delivery": (
        {
            "notificationType": "Delivery",
            "mail": _notified(),
            "delivery": {
                "timestamp": "2026-01-05T11:59:38.237Z",
                "recipients": [READER],
                "processingTimeMillis": 546,
                "reportingMTA": "a8-70.smtp-out.amazonses.com",
                "smtpResponse": "250 ok:  Message 64111812 accepted",
                "remoteMtaIp": "192.0.2.25",
            },
        },
        FeedbackKind.delivery,
        [READER],
        {"processing_ms": 546, "smtp_response": "250 ok:  Message 64111812 accepted", "final": None},
    ),
    "C complaint of a suppressed address": (
        {
            "notificationType": "Complaint",
            "complaint": {
                "complaintSubType": "OnAccountSuppressionList",
                "complainedRecipients": [{"emailAddress": READER}],
                "timestamp": "2026-01-05T11:59:38.237Z",
                "feedbackId": "0102019b8d3f5a9d-complaint-000000",
            },
            "mail": _without(_notified(), "headersTruncated", *_BARE),
        },
        FeedbackKind.complaint,
        [READER],
        {"complaint_sub_type": "OnAccountSuppressionList"},
    ),
    "E bounce": (
        {
            "eventType": "Bounce",
            "bounce": {
                "bounceType": "Permanent",
                "bounceSubType": "General",
                "bouncedRecipients": [
                    {
                        "emailAddress": READER,
                        "action": "failed",
                        "status": "5.1.1",
                        "diagnosticCode": "smtp; 550 5.1.1 user unknown",
                    }
                ],
                "timestamp": "2026-01-05T12:00:02.669Z",
                "feedbackId": "0102019b8d3f5a99-other-000000",
                "reportingMTA": "dsn; mta.example.net",
            },
            "mail": _published(),
        },
        FeedbackKind.bounce,
        [READER],
        {"diagnostic_code": "550 5.1.1 user unknown", "reporting_mta": "mta.example.net", "remote_mta": None},
    ),
    "E complaint": (
        {
            "eventType": "Complaint",
            "complaint": {
                "complainedRecipients": [{"emailAddress": READER}],
                "timestamp": "2026-01-05T12:00:02.669Z",
                "feedbackId": "0102019b8d3f5a9b-other-000000",
                "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
                "complaintFeedbackType": "abuse",
                "arrivalDate": "2026-01-05T12:00:02.669Z",
            },
            "mail": _published(),
        },
        FeedbackKind.complaint,
        [READER],
        {"feedback_type": "abuse"},
    ),
    "E delivery": (
        {
            "eventType": "Delivery",
            "mail": _published(),
            "delivery": {
                "timestamp": "2026-01-05T11:59:02.012Z",
                "processingTimeMillis": 11893,
                "recipients": [READER],
                "smtpResponse": "250 2.6.0 Message received",
                "remoteMtaIp": "192.0.2.25",
                "reportingMTA": "mta.example.com",
            },
        },
        FeedbackKind.delivery,
        [READER],
        {"processing_ms": 11893},
    ),
    "E send": (
        {"eventType": "Send", "mail": _published(), "send": {}},
        FeedbackKind.send,
        [READER],
        {"final": None},
    ),
    "E reject": (
        {
            "eventType": "Reject",
            "mail": _published(destination=["virus@example.org"]),
            "reject": {"reason": "Bad content"},
        },
        FeedbackKind.reject,
        ["virus@example.org"],
        {"final": True, "reject_reason": "Bad content"},
    ),
    "E open": (
        {
            "eventType": "Open",
            "mail": _without(_published(), "sourceArn"),
            "open": {
                "ipAddress": "192.0.2.1",
                "timestamp": "2026-01-05T12:00:19.652Z",
                "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 10_3_3 like Mac OS X)",
            },
        },
        FeedbackKind.open,
        [READER],
        {"ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 10_3_3 like Mac OS X)"},
    ),
    "E click": (
        {
            "eventType": "Click",
            "mail": _without(_published(messageId=f" {ID}"), "sourceArn"),
            "click": {
                "ipAddress": "192.0.2.1",
                "timestamp": "2026-01-05T12:00:25.570Z",
                "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
                "link": "https://example.com/spring?a=1",
                "linkTags": {"place": ["top"], "kind": ["button", "green"]},
            },
        },
        FeedbackKind.click,
        [READER],
        {"link": "https://example.com/spring?a=1", "link_tags": {"place": ["top"], "kind": ["button", "green"]}},
    ),
    "E rendering failure": (
        {
            "eventType": "Rendering Failure",
            "mail": _without(_published(tags={"ses:configuration-set": ["agency"]}), *_BARE),
            "failure": {
                "errorMessage": "Attribute 'firstName' is not present in the rendering data.",
                "templateName": "welcome",
            },
        },
        FeedbackKind.rendering_failure,
        [READER],
        {
            "final": True,
            "template_name": "welcome",
            "error_message": "Attribute 'firstName' is not present in the rendering data.",
        },
    ),
    "E delivery delay": (
        {
            "eventType": "DeliveryDelay",
            "mail": _without(_published(tags={"ses:configuration-set": ["agency"]}), *_BARE),
            "deliveryDelay": {
                "timestamp": "2026-01-05T12:00:25.095Z",
                "delayType": "TransientCommunicationFailure",
                "expirationTime": "2026-01-06T01:59:25.914Z",
                "delayedRecipients": [
                    {
                        "emailAddress": READER,
                        "status": "4.4.1",
                        "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host",
                    }
                ],
            },
        },
        FeedbackKind.delay,
        [READER],
        {
            "final": False,
            "delay_type": "TransientCommunicationFailure",
            "status": "4.4.1",
            "diagnostic_code": "421 4.4.1 Unable to connect to remote host",
        },
    ),
    "E subscription": (
        {
            "eventType": "Subscription",
            "mail": _published(),
            "subscription": {
                "contactList": "newsletter",
                "timestamp": "2026-01-05T12:00:25.000Z",
                "source": "UnsubscribeHeader",
                "newTopicPreferences": {
                    "unsubscribeAll": True,
                    "topicSubscriptionStatus": [{"topicName": "weekly", "subscriptionStatus": "OptOut"}],
                },
                "oldTopicPreferences": {
                    "unsubscribeAll": False,
                    "topicSubscriptionStatus": [{"topicName": "weekly", "subscriptionStatus": "OptOut"}],
                },
            },
        },
        FeedbackKind.subscription,
        [READER],
        {"contact_list": "newsletter", "subscription_source": "UnsubscribeHeader"},
    ),
}
