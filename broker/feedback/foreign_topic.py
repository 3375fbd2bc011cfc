"""The route `foreign_topic`: the owner's identities tell a topic of the delegate's, once the owner has said yes."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import update

from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.db import Database
from broker.due import Superseded
from broker.errors import Refused, Unavailable
from broker.feedback import holders
from broker.feedback.foreign_drops import dropped
from broker.feedback.foreign_rules import (
    ADMIT,
    NOT_TAKEN,
    REMOVE,
    Case,
    Look,
    found_in,
    judged,
    named,
    to_decide,
)
from broker.feedback.foreign_terms import agreed
from broker.feedback.handling import Checked, RouteWork, going_on
from broker.feedback.models import Route
from broker.feedback.notification_settings import (
    IdentityNotifications,
    Slot,
    change,
    listed,
    notifications_of,
)
from broker.feedback.slots import BY_HAND, beneath
from broker.feedback.views import RouteState
from broker.points import reach

_CODE = "InvalidParameterValue"


class ForeignTopic:
    """Fits `broker.feedback.handling.Handler`."""

    def __init__(self, db: Database, ses: IdentityNotifications) -> None:
        self._db = db
        self._ses = ses

    async def check(self, work: RouteWork) -> Checked:
        """Asks the owner until there is a decision; then sets what is free, and what the owner lets it replace.

        Takes itself away when the grant ends: the topic hears of all mail of the identity.
        """
        if work.ended:
            return await self.remove(work)
        case = await self._case(work)
        if case.asked.decision is None:
            return to_decide(case, await self._look(case, case.names, work.owner) if work.owner else {})
        if work.owner is None:
            return Checked(state=RouteState.pending, reason=BY_HAND, choices=named(work, REMOVE))
        return await self._set_up(case, work.owner)

    async def remove(self, work: RouteWork) -> Checked:
        """Forwarding on, then our topics away and what was there before back in their place, on every identity."""
        if work.previous is None:
            return Checked(state=RouteState.removed)
        if work.owner is None:
            return Checked(state=RouteState.broken, reason=BY_HAND)
        case = await self._case(work)
        lost = await self._give_back(case, tuple(case.previous), work.owner)
        return Checked(state=RouteState.removed, reason=" ".join(lost) or None)

    async def _set_up(self, case: Case, access: RoleAccess) -> Checked:
        # What the grant no longer is for has no business with the delegate's topic.
        left = case.previous.keys() - set(case.names)
        await self._give_back(case, tuple(left), access)
        before = await self._look(case, case.names, access)
        if (told := dropped(case, before)) is not None:
            return told
        todo = {name: case.todo(name, now) for name, now in before.items()}
        previous = await self._remember(case, before, todo)
        refused = await self._set(case, before, todo, access)
        own = case.work.identity
        if own in refused:
            return Checked(
                state=RouteState.broken,
                reason=NOT_TAKEN.format(topic=refused[own].partition(":")[0]),
                choices=named(case.work, ADMIT, REMOVE),
                found=found_in(case, before),
                refused=refused[own],
            )
        after = await self._look(case, case.names, access)
        if any(case.free(name, after[name]) for name in after.keys() - refused.keys()):
            raise Unavailable("SES does not show the notification topics that were just set.")
        await self._silence(case, after, access)
        checked = judged(case, after, refused)
        kept = {name: each for name, each in previous.items() if name not in left} if left else None
        return msgspec.structs.replace(checked, previous=kept)

    async def _set(
        self, case: Case, before: Look, todo: Mapping[str, tuple[str, ...]], access: RoleAccess
    ) -> dict[str, str]:
        """What SES refused, by identity; nothing beneath the grant's own where that is refused."""
        refused: dict[str, str] = {}
        done = 0
        for name, kinds in todo.items():
            for kind in kinds:
                slot, wanted = before[name].slots[kind], case.asked.wanted[kind]
                try:
                    with going_on(after=done):
                        await change(self._ses, access, name, kind, before=slot, wanted=wanted)
                except Refused as error:
                    refused[name] = f"the {kind} topic: {error.detail}"
                    if name == case.work.identity:
                        if error.code != _CODE:
                            raise
                        return refused
                    break
                done += slot != wanted
                reach("foreign.set")
        return refused

    async def _silence(self, case: Case, after: Look, access: RoleAccess) -> None:
        for done, name in enumerate(name for name, now in after.items() if case.to_silence(now)):
            with going_on(after=done):
                await self._ses.set_forwarding(access, name, enabled=False)
            reach("foreign.silenced")

    async def _give_back(self, case: Case, names: tuple[str, ...], access: RoleAccess) -> list[str]:
        """Sentences on the former topics that are gone: their slots are empty then."""
        before = await self._look(case, names, access)
        back = {name: case.restored(name, now) for name, now in before.items()}
        lost: list[str] = []
        done = 0
        for name, wanted in back.items():
            if not wanted:
                continue
            with going_on(after=done):
                gone = await self._put_back(name, before, wanted, access)
            if gone:
                own = case.work.identity
                where = "" if name == own else f" on {beneath(1, own)}"
                lost.append(f"SES no longer takes the {listed(gone)} topic that was there before{where}.")
            done += 1
        after = await self._look(case, names, access)
        for name, wanted in back.items():
            if any(after[name].topic(kind) == case.asked.wanted[kind].topic for kind in wanted if name in after):
                raise Unavailable("SES still shows the notification topics that were just taken away.")
        for name, now in after.items():
            if case.previous[name].get("forwarding") == "off" and now.forwarding and now.reachable:
                with going_on(after=done):
                    await self._ses.set_forwarding(access, name, enabled=False)
                done += 1
                reach("foreign.quieted")
        return lost

    async def _put_back(
        self, name: str, before: Look, wanted: Mapping[str, Slot], access: RoleAccess
    ) -> tuple[str, ...]:
        """The kinds whose former topic is gone."""
        if not before[name].forwarding:
            # First: SES may have nobody left to tell once a topic is gone.
            await self._ses.set_forwarding(access, name, enabled=True)
            reach("foreign.forwarding")
        return tuple(
            [
                kind
                for kind, slot in wanted.items()
                if not await self._fill(name, kind, before[name].slots[kind], slot, access)
            ]
        )

    async def _fill(self, name: str, kind: str, before: Slot, wanted: Slot, access: RoleAccess) -> bool:
        """False when the former topic is gone: the slot is empty then."""
        try:
            await change(self._ses, access, name, kind, before=before, wanted=wanted)
            reach("foreign.put_back")
        except Refused as error:
            if wanted.topic is None or error.code != _CODE:
                raise
            left = Slot(before.topic, before.headers and wanted.headers)
            await change(self._ses, access, name, kind, before=left, wanted=Slot())
            return False
        return True

    async def _remember(self, case: Case, before: Look, todo: Mapping[str, tuple[str, ...]]) -> Mapping[str, Any]:
        """Writes down what is about to be replaced, before it is: after a crash nobody else would know."""
        work, known = case.work, case.previous
        records = {name: case.record(name, now, todo[name]) for name, now in before.items()}
        previous = known | {name: each for name, (each, _) in records.items()}
        if previous == known:
            return known
        caller = Caller.system(work.owner_id, job="routes")
        async with self._db.begin(caller) as session:
            mine = update(Route).where(Route.id == work.id, Route.fence == work.fence)
            written = await session.execute(mine.values(previous=previous).returning(Route.id))
            if written.one_or_none() is None:
                raise Superseded(f"Route {work.id} was claimed by another worker.")
            replaced = {name: list(kinds) for name, (_, kinds) in records.items() if kinds}
            if replaced:
                subject = ("route", work.id)
                await record(
                    session,
                    caller,
                    "route.replaced",
                    subject=subject,
                    counterpart_id=work.delegate_id,
                    identities=replaced,
                )
            reach("foreign.noted")
        reach("foreign.remembered")
        return previous

    async def _look(self, case: Case, names: tuple[str, ...], access: RoleAccess) -> Look:
        """One beneath the grant's that SES no longer knows has nothing to be set on; its own is always looked at."""
        if not names:
            return {}
        told = await self._ses.settings_of(access, names)
        present = [name for name in names if name in told or name == case.work.identity]
        return {name: notifications_of(told.get(name, {})) for name in present}

    async def _case(self, work: RouteWork) -> Case:
        async with self._db.read(Caller.system(work.owner_id, job="routes")) as session:
            others = await holders.rivals(session, identity_id=work.identity_id, besides=work.id)
        return Case(work, agreed(work.settings), others)
