"""What the API answers about routes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec


class RouteKind(StrEnum):
    identity_topic = "identity_topic"
    configuration_set = "configuration_set"
    foreign_topic = "foreign_topic"
    legacy = "legacy"


class RouteState(StrEnum):
    """`configured`: set up, nothing heard yet; `live`: an event of this delegate's account came through.

    `quiet`: set up and silent against expectation; `pending`: waits for what `choices` name; `broken`: does not work.
    """

    requested = "requested"
    configured = "configured"
    live = "live"
    quiet = "quiet"
    pending = "pending"
    broken = "broken"
    removed = "removed"


class NewRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route to be made for one of your grants. Which `settings` there are depends on the kind."""

    grant_id: Annotated[UUID, msgspec.Meta(examples=["019aabcd-0000-7abc-8def-0123456789ab"])]
    kind: Annotated[
        RouteKind,
        msgspec.Meta(
            description="The owner makes `identity_topic`, the delegate `configuration_set` and `foreign_topic`; "
            "either makes `legacy`",
            examples=["identity_topic"],
        ),
    ]
    settings: Annotated[
        dict[str, Any],
        msgspec.Meta(description="What can be chosen for this kind; unknown fields are refused", examples=[{}]),
    ] = {}


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
    choices: Annotated[
        list[str],
        msgspec.Meta(
            description="What can be done about the reason",
            examples=[["The owner clears the setting in SES, and the broker's topic takes its place."]],
        ),
    ]
    wanted: Annotated[bool, msgspec.Meta(description="False: it is being removed", examples=[True])]
    made_by: Annotated[Literal["owner", "delegate"], msgspec.Meta(description="Who asked for it", examples=["owner"])]
    settings: Annotated[
        dict[str, Any] | None,
        msgspec.Meta(description="What was asked for; shown to whom it concerns", examples=[{}]),
    ]
    found: Annotated[
        dict[str, Any] | None,
        msgspec.Meta(
            description="What the last check saw; shown to the party in whose account it is",
            examples=[{"identities": {"example.com": {"bounce": "ours", "email_forwarding": True}}}],
        ),
    ]
    topic_arn: Annotated[
        str | None,
        msgspec.Meta(
            description="The SNS topic that it comes through; shown to the party whose it is",
            examples=["arn:aws:sns:eu-west-1:999999999999:ses-delegation-broker-019aabcb00007abc8def0123456789ab"],
        ),
    ]
    previous: Annotated[
        dict[str, Any] | None,
        msgspec.Meta(
            description="What was set before us, by identity; shown to the party in whose account it is",
            examples=[{"example.com": {"bounce": None, "complaint": None, "delivery": None}}],
        ),
    ]
    live_at: Annotated[
        datetime | None,
        msgspec.Meta(description="When the first event came through", examples=["2026-01-05T10:00:00Z"]),
    ]
    heard_at: Annotated[
        datetime | None,
        msgspec.Meta(description="About when the last one did", examples=["2026-01-06T10:00:00Z"]),
    ]
    durable: Annotated[
        bool | None,
        msgspec.Meta(
            description="Whether nothing is lost while the broker is away: all comes through its queue, or over HTTPS "
            "with its retry policy and a dead-letter queue; null where nothing comes to the broker, or not yet",
            examples=[True],
        ),
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
