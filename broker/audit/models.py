"""The audit trail: one row per state change, never updated, and the chain that these rows are sealed into."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.due import Due
from broker.tables import Base


class AuditRow(Base):
    """Who did what to which subject; visible to the tenant and to the counterpart of a grant.

    `xact`: the transaction that wrote it, in whose order it is sealed; 0 for what was there before there were seals.
    """

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_tenant_id_idx", "tenant_id", "id"),
        Index("audit_counterpart_id_idx", "counterpart_id", "id"),
        Index("audit_subject_id_idx", "subject_id", "id"),
        Index("audit_tenant_id_xact_idx", "tenant_id", "xact", "id"),
        Index("audit_xact_idx", "xact"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    counterpart_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))
    actor: Mapped[str]
    key_id: Mapped[UUID | None]
    request_id: Mapped[str]
    action: Mapped[str]
    subject_kind: Mapped[str]
    subject_id: Mapped[UUID]
    details: Mapped[dict[str, Any]]
    xact: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id()::text::bigint)"))


class SealRow(Base):
    """The place of an entry in the chain of its tenant (a `chain.Seal`); hashes in hex. Never updated."""

    __tablename__ = "audit_seals"
    __table_args__ = (
        CheckConstraint("position > 0", name="position"),
        Index("audit_seals_counterpart_id_idx", "counterpart_id", "tenant_id", "position"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    entry_id: Mapped[UUID] = mapped_column(ForeignKey("audit.id"), unique=True)
    counterpart_id: Mapped[UUID | None]
    digest: Mapped[str]
    previous: Mapped[str]
    sealed_at: Mapped[datetime]
    hash: Mapped[str]
    key_id: Mapped[str]
    signature: Mapped[str]


class ChainRow(Due, Base):
    """Under the tenant's id: its entries up to (`after_xact`, `after_id`) are sealed, the last one as `position`."""

    __tablename__ = "audit_chains"
    __table_args__ = (
        CheckConstraint("tenant_id = id", name="tenant_id"),
        Index("audit_chains_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    after_xact: Mapped[int] = mapped_column(BigInteger, server_default=text("-1"))
    after_id: Mapped[UUID] = mapped_column(server_default=text("'00000000-0000-0000-0000-000000000000'"))
    position: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    hash: Mapped[str | None]


class MarkRow(Base):
    """One row: the chains of all that was written before this transaction have been made due."""

    __tablename__ = "audit_mark"
    __table_args__ = (CheckConstraint("id", name="id"),)

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    xact: Mapped[int] = mapped_column(BigInteger)
