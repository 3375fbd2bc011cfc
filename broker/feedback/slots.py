"""What to do with the notification slots of an identity: SES has one topic each for bounces, complaints, deliveries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

KINDS = ("bounce", "complaint", "delivery")

Slots = Mapping[str, str | None]
"""Topic ARNs by kind, None where nothing is set."""


class Plan(msgspec.Struct, frozen=True):
    """`free`: slots to be set to our topic. `taken`: slots that hold somebody else's, which are left alone."""

    free: tuple[str, ...]
    taken: tuple[str, ...]


def plan(current: Slots, ours: str) -> Plan:
    """What is to be set and what is somebody else's."""
    return Plan(
        free=tuple(kind for kind in KINDS if not current.get(kind)),
        taken=tuple(kind for kind in KINDS if current.get(kind) not in (None, "", ours)),
    )


def before_ours(current: Slots, ours: str, inherited: Slots) -> dict[str, str | None]:
    """What the slots held before we came; where ours is already, what another route of ours recorded, else nothing."""
    return {kind: inherited.get(kind) if current.get(kind) == ours else current.get(kind) for kind in KINDS}


def by_identity(previous: Mapping[str, Any], identity: str) -> dict[str, dict[str, str | None]]:
    """What was there before, by identity: a route that was made before it knew of children tells of its own alone."""
    if previous.keys() & set(KINDS):
        return {identity: dict(previous)}
    return {name: dict(slots) for name, slots in previous.items()}


def lost(before: Mapping[str, Any], now: Mapping[str, Slots]) -> dict[str, tuple[str, ...]]:
    """By identity the slots that held our topic at the last look (`seen`) and hold nothing now."""
    gone = {
        name: tuple(kind for kind in KINDS if before.get(name, {}).get(kind) == "ours" and not slots.get(kind))
        for name, slots in now.items()
    }
    return {name: kinds for name, kinds in gone.items() if kinds}


def seen(slots: Slots, ours: str, *, heard: Iterable[str], forwarding: bool) -> dict[str, Any]:
    """What a look found of one identity, naming no topic; `heard` are the topics of its owner's that reach us."""
    words = {None: "empty", "": "empty", ours: "ours"} | dict.fromkeys(heard, "owners_topic")
    return {kind: words.get(slots.get(kind), "another_topic") for kind in KINDS} | {"email_forwarding": forwarding}


def named(kinds: Sequence[str]) -> str:
    """`bounce, complaint and delivery`."""
    return " and ".join((", ".join(kinds[:-1]), kinds[-1])) if len(kinds) > 1 else kinds[0]


def listed(slots: Mapping[str, Sequence[str]]) -> str:
    """`the bounce and complaint notifications of example.com, and …`."""
    return ", and ".join(f"the {named(kinds)} notifications of {name}" for name, kinds in sorted(slots.items()))


def out_of_reach(topic_arn: str, *, account_id: str, region: str) -> str | None:
    """Why a topic that a slot holds cannot be listened to, by its ARN alone, as the end of a sentence; None if it can.

    FIFO topics have no HTTP subscriptions (SNS Developer Guide, sns-fifo-topics), and SES takes none in the first
    place; its topics are in the identity's Region (SES Developer Guide, configure-sns-notifications).
    """
    parts = topic_arn.split(":")
    if len(parts) != 6 or parts[2] != "sns":
        return "which is not one of SNS"
    if parts[5].endswith(".fifo"):
        return "which is a FIFO topic"
    if parts[3] != region:
        return "which is in another Region"
    if parts[4] != account_id:
        return "which is in another AWS account than the identity"
    return None


ENCRYPTED = "which is encrypted with the AWS-managed key alias/aws/sns, so SES cannot publish to it"
GONE = "which no longer exists"
NOT_ADMITTED = "which the owner's role does not let the broker subscribe to"
ANOTHERS = "which the broker hears already in another way, for a configuration set or for another tenant"
UNCONFIRMED = "which SNS has yet to confirm to the broker"

LEAVE_IT = "Leave it: feedback of this kind does not come through the broker; the grant itself is not affected."
CLEAR_IT = "The owner clears the setting in SES, and the broker's topic takes its place at the next check."
OTHER_ROUTE = "The delegate makes a route of the kind configuration_set, which needs nothing of the owner's account."
ADMIT_IT = (
    "The owner adds sns:Subscribe and sns:GetTopicAttributes to the role, as in the connection's template; the broker "
    "then listens to the topic that is there and leaves the setting as it is."
)
OTHER_KEY = (
    "The owner turns the topic's encryption off, or uses a key of its own that admits ses.amazonaws.com; the broker "
    "then listens to it."
)
CONNECT = "The owner connects the account by a role, and the broker sets the notification topics."

BY_HAND = (
    "The owner's account is not connected by a role that we may use, so the owner has to set the notification topics "
    "of the identity."
)
NO_TOPIC_YET = "The broker's topic in this Region is still being confirmed by SNS."
NO_TOPIC_NOW = "SNS no longer delivers the broker's topic in this Region to us; it has been asked to do so again."


def why_taken(taken: Mapping[str, Mapping[str, str]]) -> str:
    """A sentence for each reason why slots of somebody else do not reach us; `taken`: identity → kind → reason.

    Both parties read it, so it does not name the other topic: that is in the route's `previous`, for the owner.
    """
    grouped: dict[str, dict[str, list[str]]] = {}
    for name, kinds in taken.items():
        for kind, reason in kinds.items():
            grouped.setdefault(reason, {}).setdefault(name, []).append(kind)
    return " ".join(_capital(f"{listed(slots)} go to another topic, {why}.") for why, slots in sorted(grouped.items()))


def choices(reasons: Iterable[str]) -> tuple[str, ...]:
    """What can be done about slots that are taken, for these reasons."""
    asked = set(reasons)
    if not asked or asked == {UNCONFIRMED}:
        return ()
    first = [ADMIT_IT] * (NOT_ADMITTED in asked) + [OTHER_KEY] * (ENCRYPTED in asked)
    return (*first, LEAVE_IT, CLEAR_IT, OTHER_ROUTE)


def why_lost(slots: Mapping[str, Sequence[str]]) -> str:
    """SES drops a topic that it could not publish to (SES Developer Guide, configure-sns-notifications)."""
    return (
        f"SES no longer sends {listed(slots)} to the broker's topic: it drops a topic that it could not publish to "
        "and sends feedback by e-mail instead, or somebody cleared the setting. It is being set again."
    )


def why_partial(refused: Mapping[str, str], taken: Mapping[str, Mapping[str, str]]) -> str:
    """Which of the identities beneath the grant's do not tell us of their mail."""
    told = [f"SES refused the topic on {name}: {text}" for name, text in sorted(refused.items())]
    names = ", ".join(sorted({*refused, *taken}))
    return " ".join([f"Partial: mail from {names} is not covered.", *told, why_taken(taken)]).strip()


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
