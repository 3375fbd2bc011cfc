"""Grants and offers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from broker.grants.lifecycle import Effect, Outcome, Paper
from broker.tables import Base, EnumText


def _one_of(column: str, kind: type[Paper] | type[Effect] | type[Outcome]) -> CheckConstraint:
    values = ", ".join(f"'{member.value}'" for member in kind)
    return CheckConstraint(f"{column} IN ({values})", name=column)


class Grant(Base):
    """The contract between one owner and one delegate about one identity. Never deleted.

    `paper` is what was agreed, `effect` what SES is known to hold. `terms` are the agreed ones; `accounts`, `feedback`,
    `from_addresses` and the window are copied from them for routing. Every change of paper raises `version`.

    `slot` says which policy of the identity it is in, maybe beside others; None where its owner applies and removes the
    policy itself and says so (`by_hand`). `size` is what the agreed terms take there, in bytes.

    `protected_by` is `deny` where a read has shown a Deny for a grant whose access was taken back, otherwise `reads`,
    and `protection` says why; None for one that nobody takes back from SES. `sealed_at`: nothing can bring it back.

    `suspended_at`, `suspended_by` and `suspension`, which says why, are those of the latest suspension; `resumed_at` is
    when one ended last. `replaces` is an `adopting.replaces.Replaces`: the foreign policy whose place this takes.
    """

    __tablename__ = "grants"
    __table_args__ = (
        _one_of("paper", Paper),
        _one_of("effect", Effect),
        CheckConstraint("owner_id <> delegate_id", name="parties"),
        CheckConstraint("suspended_by IN ('owner', 'breaker')", name="suspended_by"),
        CheckConstraint("protected_by IN ('deny', 'reads')", name="protected_by"),
        Index("grants_owner_id_idx", "owner_id", "id"),
        Index("grants_delegate_id_idx", "delegate_id", "id"),
        Index("grants_identity_id_idx", "identity_id"),
        Index("grants_identity_arn_idx", "identity_arn"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    delegate_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    identity_id: Mapped[UUID] = mapped_column(ForeignKey("identities.id"))
    identity_arn: Mapped[str]
    paper: Mapped[Paper] = mapped_column(EnumText(Paper))
    effect: Mapped[Effect] = mapped_column(EnumText(Effect))
    error: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default=text("1"), default=1)
    latest_offer_id: Mapped[UUID] = mapped_column(
        ForeignKey("offers.id", deferrable=True, initially="DEFERRED", use_alter=True)
    )
    agreed_offer_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("offers.id", deferrable=True, initially="DEFERRED", use_alter=True)
    )
    terms: Mapped[dict[str, Any] | None]
    accounts: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    feedback: Mapped[dict[str, Any] | None]
    from_addresses: Mapped[list[str] | None] = mapped_column(
        JSONB, Computed("terms -> 'from_addresses'::text", persisted=True)
    )
    not_before: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    slot: Mapped[int | None]
    size: Mapped[int | None]
    drifted: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    by_hand: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    residual: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    agreed_at: Mapped[datetime | None]
    activated_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    stuck_at: Mapped[datetime | None]
    suspended_at: Mapped[datetime | None]
    suspended_by: Mapped[str | None]
    suspension: Mapped[dict[str, Any] | None]
    resumed_at: Mapped[datetime | None]
    protected_by: Mapped[str | None]
    protection: Mapped[str | None]
    sealed_at: Mapped[datetime | None]
    replaces: Mapped[dict[str, Any] | None]


class Offer(Base):
    """One version of the terms, put forward by one party; never changed after it is made, only decided."""

    __tablename__ = "offers"
    __table_args__ = (
        CheckConstraint("made_by IN ('owner', 'delegate')", name="made_by"),
        _one_of("outcome", Outcome),
        UniqueConstraint("grant_id", "number", name="offers_grant_id_number_key"),
        Index("offers_grant_id_open_key", "grant_id", unique=True, postgresql_where=text("outcome IS NULL")),
        Index("offers_lapses_at_idx", "lapses_at", postgresql_where=text("outcome IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("grants.id"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    delegate_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    number: Mapped[int]
    made_by: Mapped[str]
    terms: Mapped[dict[str, Any]]
    note: Mapped[str | None]
    outcome: Mapped[Outcome | None] = mapped_column(EnumText(Outcome))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lapses_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
