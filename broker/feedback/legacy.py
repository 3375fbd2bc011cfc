"""The route `legacy`: old cross-account notifications, found, edited, removed, or migrated to another route."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec
from sqlalchemy import Select, func, select, true

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.db import Database
from broker.errors import Refused, Unavailable
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.legacy_terms import (
    BOUNCE,
    NO_NEW,
    Migration,
    Progress,
    Target,
    command,
    edited,
    existing,
    sender_for,
    stored,
    would_be_new,
)
from broker.feedback.models import Route, Topic
from broker.feedback.notification_settings import (
    IdentityNotifications,
    Slot,
    change,
    notifications_of,
)
from broker.feedback.views import RouteState
from broker.webhooks.models import EventRow

NO_ROLE = (
    "Old cross-account notifications can be seen and changed only from the delegate's account, which is not connected "
    "by a role that we may use."
)
CONNECT = "The delegate connects its account by a role: POST /v1/connections."
NOTHING = f"There are no cross-account notifications of this account on {{identity}}. {NO_NEW}"
BYPASSES = "SES publishes straight to the delegate's topic, so the broker hears nothing of it."
_READY = frozenset({RouteState.configured.value, RouteState.live.value, RouteState.quiet.value})
_CLOCKS_APART = timedelta(hours=1)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})


class LegacyNotifications(IdentityNotifications, Protocol):
    """What is needed of SES besides (`broker/gateways/ses_notifications.py`)."""

    async def send_test(
        self,
        access: RoleAccess,
        *,
        from_address: str,
        identity_arn: str,
        recipient: str,
        configuration_set_arn: str | None = None,
    ) -> str: ...


class _Successor(msgspec.Struct, frozen=True):
    """The route that takes over: how far it is, and the configuration set that its mail has to name, if any."""

    state: str
    reason: str | None
    configuration_set: str | None
    bounced: bool

    @property
    def ready(self) -> bool:
        return self.state in _READY


class Legacy:
    """Fits `broker.feedback.handling.Handler`."""

    def __init__(self, db: Database, ses: LegacyNotifications) -> None:
        self._db = db
        self._ses = ses

    async def check(self, work: RouteWork) -> Checked:
        """Lists what there is, edits it as asked, or goes on with a migration."""
        asked = stored(work.settings)
        if work.delegate is None:
            return Checked(state=RouteState.pending, reason=NO_ROLE, choices=(CONNECT,))
        there = await self._read(work, work.delegate)
        if asked.migration is not None:
            return await self._migrate(work, asked.migration, there, work.delegate)
        if not there:
            reason = NOTHING.format(identity=work.identity)
            return Checked(state=RouteState.broken, reason=reason, found={"notifications": {}})
        return await self._edit(work, there, work.delegate)

    async def remove(self, work: RouteWork) -> Checked:
        """Gives every existing type a null topic. That takes no right to send away (Developer Guide)."""
        if work.delegate is None:
            return Checked(state=RouteState.broken, reason=NO_ROLE, choices=(CONNECT,))
        there = await self._read(work, work.delegate)
        for kind in there:
            await self._ses.set_topic(work.delegate, work.identity_arn, kind, None)
        if there and await self._read(work, work.delegate):
            raise Unavailable("SES still shows the cross-account notifications that were just removed.")
        return Checked(state=RouteState.removed)

    async def _edit(self, work: RouteWork, there: Mapping[str, Slot], access: RoleAccess) -> Checked:
        edits = stored(work.settings).edits
        wanted = edited(there, edits)
        try:
            for kind, slot in wanted.items():
                await change(self._ses, access, work.identity_arn, kind, before=there[kind], wanted=slot)
        except Refused as error:
            if error.code != "InvalidParameterValue":
                raise
            return Checked(
                state=RouteState.broken,
                reason=f"SES does not take this change of the {kind} notification: {error.detail}",
                found=_listed(await self._read(work, access)),
            )
        after = await self._read(work, access) if wanted != there else there
        if after != wanted:
            raise Unavailable("SES does not show the cross-account notifications as they were just set.")
        why = would_be_new(tuple(after), edits)
        return Checked(
            state=RouteState.broken if why else RouteState.configured, reason=why or BYPASSES, found=_listed(after)
        )

    async def _migrate(
        self, work: RouteWork, migration: Migration, there: Mapping[str, Slot], access: RoleAccess
    ) -> Checked:
        """The old notifications go only after a bounce came through the new route; until then both are there."""
        successor = await self._successor(work, migration)
        found = {**_listed(there), "migration": self._told(work, migration, successor)}
        if successor.bounced:
            removed = await self.remove(work)
            return msgspec.structs.replace(removed, found=found)
        if not successor.ready:
            why = f" {successor.reason}" if successor.reason else ""
            reason = f"{BYPASSES} The new route of the kind {migration.to.value} is {successor.state}.{why}"
            return Checked(state=RouteState.configured, reason=reason, found=found)
        sent = await self._send(work, migration, successor, access)
        found["migration"] |= sent
        by = "We have sent one" if sent["test"] else "Send one by `found.migration.command`"
        reason = f"{BYPASSES} It is removed once a test bounce has come through the new route. {by}."
        return Checked(state=RouteState.configured, reason=reason, found=found)

    async def _send(
        self, work: RouteWork, migration: Migration, successor: _Successor, access: RoleAccess
    ) -> dict[str, Any]:
        """Sends the test where the delegate's role lets us, once for each time that the migration was asked for."""
        before = work.found.get("migration", {})
        if before.get("asked") == migration.asked and before.get("state") == Progress.WAITING_FOR_BOUNCE.value:
            return {"test": before.get("test")}
        in_set = successor.configuration_set
        partition, account = work.identity_arn.split(":")[1], access.account_id
        set_arn = f"arn:{partition}:ses:{work.region}:{account}:configuration-set/{in_set}" if in_set else None
        try:
            message_id = await self._ses.send_test(
                access,
                from_address=sender_for(work.identity, work.from_addresses),
                identity_arn=work.identity_arn,
                recipient=BOUNCE,
                configuration_set_arn=set_arn,
            )
        except Refused as error:
            return {"test": None, "refused": None if error.code in _DENIED else error.detail}
        return {"test": message_id}

    def _told(self, work: RouteWork, migration: Migration, successor: _Successor) -> dict[str, Any]:
        waiting = Progress.WAITING_FOR_BOUNCE if successor.ready else Progress.WAITING_FOR_ROUTE
        needs_set = migration.to is Target.CONFIGURATION_SET and successor.configuration_set is None
        line = command(
            sender=sender_for(work.identity, work.from_addresses),
            identity_arn=work.identity_arn,
            region=work.region,
            configuration_set=successor.configuration_set,
        )
        return {
            "to": migration.to.value,
            "route_id": str(migration.route_id),
            "state": (Progress.DONE if successor.bounced else waiting).value,
            "command": None if needs_set else line,
            "asked": migration.asked,
        }

    async def _read(self, work: RouteWork, access: RoleAccess) -> dict[str, Slot]:
        return existing(notifications_of(await self._ses.notification_settings(access, work.identity_arn)))

    async def _successor(self, work: RouteWork, migration: Migration) -> _Successor:
        """Read as the delegate: a party to the route, and it sees its own topic and its own events."""
        query = (
            select(Route, Topic.configuration_set)
            .outerjoin(Topic, (Topic.id == Route.topic_id) & (Topic.tenant_id == work.delegate_id))
            .where(Route.id == migration.route_id)
        )
        async with self._db.read(Caller.system(work.delegate_id, job="routes")) as session:
            route, in_set = (await session.execute(query)).one()
            heard = max((at for at in (route.live_at, route.heard_at) if at is not None), default=None)
            counts = in_set is not None and heard is not None and heard >= migration.began_at
            came = through(work, migration, in_set, any_way=counts)
            bounced = route.state in _READY and (await session.execute(came)).first() is not None
        return _Successor(route.state, route.reason, in_set, bounced)


def _listed(there: Mapping[str, Slot]) -> dict[str, Any]:
    return {"notifications": {kind: msgspec.to_builtins(slot) for kind, slot in there.items()}}


def through(work: RouteWork, migration: Migration, in_set: str | None, *, any_way: bool) -> Select[UUID]:
    """A bounce of the test that the delegate's account sent, stored since the migration began.

    Old notifications never come to us, so what we have came by another route: with the name of its configuration set
    by that one, without any by the identity's topic. Of two ways that bring the same bounce only the first is stored;
    `any_way`: the new one, which has a single destination for all kinds, was heard since as well.
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
