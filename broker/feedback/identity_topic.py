"""The route of kind `identity_topic`: an owner's identities tell the broker's topic about bounces and the rest."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable
from broker.feedback import slots
from broker.feedback.children import concerned
from broker.feedback.handling import Checked, RouteWork, Settled, TenantTopic, Unfinished
from broker.feedback.holders import to_put_back
from broker.feedback.other_routes import Approved, OtherRoutes, without
from broker.feedback.owners_topics import Heard, OwnersTopics
from broker.feedback.slots import Slots
from broker.feedback.views import RouteState


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


class _Look(msgspec.Struct, frozen=True):
    """One reading of all identities of a route."""

    slots: Mapping[str, Slots]
    forwarding: Mapping[str, bool]


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
        names = (work.identity, *concerned(work.identity, work.beside.children, work.from_addresses))
        before = await self._look(access, names)
        lost = slots.lost(work.found.get("identities", {}), before.slots)
        previous = _previous(work, before, ours, await self._others.foreign(work, before.slots, ours=ours))
        if lost and "lost" not in work.found:
            # Told before it is put back: a crash in between would leave nothing to tell of.
            found = _found(before, ours, _kept(work)) | {"lost": lost}
            reason = slots.why_lost(lost)
            return Checked(state=RouteState.broken, reason=reason, previous=previous, found=found, unfinished=True)
        refused = await self._set(access, before, ours)
        # An answer of 200 is not taken as proof: what counts is what SES says afterwards. Where nothing was to be set
        # it is not asked again, since it answers about once a second.
        to_set = any(slots.plan(current, ours).free for current in before.slots.values())
        after = await self._look(access, names) if to_set else before
        _expect_set(after, ours, refused)
        taken = _taken(after, ours)
        heard = await self._topics.listen(work, access, taken)
        told = _told(work, after, ours, refused, heard, previous)
        return await self._leave(work, access, told, kept=frozenset(_kept(work)) & frozenset(taken))

    async def _leave(self, work: RouteWork, access: RoleAccess, told: Checked, *, kept: frozenset[str]) -> Checked:
        """Ends the subscriptions to topics that no slot holds any more, unless another route comes through them.

        In two steps: first it is on paper that they are to be left, then they are. So of two routes that leave one
        topic at the same time neither relies on the other.
        """
        heard = frozenset(topic.arn for topic in told.more_topics) | kept
        leaving = [arn for arn in _kept(work) if arn not in heard]
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

    async def _look(self, access: RoleAccess, names: Sequence[str]) -> _Look:
        found = await self._ses.notifications_of(access, names)
        empty = dict.fromkeys(slots.KINDS)
        # A child that is no longer there has nothing to be set on; the grant's own identity is always asked about.
        present = [name for name in names if name in found or name == names[0]]
        read = {name: found.get(name, (empty, True)) for name in present}
        return _Look({name: each for name, (each, _) in read.items()}, {name: on for name, (_, on) in read.items()})

    async def _set(self, access: RoleAccess, before: _Look, ours: str) -> dict[str, str]:
        """Sets what is empty; what SES refused, by identity. `Unfinished` when SES asked to wait after the first."""
        refused: dict[str, str] = {}
        done = 0
        for name, current in before.slots.items():
            for kind in slots.plan(current, ours).free:
                try:
                    await self._ses.set_notification_topic(access, name, kind, ours)
                except Unavailable as error:
                    if done:
                        raise Unfinished from error
                    raise
                except Refused as error:
                    refused[name] = error.detail
                    break
                done += 1
        return refused

    async def remove(self, work: RouteWork) -> Checked:
        """Puts back what was there before, but where another route of this owner's still needs our topic."""
        if work.previous is None and not work.found:
            return Checked(state=RouteState.removed)
        if work.owner is None:
            return Checked(state=RouteState.broken, reason=CANNOT_PUT_BACK, choices=(slots.CONNECT, GIVE_UP))
        notes = await self._put_back(work, work.owner)
        forget = tuple(arn for arn in _kept(work) if arn not in work.beside.needed_topics)
        for arn in forget:
            notes += await self._topics.leave(work, work.owner, arn)
        return Checked(state=RouteState.removed, reason=" ".join(notes) or None, found={}, forget=forget)

    async def _put_back(self, work: RouteWork, access: RoleAccess) -> list[str]:
        ours = work.beside.broker_topic
        previous = slots.by_identity(work.previous or {}, work.identity)
        names = [name for name in previous if name not in work.beside.shared]
        if ours is None or not names:
            return []
        notes: list[str] = []
        done = 0
        foreign = await self._others.foreign(work, previous, ours=ours)
        for name, (current, _) in (await self._ses.notifications_of(access, names)).items():
            for kind in (kind for kind in slots.KINDS if current.get(kind) == ours):
                before = to_put_back(kind, previous[name].get(kind), foreign.get(name, ()))
                try:
                    notes += await self._restore(access, name, kind, before)
                except Unavailable as error:
                    if done:
                        raise Unfinished from error
                    raise
                done += 1
        left = await self._ses.notifications_of(access, names) if done else {}
        if any(ours in current.values() for current, _ in left.values()):
            raise Unavailable("SES still shows the notification topics that were just taken away.")
        return notes

    async def _restore(self, access: RoleAccess, name: str, kind: str, before: str | None) -> list[str]:
        try:
            await self._ses.set_notification_topic(access, name, kind, before)
        except Refused as error:
            if before is None:
                raise
            await self._ses.set_notification_topic(access, name, kind, None)
            why = error.detail.replace(before, "that topic")  # both parties read it
            return [f"The {kind} topic that {name} had before could not be put back, so it is empty: {why}"]
        return []


