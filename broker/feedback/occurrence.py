"""What feedback is about, and one thing that happened, in names of RFC 3464 and RFC 5965 where these have one."""

from datetime import datetime

import msgspec

from broker.policies.terms import FeedbackKind


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """The message that feedback is about. `message_id` is SES's own, not the Message-ID header.

    `sent_at` is equal on every route. `source_arn` is the identity, `sending_account` the delegate's account.
    """

    sent_at: datetime
    message_id: str
    source_arn: str | None = None
    sending_account: str | None = None
    from_address: str | None = None
    subject: str | None = None
    destination: tuple[str, ...] = ()
    configuration_set: str | None = None
    tags: dict[str, list[str]] = {}


class Preferences(msgspec.Struct, frozen=True):
    """What a contact wants of a contact list: everything ended, and by topic `OptIn` or `OptOut`."""

    unsubscribe_all: bool | None
    topics: dict[str, str]


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to one recipient. Names follow RFC 3464 (delivery) and RFC 5965 (complaints).

    `final` answers "is mailing this recipient again pointless?": true for a permanent bounce and for mail that SES will
    never send (reject, rendering failure), false for a transient bounce and a delay, null where SES cannot tell
    (undetermined bounce) or where it is not a matter of delivery. `recipient` is null where SES does not tell it.

    A kind of None is a type that SES calls `ses_type`; `told_apart_by` is a digest of what it says.
    """

    kind: FeedbackKind | None
    occurred_at: datetime
    recipient: str | None = None
    final: bool | None = None
    bounce_type: str | None = None
    bounce_sub_type: str | None = None
    complaint_sub_type: str | None = None
    status: str | None = None
    action: str | None = None
    diagnostic_code: str | None = None
    reporting_mta: str | None = None
    remote_mta: str | None = None
    feedback_type: str | None = None
    user_agent: str | None = None
    smtp_response: str | None = None
    processing_ms: int | None = None
    feedback_id: str | None = None
    arrival_date: datetime | None = None
    delay_type: str | None = None
    will_retry_until: datetime | None = None
    reject_reason: str | None = None
    template_name: str | None = None
    error_message: str | None = None
    ip_address: str | None = None
    link: str | None = None
    link_tags: dict[str, list[str]] | None = None
    contact_list: str | None = None
    subscription_source: str | None = None
    new_topic_preferences: Preferences | None = None
    old_topic_preferences: Preferences | None = None
    ses_type: str | None = None
    told_apart_by: str | None = None
