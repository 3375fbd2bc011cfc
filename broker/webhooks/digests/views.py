"""What the API shows of digests, and what their webhooks hold."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

Sha256 = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 (hexadecimal) over the ids, sorted, each followed by a line feed",
        examples=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    ),
]


class TypeDigest(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one type."""

    count: int
    sha256: Sha256


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """Which events an endpoint was to get in a day (UTC), so that its receiver can tell whether it got them all."""

    endpoint_id: UUID
    day: Annotated[
        date, Meta(description="Of the ids: their first 48 bits are milliseconds, in UTC", examples=["2026-12-01"])
    ]
    count: Annotated[int, Meta(description="Of all types together", examples=[2])]
    sha256: Sha256
    types: Annotated[
        Mapping[str, TypeDigest],
        Meta(
            description="The same for each type that occurred",
            examples=[
                {
                    "email.bounced": {
                        "count": 2,
                        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                    }
                }
            ],
        ),
    ]
    cut_at: datetime
    filters_changed_at: Annotated[
        datetime | None,
        Meta(
            description="Set when the endpoint's filters were changed in this day or until the cut: the digest goes by"
            " the filters at `cut_at`, so compare with the feed of events instead",
            examples=[None],
        ),
    ]
    event_id: Annotated[UUID, Meta(description="Of the `endpoint.digest` event that told it")]
