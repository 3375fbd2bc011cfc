"""What the four kinds of route have in common: what a check is given, what it found, and who carries it out."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from broker.aws_access import RoleAccess
from broker.feedback.views import RouteKind, RouteState


class RouteWork(msgspec.Struct, frozen=True, kw_only=True):
    """One route and all that its handler needs to act on it; read before, so that no transaction is open meanwhile.

    `owner` and `delegate` say how to act in the two accounts in the identity's Region, None where we may not (no role,
    or one that cannot be used now). `accounts` are the delegate's. `settings` is what the maker asked for, `previous`
    what was set before we came (None: nothing of ours was set yet), `found` what the last check saw. `topic_arn` is our
    topic once SNS delivers it to us. `ended`: the grant has ended, so nothing is put back that SES drops.
    """

    id: UUID
    kind: RouteKind
    owner_id: UUID
    delegate_id: UUID
    grant_id: UUID
    identity_id: UUID
    identity: str
    identity_arn: str
    region: str
    accounts: tuple[str, ...]
    from_addresses: tuple[str, ...]
    owner: RoleAccess | None
    delegate: RoleAccess | None
    settings: Mapping[str, Any]
    previous: Mapping[str, Any] | None
    found: Mapping[str, Any]
    topic_arn: str | None
    live_at: datetime | None
    ended: bool


class TenantTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic in a tenant's own account that a route comes through, to be known from now on.

    `configuration_set` is that of a delegate's route; None for an owner's topic that its slots led to already.
    `subscription_arn` None: SNS has yet to confirm it.
    """

    arn: str
    tenant_id: UUID
    configuration_set: str | None = None
    subscription_arn: str | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a check or a removal. `reason` and `choices` are read by both parties and name no foreign topic.

    `state`: `configured` becomes `live` or `quiet` by what was heard. `previous` and `found` None: as they were.
    `unfinished`: stored as it is, and worked on again in a moment, so that what this says is on paper before the next
    step is taken.
    """

    state: RouteState
    reason: str | None = None
    choices: tuple[str, ...] = ()
    previous: Mapping[str, Any] | None = None
    found: Mapping[str, Any] | None = None
    topic: TenantTopic | None = None
    unfinished: bool = False


class Handler(Protocol):
    """Carries out one kind of route in the tenants' accounts. Both may run twice; both raise Unavailable or Refused."""

    async def check(self, work: RouteWork) -> Checked:
        """Makes it as it was asked for where something is missing (create and repair), reads back, says what is so."""
        ...

    async def remove(self, work: RouteWork) -> Checked:
        """Takes away what is ours and puts back what was there before; `removed`, or `broken` with the reason."""
        ...