CANNOT_PUT_BACK = (
    "The owner's account is not connected by a role that we may use, so the notification topics of the identity cannot "
    "be put back as they were; this is tried again."
)
GIVE_UP = "The owner removes the connection: the route then ends, and the settings stay as they are in SES."


def _previous(work: RouteWork, before: _Look, ours: str, foreign: Approved) -> dict[str, dict[str, str | None]]:
    """What was recorded stays; an identity that is new to the route is recorded as it was found."""
    recorded = slots.by_identity(work.previous or {}, work.identity)
    inherited = work.beside.inherited
    found = {name: slots.before_ours(each, ours, inherited.get(name, {})) for name, each in before.slots.items()}
    return {name: without(each, foreign.get(name, ())) for name, each in found.items()} | recorded


def _kept(work: RouteWork) -> tuple[str, ...]:
    """The owner's topics that we came to listen to and have not left since."""
    return tuple(work.found.get("topics", ()))


def _taken(look: _Look, ours: str) -> list[str]:
    held = {current[kind] for current in look.slots.values() for kind in slots.plan(current, ours).taken}
    return sorted(arn for arn in held if arn)


def _expect_set(look: _Look, ours: str, refused: Mapping[str, str]) -> None:
    if any(slots.plan(current, ours).free for name, current in look.slots.items() if name not in refused):
        raise Unavailable("SES does not show the notification topics that were just set.")


def _found(look: _Look, ours: str, heard: Sequence[str]) -> dict[str, Any]:
    identities = {
        name: slots.seen(current, ours, heard=heard, forwarding=look.forwarding[name])
        for name, current in look.slots.items()
    }
    return {"identities": identities, "topics": sorted(heard)}


def _told(
    work: RouteWork, look: _Look, ours: str, refused: Mapping[str, str], heard: Heard, previous: Mapping[str, Any]
) -> Checked:
    """What is so, in one answer: trouble on the grant's own identity first, then what is partial."""
    why = {
        name: {kind: reason for kind in slots.KINDS if (reason := heard.why_not.get(current.get(kind) or ""))}
        for name, current in look.slots.items()
    }
    taken = {name: kinds for name, kinds in why.items() if kinds}
    if work.identity in refused:
        raise Refused(refused[work.identity])
    own = {work.identity: taken.pop(work.identity)} if work.identity in taken else {}
    partial = slots.why_partial(refused, taken) if refused or taken else None
    reasons = [slots.why_taken(own)] * bool(own) + [partial] * bool(partial)
    return Checked(
        state=RouteState.pending if own else RouteState.configured,
        reason=" ".join(each for each in reasons if each) or None,
        choices=slots.choices(heard.why_not.values()),
        previous=previous,
        found=_found(look, ours, [topic.arn for topic in heard.topics]),
        topic=_serving(look.slots[work.identity], heard.topics),
        more_topics=heard.topics,
        unfinished=heard.fresh,
    )


def _serving(current: Slots, topics: Sequence[TenantTopic]) -> TenantTopic | None:
    """The owner's topic that most of the mail is heard through, where that is not ours: every mail has a delivery."""
    return next((topic for topic in topics if topic.arn == current.get("delivery")), None)
