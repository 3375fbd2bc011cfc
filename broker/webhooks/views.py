"""What the webhooks' part of the API takes and answers."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.webhooks.events import Shape

Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2000,
        description="Where events are posted: https, port 443 or 8443, a public address",
        examples=["https://hooks.example.com/ses"],
    ),
]
Description = Annotated[str, Meta(max_length=500, description="For your own use", examples=["Production"])]
EventTypes = Annotated[
    list[str],
    Meta(
        min_length=1,
        max_length=100,
        description="Which events it gets: names, or whole families such as `email.*`; null or absent for all",
        examples=[["email.bounced", "grant.*"]],
    ),
]

GrantIds = Annotated[
    list[UUID],
    Meta(
        min_length=1,
        max_length=100,
        description="Only events of these grants, so none that has no grant; null or absent for all",
        examples=[["01961e2c-6f3a-7c3e-9d5b-0a7d3c1f2e4b"]],
    ),
]
IdentityArn = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^arn:[^\s]+$(?!\n)")]
IdentityArns = Annotated[
    list[IdentityArn],
    Meta(
        min_length=1,
        max_length=100,
        description="Only events of these SES identities, so none that has no identity; null or absent for all",
        examples=[["arn:aws:ses:eu-west-1:111111111111:identity/example.com"]],
    ),
]
Headers = Annotated[
    dict[str, str],
    Meta(
        max_length=10,
        description="Sent with every webhook; none of the connection, the body or the signature. Values are not shown.",
        examples=[{"authorization": "Bearer your-own-token"}],
    ),
]

RateLimit = Annotated[
    int,
    Meta(
        ge=1,
        le=1000,
        description="Deliveries per second at most, retries among them; what is above waits; null or absent: no limit",
        examples=[50],
    ),
]
BodyShape = Annotated[
    Shape,
    Meta(
        description="How the body is written: `standard` is {type, timestamp, data} as in Standard Webhooks 1.0,"
        " `cloudevents` is CloudEvents 1.0 in structured mode; both are signed alike",
        examples=["standard"],
    ),
]


class NewEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new webhook endpoint."""

    url: Url
    description: Description | None = None
    event_types: EventTypes | None = None
    grant_ids: GrantIds | None = None
    identity_arns: IdentityArns | None = None
    headers: Headers | None = None
    rate_limit: RateLimit | None = None
    shape: BodyShape = Shape.STANDARD


class EndpointChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be changed of an endpoint; absent fields stay, null empties."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType | None = msgspec.UNSET
    event_types: EventTypes | msgspec.UnsetType | None = msgspec.UNSET
    grant_ids: GrantIds | msgspec.UnsetType | None = msgspec.UNSET
    identity_arns: IdentityArns | msgspec.UnsetType | None = msgspec.UNSET
    headers: Headers | msgspec.UnsetType | None = msgspec.UNSET
    rate_limit: RateLimit | msgspec.UnsetType | None = msgspec.UNSET
    shape: BodyShape | msgspec.UnsetType = msgspec.UNSET


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the secret that is replaced goes on signing."""

    overlap_hours: Annotated[
        int, Meta(ge=0, le=168, description="0: it stops at once; at most a week", examples=[24])
    ] = 24


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """A signing secret, without the secret. `expires_at`: it was replaced, and signs until then."""

    id: UUID
    created_at: datetime
    expires_at: datetime | None
    last_used_at: Annotated[datetime | None, Meta(description="When it last signed, to the minute")]


class SecretMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new signing secret, which is shown this once. `previous_until`: until when the one before signs, too."""

    id: UUID
    endpoint_id: UUID
    secret: Annotated[str, Meta(description="`whsec_` and base64", examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])]
    created_at: datetime
    previous_until: datetime | None


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook endpoint. `reason` says why it is disabled; `failing_since` is empty while deliveries succeed."""

    id: UUID
    url: str
    description: str | None
    event_types: Sequence[str] | None
    grant_ids: Sequence[UUID] | None
    identity_arns: Sequence[str] | None
    header_names: Annotated[Sequence[str], Meta(description="Of your own headers; their values are never shown")]
    rate_limit: Annotated[int | None, Meta(description="Deliveries per second; null: no limit", examples=[50])]
    shape: BodyShape
    secrets: Annotated[Sequence[SecretView], Meta(description="Those that sign, the newest first")]
    state: Annotated[str, Meta(description="active, paused or disabled", examples=["active"])]
    reason: str | None
    failing_since: datetime | None
    created_at: datetime


class EndpointMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new endpoint with its signing secret, which is shown this once (Standard Webhooks 1.0)."""

    id: UUID
    url: str
    description: str | None
    event_types: Sequence[str] | None
    grant_ids: Sequence[UUID] | None
    identity_arns: Sequence[str] | None
    header_names: Sequence[str]
    rate_limit: int | None
    shape: BodyShape
    state: str
    secret: Annotated[str, Meta(description="`whsec_` and base64", examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])]
    created_at: datetime


class DeliveryState(StrEnum):
    PENDING = "pending"
    DEAD = "dead"


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One event that an endpoint must still get, or did not take in the end (`dead`)."""

    id: Annotated[
        str,
        Meta(
            description="`<endpoint>.<event>`",
            examples=["01961e2c-6f3a-7c3e-9d5b-0a7d3c1f2e4b.01961e2d-1b2c-7d4e-8f6a-7b8c9d0e1f2a"],
        ),
    ]
    endpoint_id: UUID
    event_id: UUID
    event_at: datetime
    type: Annotated[
        str | None,
        Meta(description="Type of the event; null once that is no longer kept", examples=["email.bounced"]),
    ]
    state: DeliveryState
    attempts: int
    next_at: datetime | None = None
    reason: str | None = None
    died_at: datetime | None = None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP try. No `status`: there was no answer, and `error` says why. `answer` is the beginning of the body."""

    id: UUID
    at: datetime
    number: Annotated[int, Meta(description="From 1, anew after a replay", examples=[1])]
    status: Annotated[int | None, Meta(examples=[503])]
    latency_ms: int
    error: str | None
    answer: str | None


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """One event as you may see it: `type`, `timestamp` and `data` are what your webhook gets."""

    id: UUID
    type: Annotated[str, Meta(examples=["email.bounced"])]
    timestamp: datetime
    data: dict[str, Any]


class EventFeed(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the feed. `cursor` is what to give as `after` next time, even when `more` is false."""

    items: Sequence[EventView]
    cursor: str | None
    more: bool
