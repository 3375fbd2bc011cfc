"""Calls under a tenant's role, each narrowed by a session policy."""

from collections.abc import Sequence
from typing import Any, Protocol

from broker.aws_access import RoleAccess
from broker.gateways.aws import Aws, SessionEnded
from broker.gateways.sts import StsGateway


class SessionPolicy(Protocol):
    """Makes the session policy that allows just these operations on just these resources."""

    def __call__(self, operations: Sequence[str], resources: Sequence[str]) -> str: ...


class AsRole:
    """One service in tenants' accounts."""

    def __init__(self, aws: Aws, sts: StsGateway, session_policy: SessionPolicy, *, service: str) -> None:
        self._aws = aws
        self._sts = sts
        self._session_policy = session_policy
        self._service = service

    async def call(
        self,
        access: RoleAccess,
        operation: str,
        *,
        allowed: Sequence[str],
        resources: Sequence[str],
        **parameters: Any,
    ) -> dict[str, Any]:
        """One call under a session that allows these operations on these ARNs.

        Once more under a new session when the kept one turned out to be over. Raises `Unavailable` or `Refused`.
        """
        policy = self._session_policy(allowed, resources)
        try:
            return await self._once(access, operation, policy, **parameters)
        except SessionEnded:
            self._sts.forget(access)
            return await self._once(access, operation, policy, **parameters)

    async def _once(self, access: RoleAccess, operation: str, policy: str, **parameters: Any) -> dict[str, Any]:
        credentials = await self._sts.session(access, policy)
        return await self._aws.call(
            self._service,
            operation,
            region=access.region,
            account_id=access.account_id,
            credentials=credentials,
            **parameters,
        )
