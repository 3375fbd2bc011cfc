"""The Deny that was decided with the revoke itself: sent at once, while the rest of the paper is still being read."""

from datetime import timedelta
from uuid import UUID

import msgspec

from broker.aws_access import RoleAccess
from broker.due import Claim
from broker.errors import BrokerError, Refused
from broker.grants.calls import Calls, IdentityPolicies
from broker.points import reach


class Sent(msgspec.Struct, frozen=True):
    """A Deny that SES was given, under this name: its refusal, or that it did not answer."""

    name: str
    refusal: Refused | None = None
    failed: bool = False


class _Named(msgspec.Struct, frozen=True):
    """What `deny_ahead` says: a Deny on paper that no read has shown yet, and how to act on its identity."""

    tenant_id: UUID
    account_id: str
    role_arn: str
    external_id: str
    region: str
    identity: str
    name: str
    document: str

    @property
    def access(self) -> RoleAccess:
        return RoleAccess(self.tenant_id, self.account_id, self.role_arn, self.external_id, self.region)


async def send(ses: IdentityPolicies, claim: Claim, *, lease: timedelta) -> Sent | None:
    """Sends the Deny that is on paper for this identity and not seen there yet; None where there is none.

    Under its claim, like all that is done with the identity, but before the paper is locked and judged, which takes
    half a dozen round trips. What is judged then may be another Deny: this one goes again like any that is not wanted.
    """
    if claim.brought is None:
        return None
    named = msgspec.json.decode(claim.brought, type=_Named)
    calls = Calls(ses, named.access, named.identity, lease=lease)
    try:
        return Sent(named.name, await give(calls, named.name, named.document))
    except BrokerError:
        return Sent(named.name, failed=True)


async def give(calls: Calls, name: str, document: str) -> Refused | None:
    """Gives SES a Deny; its refusal."""
    reach("denies.creating")
    refusal = await calls.create(name, document)
    if refusal is None:
        reach("denies.created")
    return refusal
