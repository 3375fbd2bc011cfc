"""What the suppressions' part of the API takes and answers."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.feedback.recipients import Reason

MOST_ADDRESSES = 100
WARNING = (
    "SES then refuses these recipients for all mail of this AWS account in this Region, that for your other clients"
    " included, whoever's domain it comes from. Entries that were put there stay when this is switched off; SES takes"
    " them away with DeleteSuppressedDestination."
)

Address = Annotated[str, Meta(min_length=3, max_length=320, examples=["jane@example.org"])]
IdentityArn = Annotated[str, Meta(examples=["arn:aws:ses:eu-west-1:111111111111:identity/example.com"])]


class Format(StrEnum):
    """How a list is answered."""

    JSON = "json"
    CSV = "csv"


class SuppressionView(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why a recipient must not be mailed again from this identity, as far as the terms show you who it is.

    `recipient_hash` is made with the key of the grant in `grant_id` (see the grant's `recipient_hash_key`).
    """

    id: UUID
    recipient: Annotated[
        str | None,
        Meta(description="Null where the terms hide it, and once it is erased", examples=["jane@example.org"]),
    ]
    recipient_hash: Annotated[
        str | None, Meta(description="Null where the terms hide it", examples=["9f86d081884c7d65"])
    ]
    reason: Annotated[Reason, Meta(examples=["hard_bounce"])]
    guessed: Annotated[bool, Meta(description="SES named several recipients who may have complained", examples=[False])]
    identity_arn: IdentityArn
    grant_id: Annotated[UUID | None, Meta(description="Under which it came last; null: the owner's own mail")]
    since: datetime
    last_at: datetime


class Addresses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to look for, and on which identity (all of yours when it is absent)."""

    addresses: Annotated[list[Address], Meta(min_length=1, max_length=MOST_ADDRESSES)]
    identity_arn: IdentityArn | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One reason."""

    reason: Annotated[Reason, Meta(examples=["complaint"])]
    identity_arn: IdentityArn
    grant_id: UUID | None
    since: datetime


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one address is suppressed, and why."""

    address: Annotated[str, Meta(examples=["jane@example.org"])]
    suppressed: Annotated[bool, Meta(examples=[True])]
    reasons: Sequence[Found]


class Checks(msgspec.Struct, frozen=True):
    """In the order in which they were asked for."""

    results: Sequence[Checked]


class Push(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The switch for one of your accounts (by its connection) in one Region."""

    connection_id: UUID
    region: Annotated[str, Meta(examples=["eu-west-1"])]
    enabled: Annotated[bool, Meta(description=WARNING, examples=[True])]


class PushView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether suppressions are put into the suppression list of your own SES account. Off unless you switch it on."""

    id: UUID
    connection_id: UUID
    region: Annotated[str, Meta(examples=["eu-west-1"])]
    enabled: bool
    warning: Annotated[str, Meta(examples=[WARNING])] = WARNING
    permission: Annotated[
        str, Meta(description="What your role must allow for it", examples=["ses:PutSuppressedDestination"])
    ] = "ses:PutSuppressedDestination"
    pushed: Annotated[int, Meta(description="How many were put there", examples=[17])]
    reason: Annotated[str | None, Meta(description="Why it does not go on")]
    created_at: datetime
