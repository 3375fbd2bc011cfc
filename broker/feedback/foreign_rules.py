"""What a `foreign_topic` sets on each identity that its grant's mail may come from, and what is said of it. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from broker.feedback import holders, slots
from broker.feedback.children import covered
from broker.feedback.foreign_terms import Agreed, Forwarding
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.holders import Holder, Rival
from broker.feedback.notification_settings import Notifications, Slot, listed
from broker.feedback.views import RouteState

BYPASSES = (
    "SES publishes straight to the delegate's topic, so the broker hears nothing of it: that it is configured is all "
    "that can be said."
)
ASKED = (
    "The delegate asks that SES tell its topic of {slots}. It would hear of all mail of this identity, whoever sends "
    "it, and not only of its own."
)
APPROVE = "The owner approves: POST /v1/routes/{id}/approve."
REPLACE = 'The owner approves and lets it take the place of what is set: the same with {{"replace": true}}.'
DECLINE = "The owner declines: POST /v1/routes/{id}/decline."
ADMIT = (
    "The delegate lets the service principal ses.amazonaws.com publish to its topic (sns:Publish) on behalf of the "
    "owner's account, and does not encrypt it under the AWS-managed key alias/aws/sns."
)
NOT_TAKEN = "SES does not take {topic}. What it said is in `found`, for the owner."
REMOVE = "Either party removes the route: DELETE /v1/routes/{id}."
_TAKEN = "What is set there was left as it is."
_GIVEN = "The owner has given the {kinds} notifications to another route; they come back when that one is removed."


Look = Mapping[str, Notifications]
"""What SES says, by identity."""


class Case(msgspec.Struct, frozen=True):
    """A route, what was agreed, and the other routes in the same account and Region."""

    work: RouteWork
    asked: Agreed
    others: tuple[Rival, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The identities that it is set on, the grant's own first."""
        return covered(self.work.identity, self.work.beside.children, self.work.from_addresses)

    @property
    def previous(self) -> dict[str, dict[str, Any]]:
        """What was recorded, by identity."""
        return slots.by_identity(self.work.previous or {}, self.work.identity)

    def held(self, name: str, now: Notifications) -> dict[str, Holder]:
        """Who holds each slot that is asked for."""
        return holders.holders(self.asked, now, holders.on(name, self.others))

    def away(self, name: str) -> frozenset[str]:
        """Slots that the owner gave to another route since."""
        return holders.given_away(self.asked, holders.on(name, self.others))

    def todo(self, name: str, now: Notifications) -> tuple[str, ...]:
        """Ours is kept right, an empty slot is taken; another topic is replaced once, when the owner has said so.

        What somebody sets afterwards is somebody's wish too: it stays until the owner decides again.
        """
        decision, away, already = self.asked.decision, self.away(name), self.set_already(name)
        replace = bool(decision and decision.replace)
        return tuple(
            kind
            for kind, who in self.held(name, now).items()
            if kind not in away
            if who in {Holder.NOBODY, Holder.THIS_ROUTE} or (replace and kind not in already)
        )

    def free(self, name: str, now: Notifications) -> bool:
        """Whether a slot of ours is empty."""
        away = self.away(name)
        return any(who is Holder.NOBODY for kind, who in self.held(name, now).items() if kind not in away)

    def set_already(self, name: str) -> frozenset[str]:
        """Kinds that were ours at some time since the owner's latest decision."""
        found = self.work.found
        same = self.asked.decision and found.get("decided_at") == msgspec.to_builtins(self.asked.decision.at)
        return frozenset(found.get("set", {}).get(name, ())) if same else frozenset()

    def is_set(self, now: Notifications, kinds: tuple[str, ...]) -> bool:
        """Whether all of these that are asked for hold our topic."""
        wanted = self.asked.wanted
        return all(now.topic(kind) == wanted[kind].topic for kind in kinds if kind in wanted)

    def to_silence(self, now: Notifications) -> bool:
        """Whether forwarding by e-mail is to be switched off."""
        asked = self.asked.forwarding is Forwarding.OFF and now.forwarding
        return asked and now.reachable and self.is_set(now, ("bounce", "complaint"))

    def record(self, name: str, before: Notifications, todo: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What is known of the time before us, with what is about to be replaced; and the kinds that are.

        A kind that is held by our topic already had none.
        """
        kept, wanted = self.previous.get(name, {}), self.asked.wanted
        new = {kind: before.topic(kind) for kind in wanted if kind not in kept}
        new |= {kind: before.topic(kind) for kind in todo if before.topic(kind) not in {None, wanted[kind].topic}}
        new = {kind: None if arn == wanted[kind].topic else arn for kind, arn in new.items()}
        if not new.keys() - kept.keys() and all(kept[kind] == arn for kind, arn in new.items()):
            return kept, ()
        headers = set(str(kept.get("headers") or "").split()) - new.keys()
        headers |= {kind for kind, arn in new.items() if arn and before.slots[kind].headers}
        forwarding = kept.get("forwarding", "on" if before.forwarding else "off")
        replaced = tuple(kind for kind, arn in new.items() if arn and kind in todo)
        return kept | new | {"headers": " ".join(sorted(headers)), "forwarding": forwarding}, replaced

    def restored(self, name: str, now: Notifications) -> dict[str, Slot]:
        """What the slots that hold our topic are to hold instead; one that another living route shares is kept."""
        previous, others = self.previous[name], holders.on(name, self.others)
        headers = str(previous.get("headers") or "").split()
        found = {}
        for kind, slot in self.asked.wanted.items():
            shared = any(each.foreign and each.alive and each.topics.get(kind) == slot.topic for each in others)
            if now.topic(kind) == slot.topic and not shared:
                topic = holders.to_put_back(kind, previous.get(kind), others)
                found[kind] = Slot(topic, bool(topic) and kind in headers)
        return found


def to_decide(case: Case, look: Look) -> Checked:
    """What the owner is asked, with what stands in the way. `look` is empty where we cannot look."""
    work = case.work
    held = {name: _expected(case, name, look.get(name)) for name in case.names}
    why = holders.conflict(work.identity, held[work.identity])
    beneath = {name: _words(kinds) for name, kinds in held.items() if name != work.identity}
    partial = slots.why_partial({}, {name: kinds for name, kinds in beneath.items() if kinds}, work.identity)
    kinds = tuple(case.asked.wanted)
    # Both parties read it: the names of identities beneath the grant's are in `found`, for the owner.
    reason = ASKED.format(slots=slots.listed(dict.fromkeys(case.names, kinds), work.identity))
    some = any(beneath.values())
    offers = [*((APPROVE,) if not why else ()), *((REPLACE,) if why or some else ()), DECLINE]
    return Checked(
        state=RouteState.requested,
        reason=" ".join(filter(None, (reason, why, partial if some else None))),
        choices=named(work, *offers),
        found={"identities": _values(held)},
    )


def _expected(case: Case, name: str, now: Notifications | None) -> dict[str, Holder]:
    """Who holds the slots, or is to hold what is empty still."""
    held = holders.promised(case.asked, holders.on(name, case.others))
    if now is None:
        return held
    return {kind: held.get(kind, who) if who is Holder.NOBODY else who for kind, who in case.held(name, now).items()}


def judged(case: Case, look: Look, refused: Mapping[str, str]) -> Checked:
    """What is so: trouble on the grant's own identity first, then what is partial."""
    own, held = case.work.identity, {name: case.held(name, now) for name, now in look.items()}
    taken = {name: _taken(case, name, kinds) for name, kinds in held.items()}
    why = _in_the_way(case, taken[own])
    beneath = {name: kinds for name in look if name != own and (kinds := _words(taken[name]) | _gone(case, name))}
    partial = slots.why_partial(refused, beneath, own) if refused or beneath else None
    replaceable = any(taken.values())
    offers = [*((REPLACE,) if replaceable else ()), *((ADMIT,) if refused else ()), REMOVE]
    return Checked(
        state=RouteState.pending if why else RouteState.configured,
        reason=" ".join(filter(None, (why or BYPASSES, partial))),
        choices=named(case.work, *offers) if why or partial else (),
        found=found_in(case, look) | ({"not_covered": slots.not_covered(refused, beneath)} if partial else {}),
    )


def _taken(case: Case, name: str, held: Mapping[str, Holder]) -> dict[str, Holder]:
    free = {Holder.NOBODY, Holder.THIS_ROUTE}
    return {kind: who for kind, who in held.items() if who not in free and kind not in case.away(name)}


def _in_the_way(case: Case, taken: Mapping[str, Holder]) -> str | None:
    away = case.away(case.work.identity)
    why = holders.conflict(case.work.identity, taken)
    given = _GIVEN.format(kinds=listed(tuple(sorted(away)))) if away else None
    return " ".join(filter(None, (why, _TAKEN if why else None, given))) or None


def _words(held: Mapping[str, Holder]) -> dict[str, str]:
    return {kind: f"which is {holders.WORDS[who]}" for kind, who in held.items() if who in holders.WORDS}


def _gone(case: Case, name: str) -> dict[str, str]:
    return dict.fromkeys(sorted(case.away(name)), "since the owner gave them to another route")


def found_in(case: Case, look: Look) -> dict[str, Any]:
    """What a look found, naming no topic; kinds that were ours once since the decision are kept in mind.

    `silent`: where forwarding by e-mail is off, as it was asked for.
    """
    held = {name: case.held(name, now) for name, now in look.items()}
    asked_off = case.asked.forwarding is Forwarding.OFF
    silent = [name for name, now in look.items() if asked_off and (not now.forwarding or case.to_silence(now))]
    ours = {name: {kind for kind, who in kinds.items() if who is Holder.THIS_ROUTE} for name, kinds in held.items()}
    return {
        "identities": _values(held),
        "set": {name: sorted(case.set_already(name) | kinds) for name, kinds in ours.items()},
        "silent": sorted(silent),
        "decided_at": msgspec.to_builtins(case.asked.decision.at) if case.asked.decision else None,
    }


def _values(held: Mapping[str, Mapping[str, Holder]]) -> dict[str, dict[str, str]]:
    return {name: {kind: who.value for kind, who in kinds.items()} for name, kinds in held.items()}


def named(work: RouteWork, *choices: str) -> tuple[str, ...]:
    """The choices with the route's id."""
    return tuple(choice.format(id=work.id) for choice in choices)
