"""What the erasures' part of the API takes and answers."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.feedback.erasures.models import Stage, State


class Recipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to be erased."""

    address: Annotated[
        str,
        Meta(
            min_length=3,
            max_length=320,
            pattern=r"^\s*[^@\s][^\s]*@[^@\s]+\s*$",
            description="The bare e-mail address, compared without regard to case",
            examples=["jane@example.org"],
        ),
    ]


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each were blanked so far. `deliveries` were pending, and are counted as cancelled."""

    events: Annotated[int, Meta(description="Of the recipient: everything personal is blank", examples=[12])] = 0
    mentions: Annotated[int, Meta(description="Of others, whose text held the address", examples=[1])] = 0
    deliveries: Annotated[int, Meta(examples=[2])] = 0
    answers: Annotated[int, Meta(description="Of receivers, in the attempts' log", examples=[0])] = 0
    quarantined: Annotated[int, Meta(description="Messages in quarantine", examples=[0])] = 0
    stored_answers: Annotated[int, Meta(description="Of this API, kept for Idempotency-Keys", examples=[0])] = 0
    suppressions: Annotated[int, Meta(description="Kept as keyed hashes with their reasons", examples=[1])] = 0


class ErasureView(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient being erased; the address itself is never shown, and is gone once this is `done`."""

    id: UUID
    state: Annotated[State, Meta(examples=["running"])]
    stage: Annotated[
        Stage | None,
        Meta(
            description="What is being gone through; `in_flight`: what is on its way is waited for; null: done",
            examples=["owned"],
        ),
    ]
    erased: Erased
    key_id: Annotated[UUID | None, Meta(description="The API key that asked for it")]
    created_at: datetime
    ended_at: datetime | None
