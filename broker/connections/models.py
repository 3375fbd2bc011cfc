"""Tenants' AWS accounts, and which tenant has proven which account."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.aws_access import RoleAccess
from broker.due import Due
from broker.tables import Base


class Kind(StrEnum):
    """How we deal with an account: by its role, by a proof without rights, or through the owner's own hands."""

    ROLE = "role"
    PROOF = "proof"
    MANUAL = "manual"


class State(StrEnum):
    """`degraded`: verified before, trouble since; `lost`: not usable, `reason` says why."""

    PENDING = "pending"
    VERIFIED = "verified"
    DEGRADED = "degraded"
    LOST = "lost"
    REMOVED = "removed"


class Connection(Due, Base):
    """One AWS account of one tenant. Due: its role is to be checked. `nonce`: an open challenge to prove it.

    `roles`: what its role is for, of an owner, a delegate or both.
    """

    __tablename__ = "connections"
    __table_args__ = (
        CheckConstraint("kind IN ('role', 'proof', 'manual')", name="kind"),
        CheckConstraint("roles <@ ARRAY['owner', 'delegate'] AND cardinality(roles) > 0", name="roles"),
        CheckConstraint("account_id ~ '^[0-9]{12}$'", name="account_id"),
        CheckConstraint("state IN ('pending', 'verified', 'degraded', 'lost', 'removed')", name="state"),
        Index(
            "connections_tenant_id_account_id_key",
            "tenant_id",
            "account_id",
            unique=True,
            postgresql_where=text("state <> 'removed'"),
        ),
        Index("connections_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str]
    account_id: Mapped[str]
    regions: Mapped[list[str]]
    roles: Mapped[list[str]] = mapped_column(server_default="{owner}", default=lambda: ["owner"])
    # "AWS does not treat the external ID as a secret" (IAM User Guide, id_roles_create_for-user_externalid).
    external_id: Mapped[str]
    role_arn: Mapped[str | None]
    state: Mapped[str]
    reason: Mapped[str | None]
    nonce: Mapped[str | None]
    nonce_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    verified_at: Mapped[datetime | None]

    def access(self, region: str) -> RoleAccess:
        """How to act in this account in one Region; ValueError when the connection has no role."""
        if self.role_arn is None:
            raise ValueError(f"Connection {self.id} has no role.")
        return RoleAccess(
            tenant_id=self.tenant_id,
            account_id=self.account_id,
            role_arn=self.role_arn,
            external_id=self.external_id,
            region=region,
        )


class Account(Base):
    """A proven account, bound to the one tenant that proved it: its primary key is what stops a second."""

    __tablename__ = "accounts"
    __table_args__ = (Index("accounts_tenant_id_idx", "tenant_id"),)

    account_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    connection_id: Mapped[UUID] = mapped_column(ForeignKey("connections.id"))
    proven_at: Mapped[datetime] = mapped_column(server_default=func.now())
