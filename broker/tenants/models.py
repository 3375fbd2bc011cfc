"""Tenants and their API keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from broker.tables import Base


class Tenant(Base):
    """An organisation registered with the broker: an owner, a delegate or both.

    `alarm_address` hears by mail of what is stuck.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint("roles <@ ARRAY['owner', 'delegate'] AND cardinality(roles) > 0", name="roles"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    roles: Mapped[list[str]]
    contact_email: Mapped[str | None]
    alarm_address: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantQuota(Base):
    """What the operator allows one tenant in place of the installation's number; `name` as in the setting."""

    __tablename__ = "quotas"
    __table_args__ = (CheckConstraint("most >= 0", name="most"),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    most: Mapped[int]


class ApiKey(Base):
    """A key of a tenant. Only a keyed digest of it is stored; `prefix` is what people recognise it by."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("digest", name="api_keys_digest_key"),
        Index("api_keys_tenant_id_idx", "tenant_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[bytes]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
