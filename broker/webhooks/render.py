"""What a party sees of an event: an allow-list of fields for each view. Pure."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from broker.webhooks.events import Event, View


class Party(StrEnum):
    OWNER = "owner"
    DELEGATE = "delegate"


class Shown(msgspec.Struct, frozen=True):
    """The body of a webhook (Standard Webhooks 1.0, "Payload structure")."""

    type: str
    timestamp: datetime
    data: dict[str, Any]


# What a mail event may show to a party that may not see the recipient, and what it shows as null: diagnostic texts,
# subject, From, tags, user agent and the recipient's mail server can all hold the address or a part of it. Any field
# that is in neither list is left out, with its name.
_SHOWN = (
    "event_id", "grant_id", "identity", "message_id", "sending_account", "occurred_at", "source", "kind", "final",
    "bounce_type", "bounce_sub_type", "status", "action", "reporting_mta", "feedback_type", "processing_ms",
    "configuration_set",
)  # fmt: skip
_HIDDEN = (
    "recipient", "recipient_hash", "diagnostic_code", "remote_mta", "user_agent", "smtp_response", "from", "subject",
    "tags",
)  # fmt: skip

# An ARN of an address identity holds the *sender's* address, which both parties have agreed on.
_MAY_HOLD_ADDRESS = frozenset({"identity"})
_STATUS_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_BY_VIEW = {View.FULL: 2, View.HASHED: 1, View.NONE: 0}


def party_of(event: Event, tenant_id: UUID) -> Party | None:
    """As which party this tenant hears of the event; as both, the one that sees more; None: it does not hear of it."""
    views = {}
    if event.owner_id == tenant_id and event.owner_view is not None:
        views[Party.OWNER] = _BY_VIEW[View(event.owner_view)]
    if event.delegate_id == tenant_id and event.delegate_view is not None:
        views[Party.DELEGATE] = _BY_VIEW[View(event.delegate_view)]
    return max(views, key=lambda party: views[party], default=None)


def shown(event: Event, party: Party) -> Shown:
    """The event as `party` may see it; `ValueError` when that party must not hear of it."""
    view = event.owner_view if party == Party.OWNER else event.delegate_view
    if view is None:
        raise ValueError(f"The {party} does not hear of event {event.id}.")
    return Shown(type=event.type, timestamp=event.at, data=_data(event, View(view)))


def render(event: Event, party: Party) -> bytes:
    """The JSON of `shown`: what is signed and sent."""
    return msgspec.json.encode(shown(event, party))


def _data(event: Event, view: View) -> dict[str, Any]:
    data = {**event.data, "event_id": str(event.id)}
    if view is View.FULL or not event.type.startswith("email."):
        return data
    narrow: dict[str, Any] = {name: _safe(name, data.get(name)) for name in _SHOWN} | dict.fromkeys(_HIDDEN)
    narrow["recipient_hash"] = _hash_of(event) if view is View.HASHED else None
    return narrow


def _hash_of(event: Event) -> object:
    return event.recipient_hash or event.data.get("recipient_hash")


def _safe(name: str, value: object) -> object:
    """Reports are written by strangers: an address may stand where a code belongs (RFC 3464 fields are free text)."""
    if name == "status" and not (isinstance(value, str) and _STATUS_CODE.fullmatch(value)):
        return None
    if isinstance(value, str) and "@" in value and name not in _MAY_HOLD_ADDRESS:
        return None
    return value if isinstance(value, str | int | float | bool | datetime | UUID) else None
