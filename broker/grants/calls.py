"""The three calls of SES that a sync makes, none of them later than its lease allows."""

import asyncio
from datetime import timedelta
from typing import Protocol

from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable
from broker.points import reach

CALL_MARGIN = timedelta(seconds=6)  # a call that begins this long before the lease ends is over before it


class IdentityPolicies(Protocol):
    """What a sync needs of SES (`broker/gateways/ses.py`). Raises `Unavailable` or `Refused`."""

    async def read_policies(self, access: RoleAccess, identity: str) -> dict[str, str]: ...

    async def create_policy(self, access: RoleAccess, identity: str, name: str, document: str) -> None: ...

    async def delete_policy(self, access: RoleAccess, identity: str, name: str) -> None: ...


class Calls:
    """SES as one run over one identity sees it; `Unavailable` once its lease is nearly over."""

    def __init__(self, ses: IdentityPolicies, access: RoleAccess, identity: str, *, lease: timedelta) -> None:
        self._ses = ses
        self._access = access
        self._identity = identity
        self._until = asyncio.get_running_loop().time() + (lease - CALL_MARGIN).total_seconds()

    async def read(self) -> dict[str, str]:
        """Every policy on the identity, name → document."""
        self._check_lease()
        try:
            found = await self._ses.read_policies(self._access, self._identity)
        except Refused as error:
            if error.code == "NotFoundException":
                return {}  # an identity that is gone from SES took its policies with it
            raise
        reach("policies.read")
        return found

    async def create(self, name: str, document: str) -> Refused | None:
        """Creates a policy; SES's refusal, None without one."""
        self._check_lease()
        reach("policies.creating")
        try:
            await self._ses.create_policy(self._access, self._identity, name, document)
        except Refused as error:
            # The name exists when an earlier try was executed after all: the read-back compares its content.
            return None if error.code == "AlreadyExistsException" else error
        reach("policies.created")
        return None

    async def delete(self, name: str) -> Refused | None:
        """Deletes a policy, whether or not it is there; SES's refusal, None without one."""
        self._check_lease()
        reach("policies.deleting")
        try:
            await self._ses.delete_policy(self._access, self._identity, name)
        except Refused as error:
            return error
        reach("policies.deleted")
        return None

    def _check_lease(self) -> None:
        if asyncio.get_running_loop().time() >= self._until:
            raise Unavailable("SES answers too slowly; the rest follows in the next run.")
