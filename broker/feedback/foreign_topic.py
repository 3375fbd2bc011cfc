"""The route `foreign_topic`: the owner's identity tells a topic of the delegate's, once the owner has said yes."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import update

from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.db import Database
from broker.errors import Refused, Unavailable
from broker.feedback import holders
from broker.feedback.foreign_terms import Agreed, Forwarding, agreed
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.holders import Holder, Rival
from broker.feedback.models import Route
from broker.feedback.notification_settings import (
    IdentityNotifications,
    Notifications,
    Slot,
    change,
    listed,
    notifications_of,
)
from broker.feedback.slots import BY_HAND
from broker.feedback.views import RouteState

BYPASSES = (
    "SES publishes straight to the delegate's topic, so the broker hears nothing of it: that it is configured is all "
    "that can be said."
)
ASKED = (
    "The delegate asks that SES tell its topic of the {kinds} notifications of {identity}. It would hear of all mail "
    "of this identity, whoever sends it, and not only of its own."
)
APPROVE = "The owner approves: POST /v1/routes/{id}/approve."
REPLACE = 'The owner approves and lets it take the place of what is set: the same with {{"replace": true}}.'
DECLINE = "The owner declines: POST /v1/routes/{id}/decline."
ADMIT = (
    "The delegate lets the service principal ses.amazonaws.com publish to its topic (sns:Publish) on behalf of the "
    "owner's account, and does not encrypt it under the AWS-managed key alias/aws/sns."
)
REMOVE = "Either party removes the route: DELETE /v1/routes/{id}."
_TAKEN = "What is set there was left as it is."
_GIVEN = "The owner has given the {kinds} notifications to another route; they come back when that one is removed."


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
        asked, others = agreed(work.settings), await self._rivals(work)
        if asked.decision is None:
            return await self._ask(work, asked, others)
        if work.owner is None:
            return Checked(state=RouteState.pending, reason=BY_HAND, choices=_named(work, REMOVE))
        return await self._set_up(work, asked, others, work.owner)

    async def remove(self, work: RouteWork) -> Checked:
        """Forwarding on, then our topics away and what was there before back in their place."""
        if work.previous is None:
            return Checked(state=RouteState.removed)
        if work.owner is None:
            return Checked(state=RouteState.broken, reason=BY_HAND)
        asked, others = agreed(work.settings), await self._rivals(work)
        before = await self._read(work, work.owner)
        back = _restored(asked, before, work.previous, others)
        if back and not before.forwarding:
            # First: SES may have nobody left to tell once a topic is gone.
            await self._ses.set_forwarding(work.owner, work.identity, enabled=True)
        lost = [
            kind
            for kind, slot in back.items()
            if not await self._put_back(work, work.owner, kind, before=before.slots[kind], wanted=slot)
        ]
        after = await self._read(work, work.owner)
        if any(after.topic(kind) == asked.wanted[kind].topic for kind in back):
            raise Unavailable("SES still shows the notification topics that were just taken away.")
        if work.previous.get("forwarding") == "off" and after.forwarding and after.reachable:
            await self._ses.set_forwarding(work.owner, work.identity, enabled=False)
        gone = f"SES no longer takes the {listed(tuple(lost))} topic that was there before." if lost else None
        return Checked(state=RouteState.removed, reason=gone)

    async def _ask(self, work: RouteWork, asked: Agreed, others: tuple[Rival, ...]) -> Checked:
        held = dict(holders.promised(asked, others))
        if work.owner is not None:
            seen = holders.holders(asked, await self._read(work, work.owner), others)
            held = {kind: held.get(kind, who) if who is Holder.NOBODY else who for kind, who in seen.items()}
        why = holders.conflict(work.identity, held)
        reason = ASKED.format(kinds=listed(tuple(asked.wanted)), identity=work.identity)
        return Checked(
            state=RouteState.requested,
            reason=f"{reason} {why}" if why else reason,
            choices=_named(work, REPLACE if why else APPROVE, DECLINE),
            found={"slots": {kind: who.value for kind, who in held.items()}},
        )

    async def _set_up(self, work: RouteWork, asked: Agreed, others: tuple[Rival, ...], access: RoleAccess) -> Checked:
        before = await self._read(work, access)
        held = holders.holders(asked, before, others)
        away = holders.given_away(asked, others)
        todo = tuple(kind for kind in held if kind not in away and _may_set(work, asked, kind, held[kind]))
        await self._remember(work, asked, before, todo)
        try:
            for kind in todo:
                slot = asked.wanted[kind]
                await change(self._ses, access, work.identity, kind, before=before.slots[kind], wanted=slot)
        except Refused as error:
            if error.code != "InvalidParameterValue":
                raise
            return Checked(
                state=RouteState.broken,
                reason=f"SES does not take the {kind} topic: {error.detail}",
                choices=_named(work, ADMIT, REMOVE),
                found=_found(work, asked, held, ()),
            )
        after = await self._read(work, access)
        await self._forward(work, asked, after, access)
        return self._judge(work, asked, holders.holders(asked, after, others), away)

    def _judge(self, work: RouteWork, asked: Agreed, held: Mapping[str, Holder], away: frozenset[str]) -> Checked:
        ours = tuple(kind for kind in held if held[kind] is Holder.THIS_ROUTE)
        found = _found(work, asked, held, ours)
        if any(held[kind] is Holder.NOBODY for kind in held.keys() - away):
            raise Unavailable("SES does not show the notification topics that were just set.")
        taken = {kind: who for kind, who in held.items() if kind not in ours and kind not in away}
        why = [
            *((holders.conflict(work.identity, taken), _TAKEN) if taken else ()),
            *((_GIVEN.format(kinds=listed(tuple(sorted(away)))),) if away else ()),
        ]
        if not why:
            return Checked(state=RouteState.configured, reason=BYPASSES, found=found)
        choices = _named(work, *((REPLACE,) if taken else ()), REMOVE)
        return Checked(state=RouteState.pending, reason=" ".join(map(str, why)), choices=choices, found=found)

    async def _forward(self, work: RouteWork, asked: Agreed, after: Notifications, access: RoleAccess) -> None:
        ours = all(
            after.topic(kind) == asked.wanted[kind].topic for kind in ("bounce", "complaint") if kind in asked.wanted
        )
        if asked.forwarding is Forwarding.OFF and after.forwarding and after.reachable and ours:
            await self._ses.set_forwarding(access, work.identity, enabled=False)

    async def _put_back(self, work: RouteWork, access: RoleAccess, kind: str, *, before: Slot, wanted: Slot) -> bool:
        """False when the former topic is gone: the slot is empty then."""
        try:
            await change(self._ses, access, work.identity, kind, before=before, wanted=wanted)
        except Refused as error:
            if wanted.topic is None or error.code != "InvalidParameterValue":
                raise
            left = Slot(before.topic, before.headers and wanted.headers)
            await change(self._ses, access, work.identity, kind, before=left, wanted=Slot())
            return False
        return True

    async def _remember(self, work: RouteWork, asked: Agreed, before: Notifications, todo: tuple[str, ...]) -> None:
        """Writes down what is about to be replaced, before it is: after a crash nobody else would know."""
        kept = dict(work.previous or {})
        new = {kind: before.topic(kind) for kind in asked.wanted if kind not in kept}
        new |= {kind: before.topic(kind) for kind in todo if before.topic(kind) not in {None, asked.wanted[kind].topic}}
        new = {kind: None if arn == asked.wanted[kind].topic else arn for kind, arn in new.items()}
        if not new.keys() - kept.keys() and all(kept[kind] == arn for kind, arn in new.items()):
            return
        headers = set(str(kept.get("headers") or "").split()) - new.keys()
        headers |= {kind for kind, arn in new.items() if arn and before.slots[kind].headers}
        forwarding = kept.get("forwarding", "on" if before.forwarding else "off")
        previous = kept | new | {"headers": " ".join(sorted(headers)), "forwarding": forwarding}
        caller = Caller.system(work.owner_id, job="routes")
        async with self._db.begin(caller) as session:
            await session.execute(update(Route).where(Route.id == work.id).values(previous=previous))
            replaced = [kind for kind, arn in new.items() if arn and kind in todo]
            if replaced:
                subject = ("route", work.id)
                await record(
                    session, caller, "route.replaced", subject=subject, counterpart_id=work.delegate_id, kinds=replaced
                )

    async def _read(self, work: RouteWork, access: RoleAccess) -> Notifications:
        return notifications_of(await self._ses.notification_settings(access, work.identity))

    async def _rivals(self, work: RouteWork) -> tuple[Rival, ...]:
        async with self._db.read(Caller.system(work.owner_id, job="routes")) as session:
            return await holders.rivals(session, identity_id=work.identity_id, besides=work.id)


def _may_set(work: RouteWork, asked: Agreed, kind: str, who: Holder) -> bool:
    """Ours is kept right, an empty slot is taken; another topic is replaced once, when the owner has said so.

    What somebody sets afterwards is somebody's wish too: it stays until the owner decides again.
    """
    if who in {Holder.NOBODY, Holder.THIS_ROUTE}:
        return True
    decision = asked.decision
    return bool(decision and decision.replace and kind not in _set_already(work, asked))


def _set_already(work: RouteWork, asked: Agreed) -> frozenset[str]:
    """Kinds that were ours at some time since the owner's latest decision."""
    same = asked.decision and work.found.get("decided_at") == msgspec.to_builtins(asked.decision.at)
    return frozenset(work.found.get("set", ())) if same else frozenset()


def _found(work: RouteWork, asked: Agreed, held: Mapping[str, Holder], ours: tuple[str, ...]) -> dict[str, Any]:
    decided_at = msgspec.to_builtins(asked.decision.at) if asked.decision else None
    return {
        "slots": {kind: who.value for kind, who in held.items()},
        "set": sorted(_set_already(work, asked) | set(ours)),
        "decided_at": decided_at,
    }


def _restored(
    asked: Agreed, before: Notifications, previous: Mapping[str, Any], others: tuple[Rival, ...]
) -> dict[str, Slot]:
    """What the slots that hold our topic are to hold instead; one that another living route shares is kept."""
    headers = str(previous.get("headers") or "").split()
    found = {}
    for kind, slot in asked.wanted.items():
        shared = any(each.foreign and each.alive and each.topics.get(kind) == slot.topic for each in others)
        if before.topic(kind) == slot.topic and not shared:
            topic = holders.to_put_back(kind, previous.get(kind), others)
            found[kind] = Slot(topic, bool(topic) and kind in headers)
    return found


def _named(work: RouteWork, *choices: str) -> tuple[str, ...]:
    return tuple(choice.format(id=work.id) for choice in choices)
