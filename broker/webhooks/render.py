"""What a party sees of an event, an allow-list of fields for each view, and the body that carries it. Pure."""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from broker.policies.terms import FeedbackKind
from broker.webhooks.events import Event, Shape, View


class Party(StrEnum):
    OWNER = "owner"
    DELEGATE = "delegate"


class Shown(msgspec.Struct, frozen=True):
    """The body of a webhook in the shape `standard` (Standard Webhooks 1.0, "Payload structure")."""

    type: str
    timestamp: datetime
    data: dict[str, Any]


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The body in the shape `cloudevents`: structured mode of CloudEvents 1.0 (its JSON event format).

    `type` has the reverse-DNS prefix that the specification recommends, so that it collides with nobody else's where
    the events of many producers meet; `source` says who vouches for the event, and `source` + `id` is unique. `subject`
    is what the event is about: the id of the grant, else the ARN of the identity, else the id of the connection or of
    the endpoint. No extension attributes.
    """

    specversion: str = "1.0"
    id: UUID
    source: str
    type: str
    subject: str | msgspec.UnsetType = msgspec.UNSET
    time: datetime
    datacontenttype: str = "application/json"
    data: dict[str, Any]


TYPE_PREFIX = "dev.ses-delegation-broker."
SOURCES = "https://ses-delegation-broker.dev/sources/"

_CONTENT_TYPES = {
    Shape.STANDARD: "application/json",
    Shape.CLOUDEVENTS: "application/cloudevents+json; charset=utf-8",
}
_SUBJECTS = ("grant_id", "identity", "connection_id", "endpoint_id")

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
_NOTHING: dict[str, Any] = dict.fromkeys((*_SHOWN, *_HIDDEN))

# What an owner can do by hand in its own account: names of its policies, and what others of its grants say.
_OWNERS_OWN = frozenset({"commands"})

# An ARN of an address identity holds the *sender's* address, which both parties have agreed on.
_MAY_HOLD_ADDRESS = frozenset({"identity"})
_HASH = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z-]{1,40}")
_FORMS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "status": re.compile(r"[245]\.\d{1,3}\.\d{1,3}"),
        "action": re.compile(r"failed|delayed|delivered|relayed|expanded"),  # RFC 3464, section 2.3.3
        "bounce_type": _WORD,
        "bounce_sub_type": _WORD,
        "feedback_type": _WORD,
        "reporting_mta": re.compile(r"(?:[a-z]+\s*;\s*)?[\w.-]{1,255}"),
    }
)
# What looks exactly like this was made by the broker or by SES, and is no stranger's: it is shown whatever the mailbox
# is called, `bounce@` or `2026@`. (SES Developer Guide, notification-contents: bounce types.)
_CODES: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "event_id": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "grant_id": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "message_id": re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]{6}"),
        "sending_account": re.compile(r"\d{12}"),
        "occurred_at": re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{5,15}(?:Z|[+-]\d\d:?\d\d)"),
        "source": re.compile(r"broker_topic|tenant_topic"),
        "kind": re.compile("|".join(kind.value for kind in FeedbackKind)),
        "bounce_type": re.compile(r"Permanent|Transient|Undetermined"),
        "bounce_sub_type": re.compile(
            r"Undetermined|General|NoEmail|Suppressed|OnAccountSuppressionList|OnTenantSuppressionList|MailboxFull"
            r"|MessageTooLarge|ContentRejected|AttachmentRejected|UnsubscribedRecipient|EmailValidationSuppressed"
        ),
        "status": _FORMS["status"],
        "action": _FORMS["action"],
    }
)
_VERP = re.compile(r"[^\s=](?:=|%3d)[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)  # `jane=example.org`, of whoever
_PLAIN = (str, int, float, bool, datetime, UUID)
_WIDTH: dict[str | None, int] = {None: 0, View.NONE: 1, View.HASHED: 2, View.FULL: 3}
_ENCODER = msgspec.json.Encoder()


def party_of(event: Event, tenant_id: UUID) -> Party | None:
    """As which party this tenant hears of the event; as both, the one that sees more; None: it does not hear of it."""
    owner = _width(event.owner_view) if event.owner_id == tenant_id else 0
    delegate = _width(event.delegate_view) if event.delegate_id == tenant_id else 0
    if not owner and not delegate:
        return None
    return Party.OWNER if owner >= delegate else Party.DELEGATE


def shown(event: Event, party: Party) -> Shown:
    """The event as `party` may see it; `ValueError` when that party must not hear of it."""
    return Shown(type=event.type, timestamp=event.at, data=_data(event, party))


def render(event: Event, party: Party, shape: Shape = Shape.STANDARD) -> bytes:
    """The body that is signed and sent: the event as `party` may see it; `ValueError` as in `shown`."""
    if shape == Shape.STANDARD:
        return _ENCODER.encode(shown(event, party))
    data = _data(event, party)
    body = CloudEvent(
        id=event.id,
        source=SOURCES + event.source,
        type=TYPE_PREFIX + event.type,
        subject=_subject(data),
        time=event.at,
        data=data,
    )
    return _ENCODER.encode(body)


def content_type(shape: Shape) -> str:
    """The media type of a body in this shape."""
    return _CONTENT_TYPES[shape]


def _subject(data: dict[str, Any]) -> str | msgspec.UnsetType:
    """Taken from what is shown: it can tell no more than the data does. Control characters would be against the rules.

    (CloudEvents 1.0.2, "Type System": String.)
    """
    for name in _SUBJECTS:
        value = data.get(name)
        if value:
            text = str(value)
            return text if text.isprintable() else msgspec.UNSET
    return msgspec.UNSET


def _data(event: Event, party: Party) -> dict[str, Any]:
    view = event.owner_view if party == Party.OWNER else event.delegate_view
    if not _width(view):
        raise ValueError(f"The {party} does not hear of event {event.id}.")
    if not event.type.startswith("email."):
        hidden = _OWNERS_OWN if party == Party.DELEGATE else frozenset()
        return {name: value for name, value in event.data.items() if name not in hidden} | {"event_id": event.id}
    if view == View.FULL:
        return {**event.data, "event_id": event.id}
    narrow = bare(event.data)
    narrow["event_id"] = event.id
    if view == View.HASHED:
        narrow["recipient_hash"] = event.recipient_hash or _hash(event.data)
    return narrow


def bare(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the view `none` shows of a mail event: nothing by which its recipient could be told; the rest is null."""
    narrow = _NOTHING.copy()
    local = _local_part(data.get("recipient"))
    for name in _SHOWN:
        value = data.get(name)
        if value is not None and _safe(name, value, local):
            narrow[name] = value
    if data.get("erased") is True:
        narrow["erased"] = True
    return narrow


