"""The audit trail: one row per state change, never updated."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from broker.db import Base


class AuditRow(Base):
    """Who did what to which subject; visible to the tenant and to the counterpart of a grant."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_tenant_id_idx", "tenant_id", "id"),
        Index("audit_counterpart_id_idx", "counterpart_id", "id"),
        Index("audit_subject_id_idx", "subject_id", "id"),
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
