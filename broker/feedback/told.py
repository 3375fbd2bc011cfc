"""The `data` of each `email.*` event as it is stored and, at full view, sent; OpenAPI is made of the same Structs.

Names are of RFC 3464 (delivery) and RFC 5965 (complaints) where these have one.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.feedback.occurrence import Preferences
from broker.policies.terms import FeedbackKind


class Told(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What every event about a mail tells; null where it does not apply or is not known."""

    event_id: Annotated[
        UUID, Meta(description="Also the `webhook-id`", examples=["019aabcd-1234-7abc-8def-0123456789ab"])
    ]
    grant_id: Annotated[
        UUID | None,
        Meta(
            description="The grant that the mail was sent under; null: the owner's own mail",
            examples=["019aabcd-0000-7abc-8def-0123456789ab"],
        ),
    ]
    source: Annotated[
        str,
        Meta(
            description="`broker_topic`: SES told the broker. `tenant_topic`: a tenant's own topic did, which that "
            "tenant can publish to",
            examples=["broker_topic"],
        ),
    ]
    recipient_hash: Annotated[
        str | None,
        Meta(
            description="HMAC-SHA-256, in hex, of the trimmed, lower-cased recipient under the grant's key",
            examples=["5c4f9b0d8e0d1c1f4d2b8d4c7a1f1f52a3a5cbb2b6b2f6a4a0d2d4b1c0a9e8f7"],
        ),
    ]
    identity: Annotated[
        str | None,
        Meta(description="ARN of the identity", examples=["arn:aws:ses:eu-west-1:111111111111:identity/example.com"]),
    ]
    message_id: Annotated[
        str,
        Meta(
            description="SES's own id of the message, not the Message-ID header",
            examples=["0102018f5e2a7c3b-5f0c2f3a-7f1e-4b5e-9a59-0a5d6c1f2b3c-000000"],
        ),
    ]
    sending_account: Annotated[str | None, Meta(description="AWS account that sent it", examples=["222222222222"])]
    sent_at: Annotated[datetime, Meta(description="When SES took the mail", examples=["2026-12-01T09:30:00Z"])]
    occurred_at: Annotated[datetime, Meta(description="When it happened", examples=["2026-12-01T09:30:05Z"])]
    kind: Annotated[str, Meta(description="As in the terms of a grant, or `unknown`", examples=["bounce"])]
    recipients: Annotated[
        int,
        Meta(
            description="How many recipients SES named at once, each of which has an event; a complaint of several is "
            "a guess of SES",
            examples=[1],
        ),
    ]
    recipient: Annotated[
        str | None, Meta(description="Null where SES does not say whose it is", examples=["jane@example.org"])
    ] = None
    final: Annotated[
        bool | None,
        Meta(
            description="Whether mailing this recipient again is pointless; null where nobody can tell", examples=[True]
        ),
    ] = None
    bounce_type: Annotated[
        str | None, Meta(description="`Permanent`, `Transient` or `Undetermined`", examples=["Permanent"])
    ] = None
    bounce_sub_type: Annotated[str | None, Meta(description="SES's bounceSubType", examples=["General"])] = None
    complaint_sub_type: Annotated[str | None, Meta(description="SES's complaintSubType", examples=[None])] = None
    status: Annotated[str | None, Meta(description="RFC 3463 status code", examples=["5.1.1"])] = None
    action: Annotated[str | None, Meta(description="RFC 3464 Action", examples=["failed"])] = None
    diagnostic_code: Annotated[
        str | None,
        Meta(description="RFC 3464 Diagnostic-Code, without its type", examples=["550 5.1.1 user unknown"]),
    ] = None
    reporting_mta: Annotated[
        str | None,
        Meta(description="RFC 3464 Reporting-MTA, without its type", examples=["a8-70.smtp-out.amazonses.com"]),
    ] = None
    remote_mta: Annotated[
        str | None, Meta(description="The server that SES spoke to (RFC 3464 Remote-MTA)", examples=["192.0.2.50"])
    ] = None
    feedback_type: Annotated[str | None, Meta(description="RFC 5965 Feedback-Type", examples=[None])] = None
    user_agent: Annotated[
        str | None,
        Meta(description="RFC 5965 User-Agent of a complaint; of an open or click, the reader's", examples=[None]),
    ] = None
    smtp_response: Annotated[str | None, Meta(description="What the recipient's server said", examples=[None])] = None
    processing_ms: Annotated[
        int | None, Meta(description="From SES's taking it to the recipient's server's", examples=[None])
    ] = None
    from_: Annotated[str | None, Meta(description="From header or envelope", examples=["news@example.com"])] = None
    subject: Annotated[str | None, Meta(examples=["Spring news"])] = None
    tags: Annotated[
        dict[str, list[str]] | None,
        Meta(description="Message tags, SES's own among them", examples=[{"campaign": ["spring"]}]),
    ]
    configuration_set: Annotated[str | None, Meta(description="SES configuration set", examples=["agency"])] = None


