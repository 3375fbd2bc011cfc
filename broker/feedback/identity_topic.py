"""The route of kind `identity_topic`: an owner's identities tell the broker's topic about bounces and the rest."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable
from broker.feedback import look, slots
from broker.feedback.children import covered
from broker.feedback.handling import Checked, RouteWork, Settled, going_on
from broker.feedback.holders import to_put_back
from broker.feedback.look import Look
from broker.feedback.other_routes import OtherRoutes
from broker.feedback.owners_topics import OwnersTopics
from broker.feedback.views import RouteState
from broker.points import reach


class IdentityTopicSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing can be chosen: bounces, complaints and deliveries, on every identity that the grant's mail comes from."""


class OwnersSes(Protocol):
    """Notifications of identities, by name, in an owner's account. Raises `Unavailable` or `Refused`."""

    async def notifications_of(
        self, access: RoleAccess, identities: Sequence[str]
    ) -> Mapping[str, tuple[Mapping[str, str | None], bool]]:
        """By identity: topic ARNs by `bounce`, `complaint`, `delivery`, and whether feedback goes by e-mail too."""
        ...

    async def set_notification_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None:
        """Sets one of the three, or clears it."""
        ...


class IdentityTopic:
    """Sets what is empty, listens to what is taken, and leaves alone what is somebody else's."""

    def __init__(self, ses: OwnersSes, topics: OwnersTopics, others: OtherRoutes) -> None:
        self._ses = ses
        self._topics = topics
        self._others = others

    async def check(self, work: RouteWork) -> Checked:
        """Sets empty slots, tells first what SES has dropped, subscribes to the owner's own topics, reads back."""
        if work.ended:
            # The bounces of its last mail still come in, but what SES drops now is not put back.
            raise Settled
        if work.topic_arn is None:
            known = work.previous is not None
            return Checked(
                state=RouteState.broken if known else RouteState.requested,
                reason=slots.NO_TOPIC_NOW if known else slots.NO_TOPIC_YET,
            )
        if work.owner is None:
            return Checked(state=RouteState.pending, reason=slots.BY_HAND, choices=(slots.CONNECT, slots.OTHER_ROUTE))
        return await self._check(work, work.owner, work.topic_arn)

    async def _check(self, work: RouteWork, access: RoleAccess, ours: str) -> Checked:
        names = covered(work.identity, work.beside.children, work.from_addresses)
        before = await self._look(access, names)
        lost = slots.lost(work.found.get("identities", {}), before.slots)
        previous = look.previous(work, before, ours, await self._others.foreign(work, before.slots, ours=ours))
        if lost and "lost" not in work.found:
            # Told before it is put back: a crash in between would leave nothing to tell of.
            found = look.found(before, ours, look.kept(work)) | {"lost": lost}
            reason = slots.why_lost(lost, work.identity)
            return Checked(state=RouteState.broken, reason=reason, previous=previous, found=found, unfinished=True)
        if "lost" in work.found:
            reach("routes.repairing")
        refused = await self._set(access, before, ours)
        # An answer of 200 is not taken as proof: what counts is what SES says afterwards. Where nothing was to be set
        # it is not asked again, since it answers about once a second.
        to_set = any(slots.plan(current, ours).free for current in before.slots.values())
        after = await self._look(access, names) if to_set else before
        look.expect_set(after, ours, refused)
        taken = look.taken(after, ours)
        heard = await self._topics.listen(work, access, taken)
        told = look.told(work, after, ours, refused, heard, previous)
        return await self._leave(work, access, told, kept=frozenset(look.kept(work)) & frozenset(taken))

    async def _leave(self, work: RouteWork, access: RoleAccess, told: Checked, *, kept: frozenset[str]) -> Checked:
        """Ends the subscriptions to topics that no slot holds any more, unless another route comes through them.

        In two steps: first it is on paper that they are to be left, then they are. So of two routes that leave one
        topic at the same time neither relies on the other.
        """
        heard = frozenset(topic.arn for topic in told.more_topics) | kept
        leaving = [arn for arn in look.kept(work) if arn not in heard]
        now = [arn for arn in leaving if arn in work.found.get("leaving", ())]
        needed = await self._others.needed(work, now) if now else frozenset()
        forget = tuple(arn for arn in now if arn not in needed)
        notes = [note for arn in forget for note in await self._topics.leave(work, access, arn)]
        later = [arn for arn in leaving if arn not in now]
        found = dict(told.found or {}) | {"topics": sorted(heard | frozenset(later))}
        return msgspec.structs.replace(
            told,
            reason=" ".join(filter(None, (told.reason, *notes))) or None,
            found=found | {"leaving": later} if later else found,
            forget=forget,
            unfinished=told.unfinished or bool(later),
        )

    async def _look(self, access: RoleAccess, names: Sequence[str]) -> Look:
        found = await self._ses.notifications_of(access, names)
        empty = dict.fromkeys(slots.KINDS)
        # A child that is no longer there has nothing to be set on; the grant's own identity is always asked about.
        present = [name for name in names if name in found or name == names[0]]
        read = {name: found.get(name, (empty, True)) for name in present}
        return Look({name: each for name, (each, _) in read.items()}, {name: on for name, (_, on) in read.items()})

    async def _set(self, access: RoleAccess, before: Look, ours: str) -> dict[str, str]:
        """Sets what is empty; what SES refused, by identity. `Unfinished` when SES asked to wait after the first."""
        refused: dict[str, str] = {}
        done = 0
        for name, current in before.slots.items():
            for kind in slots.plan(current, ours).free:
                try:
                    with going_on(after=done):
                        await self._ses.set_notification_topic(access, name, kind, ours)
                except Refused as error:
                    refused[name] = error.detail
                    break
                reach("routes.set")
                done += 1
        return refused

    async def remove(self, work: RouteWork) -> Checked:
        """Puts back what was there before, but where another route of this owner's still needs our topic."""
        if work.previous is None and not work.found:
            return Checked(state=RouteState.removed)
        if work.owner is None:
            return Checked(state=RouteState.broken, reason=CANNOT_PUT_BACK, choices=(slots.CONNECT, GIVE_UP))
        lost = await self._put_back(work, work.owner)
        notes = slots.why_empty(lost, work.identity)
        forget = tuple(arn for arn in look.kept(work) if arn not in work.beside.needed_topics)
        for arn in forget:
            notes += await self._topics.leave(work, work.owner, arn)
        found = {"not_put_back": lost} if lost else {}
        return Checked(state=RouteState.removed, reason=" ".join(notes) or None, found=found, forget=forget)

    async def _put_back(self, work: RouteWork, access: RoleAccess) -> dict[str, str]:
        """By identity, what could not be."""
        ours = work.beside.broker_topic
        previous = slots.by_identity(work.previous or {}, work.identity)
        names = [name for name in previous if name not in work.beside.shared]
        if ours is None or not names:
            return {}
        lost: dict[str, str] = {}
        done = 0
        foreign = await self._others.foreign(work, previous, ours=ours)
        for name, (current, _) in (await self._ses.notifications_of(access, names)).items():
            for kind in (kind for kind in slots.KINDS if current.get(kind) == ours):
                before = to_put_back(kind, previous[name].get(kind), foreign.get(name, ()))
                with going_on(after=done):
                    lost |= await self._restore(access, name, kind, before)
                reach("routes.put_back")
                done += 1
        left = await self._ses.notifications_of(access, names) if done else {}
        if any(ours in current.values() for current, _ in left.values()):
            raise Unavailable("SES still shows the notification topics that were just taken away.")
        return lost

    async def _restore(self, access: RoleAccess, name: str, kind: str, before: str | None) -> dict[str, str]:
        try:
            await self._ses.set_notification_topic(access, name, kind, before)
        except Refused as error:
            if before is None:
                raise
            await self._ses.set_notification_topic(access, name, kind, None)
            return {name: f"The {kind} topic could not be put back, so it is empty: {error.detail}"}
        return {}


CANNOT_PUT_BACK = (
    "The owner's account is not connected by a role that we may use, so the notification topics of the identity cannot "
    "be put back as they were; this is tried again."
)
GIVE_UP = "The owner removes the connection: the route then ends, and the settings stay as they are in SES."