def _hash(data: Mapping[str, Any]) -> str | None:
    found = data.get("recipient_hash")
    return found if isinstance(found, str) and _HASH.fullmatch(found) else None


def _width(view: str | None) -> int:
    """How much a view shows, 0 for a party that does not hear of the event; `ValueError` for one that is none."""
    width = _WIDTH.get(view)
    if width is None:
        raise ValueError(f"There is no view {view!r}.")
    return width


def _local_part(recipient: object) -> str:
    """In lower case; empty where there is none."""
    return recipient.strip().lower().rpartition("@")[0] if isinstance(recipient, str) else ""


def _safe(name: str, value: object, local: str) -> bool:
    """Reports are written by strangers: an address may stand where a code belongs (RFC 3464 fields are free text).

    What does not look like the code that it should be is hidden, and so is what names the recipient's mailbox.
    """
    if not isinstance(value, str):
        return isinstance(value, _PLAIN) and name not in _FORMS
    if name in _MAY_HOLD_ADDRESS:
        return True
    code, form = _CODES.get(name), _FORMS.get(name)
    if code is not None and code.fullmatch(value):
        return True
    if "@" in value or "%40" in value or _VERP.search(value) or (form is not None and not form.fullmatch(value)):
        return False
    return not (local and local in value.lower() and _names(local, value.lower()))


def _names(local: str, text: str) -> bool:
    """Whether the local part stands in the text as a word of its own: `a` is no secret in `failed`."""
    return re.search(rf"(?<![a-z0-9]){re.escape(local)}(?![a-z0-9])", text) is not None
