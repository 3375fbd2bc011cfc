"""What the four kinds of route have in common: what a check is given, what it found, and who carries it out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

import msgspec

from broker.aws_access import RoleAccess
from broker.errors import Unavailable
from broker.feedback.views import RouteKind, RouteState


class Unfinished(Exception):  # an outcome: SES takes about one such call a second, so the rest follows in the next run
    """Part of it was done, and then AWS asked to wait. Nothing is written; the next run begins in a moment."""


@contextmanager
def going_on(*, after: int) -> Iterator[None]:
    """A call to AWS: where so many before it took effect in this run, `Unavailable` becomes `Unfinished`."""
    try:
        yield
    except Unavailable as error:
        if after:
            raise Unfinished from error
        raise


class Settled(Exception):  # an outcome: the route of a grant that has ended, which is kept as it is
    """Nothing is to be looked at any more, and nothing is written."""


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What else there is around a route on the owner's side, for kinds that set something on its identities.

    `children`: verified identities beneath the grant's, by name. `shared`: identities on which another route still
    needs our topic; `needed_topics`: topics of the owner's that another route still comes through; `inherited`: by
    identity and kind what was set before ours, as other routes recorded it. `broker_topic`: our topic, whether or not
    SNS delivers it now. `owner_topics`: topics of the owner's that are known already, ARN → state, and
    `subscriptions`: ARN → our subscription's ARN.
    """

    children: tuple[str, ...] = ()
    shared: frozenset[str] = frozenset()
    needed_topics: frozenset[str] = frozenset()
    inherited: Mapping[str, Mapping[str, str | None]] = MappingProxyType({})
    broker_topic: str | None = None
    owner_topics: Mapping[str, str] = MappingProxyType({})
    subscriptions: Mapping[str, str] = MappingProxyType({})


class RouteWork(msgspec.Struct, frozen=True, kw_only=True):
    """One route and all that its handler needs to act on it; read before, so that no transaction is open meanwhile.

    `owner` and `delegate` say how to act in the two accounts in the identity's Region, None where we may not (no role,
    or one that cannot be used now). `accounts` are the delegate's. `settings` is what the maker asked for, `previous`
    what was set before we came (None: nothing of ours was set yet), `found` what the last check saw. `topic_arn` is our
    topic once SNS delivers it to us. `ended`: the grant has ended, so nothing is put back that SES drops. `fence`:
    under which the work was claimed; what is written before it is settled is written under this fence only.
    `delegates`: how to act in each of the delegate's accounts that we may act in; `delegate` is the first of them.
    `connected`: those of its accounts that have a connection left, whether or not we may act in them now.
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
    fence: int
    delegates: tuple[RoleAccess, ...] = ()
    connected: frozenset[str] = frozenset()
    beside: Beside = Beside()


class TenantTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic in a tenant's own account that a route comes through, to be known from now on.

    `configuration_set` is that of a delegate's route; None for an owner's topic that its slots led to already.
    `subscription_arn` None: SNS has yet to confirm it. `protocol`, `durable`: as in `models.Topic`.
    `by_broker`: the subscription is of the broker's own account, so that it can set how it is delivered.
    """

    arn: str
    tenant_id: UUID
    configuration_set: str | None = None
    subscription_arn: str | None = None
    protocol: str = "https"
    durable: bool = False
    by_broker: bool = False


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a check or a removal. `reason` and `choices` are read by both parties and name no foreign topic.

    `state`: `configured` becomes `live` or `quiet` by what was heard. `previous` and `found` None: as they were.
    `more_topics`: further topics to be known. `refused`: AWS's own words, which name what is in the account that the
    route is set up in, for its party alone. `forget`: ARNs of the owner's topics that no route comes through any
    more. `unfinished`: stored as it is, and worked on again in a moment, so that what this says is on paper before the
    next step is taken. `again_in`: when to look again, where that is sooner than usual.
    """

    state: RouteState
    reason: str | None = None
    choices: tuple[str, ...] = ()
    previous: Mapping[str, Any] | None = None
    found: Mapping[str, Any] | None = None
    topic: TenantTopic | None = None
    more_topics: tuple[TenantTopic, ...] = ()
    refused: str | None = None
    forget: tuple[str, ...] = ()
    unfinished: bool = False
    again_in: timedelta | None = None


class Handler(Protocol):
    """Carries out one kind of route in the tenants' accounts. Both may run twice; both raise Unavailable or Refused."""

    async def check(self, work: RouteWork) -> Checked:
        """Makes it as it was asked for where something is missing (create and repair), reads back, says what is so.

        Also asked once the grant has `ended`: a kind that is taken away then answers `removed`, one that is left as it
        is raises `Settled`.
        """
        ...

    async def remove(self, work: RouteWork) -> Checked:
        """Takes away what is ours and puts back what was there before; `removed`, or `broken` with the reason."""
        ...
