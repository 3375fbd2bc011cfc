"""What the API answers about routes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec


class RouteKind(StrEnum):
    identity_topic = "identity_topic"
    configuration_set = "configuration_set"
    foreign_topic = "foreign_topic"
    legacy = "legacy"


class RouteState(StrEnum):
    """`configured`: set up, nothing heard yet; `live`: an event of this delegate's account came through."""

    requested = "requested"
    configured = "configured"
    live = "live"
    quiet = "quiet"
    pending = "pending"
    broken = "broken"
    removed = "removed"


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    """How feedback about one grant reaches the broker."""

    id: Annotated[UUID, msgspec.Meta(examples=["019aabcd-1234-7abc-8def-0123456789ab"])]
    grant_id: Annotated[UUID, msgspec.Meta(examples=["019aabcd-0000-7abc-8def-0123456789ab"])]
    identity_id: Annotated[UUID, msgspec.Meta(examples=["019aabcc-0000-7abc-8def-0123456789ab"])]
    kind: Annotated[RouteKind, msgspec.Meta(description="How it is set up", examples=["identity_topic"])]
    state: Annotated[RouteState, msgspec.Meta(description="How far it is", examples=["live"])]
    reason: Annotated[
        str | None, msgspec.Meta(description="Why it is pending or broken, and what can be done", examples=[None])
    ]
    topic_arn: Annotated[
        str | None,
        msgspec.Meta(
            description="The SNS topic; shown to the owner only",
            examples=["arn:aws:sns:eu-west-1:999999999999:ses-delegation-broker-019aabcb00007abc8def0123456789ab"],
        ),
    ]
    previous: Annotated[
        dict[str, str | None] | None,
        msgspec.Meta(
            description="Topic ARNs by kind of feedback as they were before us; shown to the owner only",
            examples=[{"bounce": None, "complaint": None, "delivery": None}],
        ),
    ]
    live_at: Annotated[
        datetime | None,
        msgspec.Meta(description="When the first event came through", examples=["2026-01-05T10:00:00Z"]),
    ]
    created_at: Annotated[datetime, msgspec.Meta(examples=["2026-01-05T09:00:00Z"])]


class QuarantinedView(msgspec.Struct, frozen=True, kw_only=True):
    """A message that could not be read, or said what its topic may not say. It was delivered to nobody."""

    id: Annotated[UUID, msgspec.Meta(examples=["019aabcd-1234-7abc-8def-0123456789ab"])]
    at: Annotated[datetime, msgspec.Meta(description="When it came", examples=["2026-01-05T10:00:00Z"])]
    topic_arn: Annotated[
        str,
        msgspec.Meta(
            description="The SNS topic that it came through",
            examples=["arn:aws:sns:eu-west-1:222222222222:ses-feedback"],
        ),
    ]
    reason: Annotated[
        str,
        msgspec.Meta(examples=["Another account than the topic's is said to have sent the mail."]),
    ]
    payload: Annotated[
        str | None,
        msgspec.Meta(
            description="As it came, where the topic is your own; null for one of the broker's", examples=[None]
        ),
    ]
