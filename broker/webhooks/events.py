"""What an event is, and the names of all events."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec


class View(StrEnum):
    """How a party sees the recipient of a mail: the address, its hash, or nothing."""

    FULL = "full"
    HASHED = "hashed"
    NONE = "none"


class Shape(StrEnum):
    """How the body of a webhook is written: as in Standard Webhooks 1.0, or as a CloudEvent (1.0, structured mode)."""

    STANDARD = "standard"
    CLOUDEVENTS = "cloudevents"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, with both its parties and what each may see.

    `owner_view` and `delegate_view` are values of `View`; None: that party does not hear of it. `data` is the full
    form, of which `render` shows a part. `source` tells who vouches for it: `broker`, `broker_topic` or `tenant_topic`.
    `recipient_hash` is what a `hashed` view shows. `at` is when it happened and picks the partition.
    """

    id: UUID
    at: datetime
    type: str
    source: str
    data: dict[str, Any]
    owner_id: UUID | None = None
    delegate_id: UUID | None = None
    grant_id: UUID | None = None
    owner_view: str | None = None
    delegate_view: str | None = None
    recipient_hash: str | None = None
    payload: str | None = None


_NAMES = {
    "email": (
        "bounced", "complained", "delivered", "sent", "rejected", "delayed", "opened", "clicked", "rendering_failed",
        "subscription_changed", "unknown",
    ),
    "grant": (
        "proposed", "countered", "approved", "declined", "withdrawn", "lapsed", "activated", "activation_failed",
        "amended", "limit_warned", "suspended", "resumed", "revocation_requested", "revoked", "revocation_stuck",
        "sealed", "sent_after_end", "relinquished", "expires_soon", "expired", "drifted",
    ),
    "connection": ("verified", "degraded", "lost"),
    "endpoint": ("disabled", "test", "digest"),
}  # fmt: skip

EVENT_TYPES = frozenset(f"{family}.{name}" for family, names in _NAMES.items() for name in names)
ADDRESSED = frozenset({"endpoint.test", "endpoint.digest"})
"""What goes to one endpoint alone, named in `data.endpoint_id`: no other endpoint of the tenant ever gets it."""

FAMILIES = frozenset(f"{family}.*" for family in _NAMES)


def unknown_types(wanted: list[str]) -> list[str]:
    """Those of `wanted` that are neither an event type nor a whole family such as `email.*`."""
    return [name for name in wanted if name not in EVENT_TYPES and name not in FAMILIES]
