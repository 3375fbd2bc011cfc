"""What the webhooks' part of the API takes and answers."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

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


class NewEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new webhook endpoint."""

    url: Url
    description: Description | None = None
    event_types: EventTypes | None = None


class EndpointChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be changed of an endpoint; absent fields stay, null empties."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType | None = msgspec.UNSET
    event_types: EventTypes | msgspec.UnsetType | None = msgspec.UNSET


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook endpoint. `reason` says why it is disabled; `failing_since` is empty while deliveries succeed."""

    id: UUID
    url: str
    description: str | None
    event_types: Sequence[str] | None
    state: Annotated[str, Meta(description="active or disabled", examples=["active"])]
    reason: str | None
    failing_since: datetime | None
    created_at: datetime


class EndpointMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new endpoint with its signing secret, which is shown this once (Standard Webhooks 1.0)."""

    id: UUID
    url: str
    description: str | None
    event_types: Sequence[str] | None
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