class Bounced(Told, frozen=True, kw_only=True):
    """A recipient's server, or SES itself, refused the mail for good, or SES gave up (RFC 3464)."""

    feedback_id: Annotated[str | None, Meta(description="SES's id of the bounce", examples=["0102018f-bounce"])] = None


class Complained(Told, frozen=True, kw_only=True):
    """A recipient marked the mail as spam, as far as its provider tells (RFC 5965)."""

    feedback_id: Annotated[str | None, Meta(description="SES's id of it", examples=["0102018f-complaint"])] = None
    arrival_date: Annotated[
        datetime | None, Meta(description="RFC 5965 Arrival-Date", examples=["2026-12-01T09:30:02Z"])
    ] = None


class Delivered(Told, frozen=True, kw_only=True):
    """The recipient's server took the mail; a bounce may still follow."""


class Sent(Told, frozen=True, kw_only=True):
    """SES took the mail and will try to deliver it."""


class Rejected(Told, frozen=True, kw_only=True):
    """SES took the mail, found a virus in it, and did not try to deliver it."""

    reject_reason: Annotated[str | None, Meta(description="SES's reason", examples=["Bad content"])] = None


class Delayed(Told, frozen=True, kw_only=True):
    """The mail could not be delivered yet; SES tries again."""

    delay_type: Annotated[str | None, Meta(description="SES's delayType", examples=["MailboxFull"])] = None
    will_retry_until: Annotated[
        datetime | None, Meta(description="RFC 3464 Will-Retry-Until", examples=["2026-12-01T23:30:00Z"])
    ] = None


class Opened(Told, frozen=True, kw_only=True):
    """A recipient opened the mail, as far as its reader loads images."""

    ip_address: Annotated[str | None, Meta(description="The reader's", examples=["192.0.2.1"])] = None


class Clicked(Told, frozen=True, kw_only=True):
    """A recipient followed a link."""

    ip_address: Annotated[str | None, Meta(description="The reader's", examples=["192.0.2.1"])] = None
    link: Annotated[str | None, Meta(description="Where it leads", examples=["https://example.com/spring"])] = None
    link_tags: Annotated[
        dict[str, list[str]] | None, Meta(description="Tags of the link", examples=[{"place": ["top"]}])
    ] = None


class RenderingFailed(Told, frozen=True, kw_only=True):
    """The mail was not sent: its template and its data do not fit."""

    template_name: Annotated[str | None, Meta(description="SES template", examples=["welcome"])] = None
    error_message: Annotated[
        str | None,
        Meta(
            description="What SES says about it",
            examples=["Attribute 'name' is not present in the rendering data."],
        ),
    ] = None


class SubscriptionChanged(Told, frozen=True, kw_only=True):
    """A recipient changed its preferences on a contact list of SES."""

    contact_list: Annotated[str | None, Meta(description="SES contact list", examples=["newsletter"])] = None
    subscription_source: Annotated[
        str | None, Meta(description="How it was changed", examples=["UnsubscribeHeader"])
    ] = None
    new_topic_preferences: Preferences | None = None
    old_topic_preferences: Preferences | None = None


class Unknown(Told, frozen=True, kw_only=True):
    """SES has said something about a mail that the broker does not know yet."""

    ses_type: Annotated[str | None, Meta(description="What SES calls it", examples=["Forward"])] = None


STRUCTS: Mapping[FeedbackKind | None, type[Told]] = MappingProxyType(
    {
        FeedbackKind.bounce: Bounced,
        FeedbackKind.complaint: Complained,
        FeedbackKind.delivery: Delivered,
        FeedbackKind.send: Sent,
        FeedbackKind.reject: Rejected,
        FeedbackKind.delay: Delayed,
        FeedbackKind.open: Opened,
        FeedbackKind.click: Clicked,
        FeedbackKind.rendering_failure: RenderingFailed,
        FeedbackKind.subscription: SubscriptionChanged,
        None: Unknown,
    }
)


class SentAfterEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Mail went out more than 60 s after SES was seen not to hold the grant's policy any more."""

    event_id: UUID
    grant_id: UUID
    identity: str
    owner_id: UUID
    delegate_id: UUID
    source: str
    message_id: str
    sending_account: str
    sent_at: datetime
    verified_at: datetime
