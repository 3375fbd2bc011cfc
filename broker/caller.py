"""Who asks: a frozen value that every use case takes and that decides which rows exist for it."""

from enum import StrEnum
from uuid import UUID

import msgspec

from broker.errors import Forbidden


class Scope(StrEnum):
    """What an API key may do: look, change, decide on grants (approve, revoke …), administer keys."""

    READ = "read"
    WRITE = "write"
    DECIDE = "decide"
    ADMIN = "admin"


class IdempotencyRequest(msgspec.Struct, frozen=True):
    """One `Idempotency-Key` header: whose it is, the key, and a digest of method, path and body."""

    scope: str
    key: str
    fingerprint: bytes
    status: int


class Caller(msgspec.Struct, frozen=True):
    """A tenant acting through one of its keys, a worker acting for a tenant, or nobody yet."""

    tenant_id: UUID | None
    key_id: UUID | None = None
    scopes: frozenset[Scope] = frozenset()
    request_id: str = ""
    actor: str = "key"
    idempotency: IdempotencyRequest | None = None

    @classmethod
    def system(cls, tenant_id: UUID, *, job: str) -> "Caller":
        """The broker itself, acting on one tenant's rows; `job` names the work in the audit trail."""
        return cls(tenant_id=tenant_id, scopes=frozenset(Scope), actor=f"system:{job}")

    @property
    def tenant(self) -> UUID:
        """The tenant's id; `Forbidden` when there is none."""
        if self.tenant_id is None:
            raise Forbidden("This needs a tenant.")
        return self.tenant_id


NOBODY = Caller(tenant_id=None, actor="nobody")
