"""What is added up after it was stored: each new feedback event once, in the order of its owner's feed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from broker.policies.terms import FeedbackKind


class Reckoned(msgspec.Struct, frozen=True, kw_only=True):
    """One stored `email.*` event. `delegate_id` and `grant_id` None: the owner's own mail.

    `source` is `broker_topic` or `tenant_topic`; `recipients` how many recipients its message named (a complaint of
    several is a guess of SES).
    """

    event_id: UUID
    kind: FeedbackKind
    owner_id: UUID
    delegate_id: UUID | None
    grant_id: UUID | None
    identity_arn: str
    source: str
    message_id: str
    sent_at: datetime
    occurred_at: datetime
    recipient: str | None
    recipient_hash: str | None
    recipients: int
    final: bool | None
    bounce_type: str | None
    bounce_sub_type: str | None
    feedback_type: str | None
    complaint_sub_type: str | None = None


class Fold(Protocol):
    """Adds a batch to what is kept of one owner, in the reckoning's transaction; a handful of statements per batch.

    The session acts for the owner under the role broker_worker. Each event is given once: if the transaction fails, the
    same batch comes again.
    """

    async def __call__(self, session: AsyncSession, events: Sequence[Reckoned], *, now: datetime) -> None: ...
