"""What the replays' part of the API takes and answers."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.webhooks.replays.models import Kind, State

MOST_PER_SECOND = 500
PER_SECOND = 50

Rate = Annotated[
    int, Meta(ge=1, le=MOST_PER_SECOND, description="At most so many become due each second", examples=[PER_SECOND])
]
Moment = Annotated[datetime, Meta(tz=True, examples=["2026-11-30T00:00:00Z"])]


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every event from `from` on and before `until`, by its timestamp; `until` is now when it is absent."""

    from_: Moment = msgspec.field(name="from")
    until: Annotated[datetime, Meta(tz=True, examples=["2026-12-01T00:00:00Z"])] | None = None
    rate: Rate = PER_SECOND


class Since(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every delivery that was given up at this time or later."""

    since: Moment
    rate: Rate = PER_SECOND


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """A job that queues deliveries at a bounded rate. It is `done` once all are queued.

    `range`: every event of a stretch of time; `failed`: what was given up since a time; `catch_up`: what an endpoint
    missed while it was disabled. `pending`, `dead` and `delivered` sum up to `queued`, where one job is shown.
    """

    id: UUID
    endpoint_id: UUID
    kind: Annotated[Kind, Meta(examples=["range"])]
    state: Annotated[State, Meta(examples=["running"])]
    reason: Annotated[str | None, Meta(description="Why it waits or was cancelled")]
    from_: datetime = msgspec.field(name="from")
    until: datetime
    rate: Annotated[int, Meta(description="At most so many become due each second", examples=[50])]
    total: Annotated[int | None, Meta(description="How many it will queue; null: not known yet", examples=[1200])]
    queued: Annotated[int, Meta(examples=[400])]
    pending: Annotated[int | None, Meta(description="Of those queued; in lists null", examples=[20])] = None
    dead: Annotated[int | None, Meta(description="Of those queued; in lists null", examples=[0])] = None
    delivered: Annotated[int | None, Meta(description="Of those queued; in lists null", examples=[380])] = None
    key_id: Annotated[UUID | None, Meta(description="The API key that asked for it")]
    created_at: datetime
    ended_at: datetime | None
