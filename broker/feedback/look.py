"""What a look at the identities of an `identity_topic` tells: what was there, what is taken, what is so. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from broker.errors import Refused, Unavailable
from broker.feedback import slots
from broker.feedback.handling import Checked, RouteWork, TenantTopic
from broker.feedback.other_routes import Approved, without
from broker.feedback.owners_topics import Heard
from broker.feedback.slots import Slots
from broker.feedback.views import RouteState


class Look(msgspec.Struct, frozen=True):
    """One reading of all identities of a route."""

    slots: Mapping[str, Slots]
    forwarding: Mapping[str, bool]


def previous(work: RouteWork, before: Look, ours: str, foreign: Approved) -> dict[str, dict[str, str | None]]:
    """What was recorded stays; an identity that is new to the route is recorded as it was found."""
    recorded = slots.by_identity(work.previous or {}, work.identity)
    inherited = work.beside.inherited
    found = {name: slots.before_ours(each, ours, inherited.get(name, {})) for name, each in before.slots.items()}
    return {name: without(each, foreign.get(name, ())) for name, each in found.items()} | recorded


def kept(work: RouteWork) -> tuple[str, ...]:
    """The owner's topics that we came to listen to and have not left since."""
    return tuple(work.found.get("topics", ()))


def taken(look: Look, ours: str) -> list[str]:
    """The topics of somebody else that slots hold."""
    held = {current[kind] for current in look.slots.values() for kind in slots.plan(current, ours).taken}
    return sorted(arn for arn in held if arn)


def expect_set(look: Look, ours: str, refused: Mapping[str, str]) -> None:
    """`Unavailable` where a slot is empty that SES did not refuse."""
    if any(slots.plan(current, ours).free for name, current in look.slots.items() if name not in refused):
        raise Unavailable("SES does not show the notification topics that were just set.")


def found(look: Look, ours: str, heard: Sequence[str]) -> dict[str, Any]:
    """For the route's `found`; `heard`: the owner's topics that we listen to."""
    identities = {
        name: slots.seen(current, ours, heard=heard, forwarding=look.forwarding[name])
        for name, current in look.slots.items()
    }
    return {"identities": identities, "topics": sorted(heard)}


def told(
    work: RouteWork, look: Look, ours: str, refused: Mapping[str, str], heard: Heard, previous: Mapping[str, Any]
) -> Checked:
    """What is so, in one answer: trouble on the grant's own identity first, then what is partial."""
    why = {
        name: {kind: reason for kind in slots.KINDS if (reason := heard.why_not.get(current.get(kind) or ""))}
        for name, current in look.slots.items()
    }
    taken = {name: kinds for name, kinds in why.items() if kinds}
    if work.identity in refused:
        raise Refused(refused[work.identity], code="InvalidParameterValue")
    own = {work.identity: taken.pop(work.identity)} if work.identity in taken else {}
    partial = slots.why_partial(refused, taken, work.identity) if refused or taken else None
    reasons = [slots.why_taken(own, work.identity)] * bool(own) + [partial] * bool(partial)
    return Checked(
        state=RouteState.pending if own else RouteState.configured,
        reason=" ".join(each for each in reasons if each) or None,
        choices=slots.choices(heard.why_not.values()),
        previous=previous,
        found=found(look, ours, [topic.arn for topic in heard.topics])
        | ({"not_covered": slots.not_covered(refused, taken)} if partial else {}),
        topic=_serving(look.slots[work.identity], heard.topics),
        more_topics=heard.topics,
        unfinished=heard.fresh,
    )


def _serving(current: Slots, topics: Sequence[TenantTopic]) -> TenantTopic | None:
    """The owner's topic that most of the mail is heard through, where that is not ours: every mail has a delivery."""
    return next((topic for topic in topics if topic.arn == current.get("delivery")), None)
