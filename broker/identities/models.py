"""SES identities found in owners' accounts, and every policy document that was ever seen on them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.due import Due
from broker.tables import Base


class Identity(Due, Base):
    """One domain or address in one account and Region. Due: its policies are to be made equal to its grants.

    `policies` is what the last read found, name → JSON text; `attributes` is a `facts.Attributes`. `removed_at`: its
    connection was removed, so another tenant may bring the same ARN. `own_mail`: its owner hears of the mail
    that its own account sends from it. `deny_name`: under which name a Deny of ours is to stand there, while one is.
    """

    __tablename__ = "identities"
    __table_args__ = (
        CheckConstraint("kind IN ('domain', 'email')", name="kind"),
        Index("identities_arn_key", "arn", unique=True, postgresql_where=text("removed_at IS NULL")),
        Index("identities_tenant_id_idx", "tenant_id", "id"),
        Index("identities_connection_id_idx", "connection_id"),
        Index("identities_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    connection_id: Mapped[UUID] = mapped_column(ForeignKey("connections.id"))
    account_id: Mapped[str]
    region: Mapped[str]
    name: Mapped[str]
    kind: Mapped[str]
    arn: Mapped[str]
    verified: Mapped[bool]
    attributes: Mapped[dict[str, Any]]
    policies: Mapped[dict[str, Any]]
    read_at: Mapped[datetime | None]
    sync_error: Mapped[str | None]
    own_mail: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_at: Mapped[datetime | None]
    deny_name: Mapped[str | None]


class PolicyDocument(Base):
    """One policy as it was seen under one name, kept for ever: SES cannot give back what was deleted."""

    __tablename__ = "policy_documents"
    __table_args__ = (
        UniqueConstraint("identity_id", "name", "digest", name="policy_documents_identity_id_name_digest_key"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    identity_id: Mapped[UUID] = mapped_column(ForeignKey("identities.id"))
    name: Mapped[str]
    document: Mapped[str]
    digest: Mapped[bytes]
    ours: Mapped[bool]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
