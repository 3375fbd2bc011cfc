"""How far a migration of old notifications is: the route that takes over, the test, and the bounce that proves it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec
from sqlalchemy import Select, func, select, true

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.db import Database
from broker.errors import Refused
from broker.feedback.handling import RouteWork
from broker.feedback.legacy_terms import BOUNCE, Migration, Progress, command, planned_set, sender_for
from broker.feedback.models import Route, Topic
from broker.feedback.views import RouteState
from broker.points import reach
from broker.webhooks.models import EventRow

_READY = frozenset({RouteState.configured.value, RouteState.live.value, RouteState.quiet.value})
_CLOCKS_APART = timedelta(hours=1)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})


class Sends(Protocol):
    """What is needed of SES (`broker/gateways/ses_notifications.py`). Raises `Unavailable` or `Refused`."""

    async def send_test(
        self,
        access: RoleAccess,
        *,
        from_address: str,
        identity_arn: str,
        recipient: str,
        configuration_set_arn: str | None = None,
    ) -> str: ...


class Successor(msgspec.Struct, frozen=True):
    """The route that takes over: how far it is, and the configuration set that its mail has to name, if any.

    `account_id`: the only account whose mail it hears; None: of all.
    """

    state: str
    reason: str | None
    configuration_set: str | None
    account_id: str | None
    bounced: bool

    @property
    def ready(self) -> bool:
        """Whether it is set up."""
        return self.state in _READY


async def successor(db: Database, work: RouteWork, migration: Migration) -> Successor:
    """Read as the delegate: a party to the route, and it sees its own topic and its own events."""
    query = (
        select(Route, Topic)
        .outerjoin(Topic, (Topic.id == Route.topic_id) & (Topic.tenant_id == work.delegate_id))
        .where(Route.id == migration.route_id)
    )
    async with db.read(Caller.system(work.delegate_id, job="routes")) as session:
        route, topic = (await session.execute(query)).one()
        named = topic.configuration_set if topic is not None else None
        in_set = named or planned_set(migration.to, work.grant_id)
        heard = max((at for at in (route.live_at, route.heard_at) if at is not None), default=None)
        counts = in_set is not None and heard is not None and heard >= migration.began_at
        came = through(work, migration, in_set, any_way=counts)
        bounced = route.state in _READY and (await session.execute(came)).first() is not None
    account_id = topic.arn.split(":")[4] if named and topic is not None and topic.arn else None
    return Successor(route.state, route.reason, in_set, account_id, bounced)


async def send(ses: Sends, work: RouteWork, migration: Migration, to: Successor, access: RoleAccess) -> dict[str, Any]:
    """Sends the test where the delegate's role lets us, once for each time that the migration was asked for."""
    before = work.found.get("migration", {})
    if before.get("asked") == migration.asked and before.get("state") == Progress.WAITING_FOR_BOUNCE.value:
        return {"test": before.get("test")}
    in_set = to.configuration_set
    partition, account = work.identity_arn.split(":")[1], access.account_id
    set_arn = f"arn:{partition}:ses:{work.region}:{account}:configuration-set/{in_set}" if in_set else None
    try:
        message_id = await ses.send_test(
            access,
            from_address=sender_for(work.identity, work.from_addresses),
            identity_arn=work.identity_arn,
            recipient=BOUNCE,
            configuration_set_arn=set_arn,
        )
    except Refused as error:
        return {"test": None, "refused": None if error.code in _DENIED else error.detail}
    reach("legacy.tested")
    return {"test": message_id}


def told(work: RouteWork, migration: Migration, to: Successor) -> Mapping[str, Any]:
    """For the route's `found`."""
    waiting = Progress.WAITING_FOR_BOUNCE if to.ready else Progress.WAITING_FOR_ROUTE
    line = command(
        sender=sender_for(work.identity, work.from_addresses),
        identity_arn=work.identity_arn,
        region=work.region,
        configuration_set=to.configuration_set,
    )
    before, state = work.found.get("migration", {}), Progress.DONE if to.bounced else waiting
    same = before.get("state") == state.value and before.get("asked") == migration.asked
    return {
        "to": migration.to.value,
        "route_id": str(migration.route_id),
        "state": state.value,
        "looks": before.get("looks", 0) + 1 if same else 1,
        "command": line,
        "asked": migration.asked,
    }


def through(work: RouteWork, migration: Migration, in_set: str | None, *, any_way: bool) -> Select[UUID]:
    """A bounce of the test that the delegate's account sent, stored since the migration began.

    Old notifications never come to us, so what we have came by another route: with the name of its configuration set
    by that one, without any by the identity's topic. Of two ways that bring the same bounce the later one is stored
    only where it alone is the broker's; `any_way`: the new one, which has a single destination for all kinds, was heard
    since as well.
    """
    set_named = EventRow.data["configuration_set"].astext
    way = set_named.is_(None) if in_set is None else set_named == in_set
    return (
        select(EventRow.id)
        .where(
            EventRow.delegate_id == work.delegate_id,
            EventRow.type == "email.bounced",
            EventRow.at >= migration.began_at - _CLOCKS_APART,
            EventRow.created_at >= migration.began_at,
            func.lower(EventRow.data["recipient"].astext) == BOUNCE,
            EventRow.data["sending_account"].astext.in_(work.accounts),
            EventRow.data["identity"].astext == work.identity_arn,
        )
        .where(true() if any_way else way)
        .limit(1)
    )
