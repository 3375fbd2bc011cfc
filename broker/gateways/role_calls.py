"""Calls as a tenant's role: under a kept session, once more where that turned out to be over."""

from collections.abc import Sequence
from typing import Any, Protocol

from broker.aws_access import RoleAccess
from broker.gateways.aws import Aws, SessionEnded
from broker.gateways.sts import StsGateway


class SessionPolicy(Protocol):
    """Makes the session policy that allows just these operations on just these resources."""

    def __call__(self, operations: Sequence[str], resources: Sequence[str]) -> str: ...


class RoleCalls:
    """The way into tenants' accounts that the gateways share."""

    def __init__(self, aws: Aws, sts: StsGateway) -> None:
        self._aws = aws
        self._sts = sts

    async def call(
        self, access: RoleAccess, operation: str, *, service: str, policy: str, **parameters: Any
    ) -> dict[str, Any]:
        """One call under a kept session, and once more under a new one when the kept one turned out to be over."""
        try:
            return await self._call_once(access, operation, service=service, policy=policy, **parameters)
        except SessionEnded:
            self._sts.forget(access)
            return await self._call_once(access, operation, service=service, policy=policy, **parameters)

    async def _call_once(
        self, access: RoleAccess, operation: str, *, service: str, policy: str, **parameters: Any
    ) -> dict[str, Any]:
        credentials = await self._sts.session(access, policy)
        return await self._aws.call(
            service,
            operation,
            region=access.region,
            account_id=access.account_id,
            credentials=credentials,
            **parameters,
        )
