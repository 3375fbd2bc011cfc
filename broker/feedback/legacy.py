"""The route `legacy`: old cross-account notifications, found, edited, removed, or migrated to another route."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import msgspec

from broker.aws_access import RoleAccess
from broker.db import Database
from broker.due import back_off
from broker.errors import Refused, Unavailable
from broker.feedback import legacy_migration as migrating
from broker.feedback.handling import Checked, RouteWork, going_on
from broker.feedback.legacy_drops import Held, dropped, gone_for_good, held_before, to_repair
from broker.feedback.legacy_migration import Sends, Successor
from broker.feedback.legacy_terms import NO_NEW, Migration, edited_in, existing, stored, would_be_new
from broker.feedback.notification_settings import IdentityNotifications, Slot, change, notifications_of
from broker.feedback.views import RouteState
from broker.points import reach

NO_ROLE = (
    "Old cross-account notifications can be seen and changed only from the delegate's account, which is not connected "
    "by a role that we may use."
)
CONNECT = "The delegate connects its account by a role: POST /v1/connections."
NOTHING = f"There are no cross-account notifications of the delegate's connected accounts on {{identity}}. {NO_NEW}"
BYPASSES = "SES publishes straight to the delegate's topic, so the broker hears nothing of it."
LEFT = "The old notifications of the delegate's account {accounts} were left as they are: {why}."
NO_CONNECTION = "it is not connected any more"
OTHER_ACCOUNT = "the new route hears mail of account {account} alone"
NOT_REACHED = "The delegate's account {accounts} is not connected by a role that we may use now; this is tried again."
NOT_TAKEN = "SES does not take this change of the {kind} notification. What it said is in `found`, for the delegate."
SOON, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=15)
_CODE = "InvalidParameterValue"


class LegacyNotifications(IdentityNotifications, Sends, Protocol):
    """What is needed of SES (`broker/gateways/ses_notifications.py`)."""


class Legacy:
    """Fits `broker.feedback.handling.Handler`. Looks in each of the delegate's accounts that the grant names."""

    def __init__(self, db: Database, ses: LegacyNotifications) -> None:
        self._db = db
        self._ses = ses

    async def check(self, work: RouteWork) -> Checked:
        """Lists what there is, tells first what SES dropped, edits it as asked, or goes on with a migration."""
        asked, accounts = stored(work.settings), _accounts(work)
        if not accounts:
            return Checked(state=RouteState.pending, reason=NO_ROLE, choices=(CONNECT,))
        there = await self._read(work, accounts)
        if (told := dropped(work, there)) is not None:
            return told
        if await self._repair(work, there, accounts):
            there = await self._read(work, accounts)
        if asked.migration is not None:
            return await self._migrate(work, asked.migration, there, accounts)
        if not any(there.values()):
            reason = NOTHING.format(identity=work.identity)
            return Checked(state=RouteState.broken, reason=reason, found=_listed(there))
        return gone_for_good(work, await self._edit(work, there, accounts), there)

    async def remove(self, work: RouteWork) -> Checked:
        """Gives every existing type a null topic. That takes no right to send away (Developer Guide)."""
        accounts = _accounts(work)
        unreached = [each for each in held_before(work) if each not in accounts]
        if not accounts and not (unreached and work.connected.isdisjoint(unreached)):
            return Checked(state=RouteState.broken, reason=NO_ROLE, choices=(CONNECT,))
        await self._clear(work, await self._read(work, accounts), accounts)
        if waiting := sorted(work.connected.intersection(unreached)):
            reason = NOT_REACHED.format(accounts=", ".join(waiting))
            return Checked(state=RouteState.broken, reason=reason, choices=(CONNECT,))
        left = LEFT.format(accounts=", ".join(sorted(unreached)), why=NO_CONNECTION) if unreached else None
        return Checked(state=RouteState.removed, reason=left)

    async def _clear(self, work: RouteWork, there: Held, accounts: Mapping[str, RoleAccess]) -> None:
        todo = [(accounts[account], kind) for account, kinds in there.items() for kind in kinds]
        for done, (access, kind) in enumerate(todo):
            with going_on(after=done):
                await self._ses.set_topic(access, work.identity_arn, kind, None)
            reach("legacy.cleared")
        if todo and any((await self._read(work, {each: accounts[each] for each in there})).values()):
            raise Unavailable("SES still shows the cross-account notifications that were just removed.")
        reach("legacy.gone")

    async def _repair(self, work: RouteWork, there: Held, accounts: Mapping[str, RoleAccess]) -> bool:
        """Whether something that SES dropped was to be put back; it may not take it."""
        todo = to_repair(work, there)
        for account, kind, slot in todo:
            try:
                await change(self._ses, accounts[account], work.identity_arn, kind, before=Slot(), wanted=slot)
            except Refused as error:
                if error.code != _CODE:
                    raise
            reach("legacy.tried")
        return bool(todo)

    async def _edit(self, work: RouteWork, there: Held, accounts: Mapping[str, RoleAccess]) -> Checked:
        edits = stored(work.settings).edits
        wanted = edited_in(there, edits)
        todo = [(a, kind) for a, kinds in wanted.items() for kind, slot in kinds.items() if slot != there[a][kind]]
        for done, (account, kind) in enumerate(todo):
            before, after = there[account][kind], wanted[account][kind]
            try:
                with going_on(after=done):
                    await change(self._ses, accounts[account], work.identity_arn, kind, before=before, wanted=after)
            except Refused as error:
                if error.code != _CODE:
                    raise
                found = _listed(await self._read(work, accounts))
                reason = NOT_TAKEN.format(kind=kind)
                return Checked(state=RouteState.broken, reason=reason, found=found, refused=error.detail)
            reach("legacy.edited")
        shown = await self._read(work, accounts) if todo else there
        if shown != wanted:
            raise Unavailable("SES does not show the cross-account notifications as they were just set.")
        why = would_be_new(tuple(kind for kinds in shown.values() for kind in kinds), edits)
        state = RouteState.broken if why else RouteState.configured
        return Checked(state=state, reason=why or BYPASSES, found=_listed(shown))

    async def _migrate(
        self, work: RouteWork, migration: Migration, there: Held, accounts: Mapping[str, RoleAccess]
    ) -> Checked:
        """The old notifications go only after a bounce came through the new route; until then both are there."""
        to = await migrating.successor(self._db, work, migration)
        told = dict(migrating.told(work, migration, to))
        found = {**_listed(there), "migration": told}
        again_in = back_off(told["looks"], first=SOON, most=LONGEST_WAIT)
        if to.bounced:
            return await self._moved(work, to, there, found=found)
        if not to.ready:
            why = f" {to.reason}" if to.reason else ""
            reason = f"{BYPASSES} The new route of the kind {migration.to.value} is {to.state}.{why}"
            return Checked(state=RouteState.configured, reason=reason, found=found, again_in=again_in)
        access = accounts.get(to.account_id or "") or next(iter(accounts.values()))
        sent = await migrating.send(self._ses, work, migration, to, access)
        told |= sent
        by = "We have sent one" if sent["test"] else "Send one by `found.migration.command`"
        reason = f"{BYPASSES} It is removed once a test bounce has come through the new route. {by}."
        return Checked(state=RouteState.configured, reason=reason, found=found, again_in=again_in)

    async def _moved(self, work: RouteWork, to: Successor, there: Held, *, found: dict[str, Any]) -> Checked:
        """What the new route does not hear of keeps its old notifications, so that there is no gap."""
        accounts = _accounts(work)
        others = {each: kinds for each, kinds in there.items() if kinds and to.account_id not in {None, each}}
        if not others:
            return msgspec.structs.replace(await self.remove(work), found=found)
        await self._clear(work, {each: kinds for each, kinds in there.items() if each not in others}, accounts)
        why = OTHER_ACCOUNT.format(account=to.account_id)
        reason = f"{BYPASSES} {LEFT.format(accounts=', '.join(sorted(others)), why=why)}"
        return Checked(state=RouteState.configured, reason=reason, found=found | _listed(others))

    async def _read(self, work: RouteWork, accounts: Mapping[str, RoleAccess]) -> dict[str, dict[str, Slot]]:
        """By account, one that has none as well."""
        return {
            account: existing(notifications_of(await self._ses.notification_settings(access, work.identity_arn)))
            for account, access in accounts.items()
        }


def _accounts(work: RouteWork) -> dict[str, RoleAccess]:
    """Those that the grant names and that we may act in."""
    return {each.account_id: each for each in work.delegates if each.account_id in work.accounts}


def _listed(there: Held) -> dict[str, Any]:
    """For the route's `found`: by account and kind."""
    listed = {
        account: {kind: msgspec.to_builtins(slot) for kind, slot in kinds.items()}
        for account, kinds in there.items()
        if kinds
    }
    return {"notifications": listed}
