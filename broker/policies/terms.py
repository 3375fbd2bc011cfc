"""What a grant agrees on: the terms, which are also the JSON of an offer."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

import msgspec

Side = Literal["owner", "delegate"]


class Action(StrEnum):
    """A way of sending, as tenants name it; `ACTION_TO_IAM` says what SES checks for it."""

    send = "send"
    send_raw = "send_raw"
    send_templated = "send_templated"
    send_bulk = "send_bulk"


class FeedbackKind(StrEnum):
    """The ten event types of SES event publishing (SES API v2, EventDestination.MatchingEventTypes)."""

    bounce = "bounce"
    complaint = "complaint"
    delivery = "delivery"
    send = "send"
    reject = "reject"
    delay = "delay"
    open = "open"
    click = "click"
    rendering_failure = "rendering_failure"
    subscription = "subscription"


class View(StrEnum):
    """How a party sees recipients: in full, as a keyed hash that it can match its own list against, or not at all."""

    full = "full"
    hashed = "hashed"
    none = "none"


ACTION_TO_IAM: Mapping[Action, tuple[str, ...]] = MappingProxyType(
    {
        Action.send: ("ses:SendEmail",),
        # Also what SMTP needs, and API v2's SendEmail with raw content (SES Developer Guide, control-user-access).
        Action.send_raw: ("ses:SendRawEmail",),
        Action.send_templated: ("ses:SendTemplatedEmail",),
        # API v2's SendBulkEmail is checked against both (django-anymail's SES page; no page of AWS says so).
        Action.send_bulk: ("ses:SendBulkTemplatedEmail", "ses:SendBulkEmail"),
    }
)

HEARD_BY_DEFAULT = (FeedbackKind.bounce, FeedbackKind.complaint, FeedbackKind.delivery)


class FeedbackTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who hears which feedback and how.

    `retention_days` is how long the broker keeps an event; `purpose`, `controller` and `processor` are what the parties
    put on record about personal data, and change nothing that the broker does.
    """

    owner_events: tuple[FeedbackKind, ...] = HEARD_BY_DEFAULT
    delegate_events: tuple[FeedbackKind, ...] = HEARD_BY_DEFAULT
    owner_view: View = View.hashed
    retention_days: int = 30
    purpose: str = ""
    controller: Side = "owner"
    processor: Side = "delegate"


BOUNCE_RATE, COMPLAINT_RATE, MINIMUM_SENDS = 0.05, 0.001, 500
"""What trips the breaker where the terms do not say otherwise."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What trips the breaker: rates as fractions (0.05 is five in a hundred), sends per day as a count.

    Without them, 0.05 bounces and 0.001 complaints. `minimum_sends`: of fewer in 24 hours rates say nothing (500).
    """

    bounce_rate: float | None = None
    complaint_rate: float | None = None
    sends_per_day: int | None = None
    minimum_sends: int | None = None


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be sent, by whom, as whom, to whom, from where and until when.

    `principals` are account ids, `…:root`, IAM user or role ARNs. Addresses, display names and recipients are patterns
    in which `*` and `?` are wildcards; an empty tuple means "no limit". `source_ips` are CIDR blocks of either family.
    `require_tls_to_ses` is about the caller's connection to SES and says nothing about recipients. Addresses keep their
    spelling, since SES compares them case-sensitively. `accept_unlimited_bulk` is the owner's word that `send_bulk` may
    stand beside address limits (SES gives SendBulkEmail no address keys: Service Authorization Reference, Amazon SES
    v2).
    """

    principals: tuple[str, ...]
    actions: tuple[Action, ...]
    from_addresses: tuple[str, ...] = ()
    from_display_names: tuple[str, ...] = ()
    feedback_addresses: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    source_ips: tuple[str, ...] = ()
    require_tls_to_ses: bool = False
    not_before: datetime | None = None
    expires_at: datetime
    feedback: FeedbackTerms = FeedbackTerms()
    limits: Limits = Limits()
    accept_unlimited_bulk: bool = False

    @property
    def limits_addresses(self) -> bool:
        """Whether any of SES's four address keys is limited."""
        return bool(self.from_addresses or self.from_display_names or self.feedback_addresses or self.recipients)
