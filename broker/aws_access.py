"""How to act in a tenant's AWS account: the role, its ExternalId and the Region."""

from uuid import UUID

import msgspec


class RoleAccess(msgspec.Struct, frozen=True):
    """A tenant's role as the gateways need it; no credentials."""

    tenant_id: UUID
    account_id: str
    role_arn: str
    external_id: str
    region: str
