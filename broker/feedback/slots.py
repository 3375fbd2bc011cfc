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


def beneath(number: int, identity: str) -> str:
    """`one identity beneath example.com`. Both parties read it: the names of the owner's others are for the owner."""
    return f"one identity beneath {identity}" if number == 1 else f"{number} identities beneath {identity}"


def listed(slots: Mapping[str, Sequence[str]], identity: str) -> str:
    """`the bounce and complaint notifications of example.com, and those of …`, naming the grant's identity only."""
    others = {name: kinds for name, kinds in slots.items() if name != identity}
    all_kinds = [kind for kind in KINDS if any(kind in kinds for kinds in others.values())]
    parts = [f"the {named(slots[identity])} notifications of {identity}"] if identity in slots else []
    if others:
        parts.append(f"the {named(all_kinds)} notifications of {beneath(len(others), identity)}")
    return ", and ".join(parts)


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
NO_ADDRESS = (
    "whose policy does not let the broker's account subscribe, so that SNS would deliver it over HTTPS only, and the "
    "operator has not set BROKER_PUBLIC_URL for that"
)
UNCONFIRMED = "which SNS has yet to confirm to the broker"

LEAVE_IT = "Leave it: feedback of this kind does not come through the broker; the grant itself is not affected."
CLEAR_IT = "The owner clears the setting in SES, and the broker's topic takes its place at the next check."
OTHER_ROUTE = "The delegate makes a route of the kind configuration_set, which needs nothing of the owner's account."
ADMIT_IT = (
    "The owner adds sns:Subscribe and sns:GetTopicAttributes to the role, as in the connection's template; the broker "
    "then listens to the topic that is there and leaves the setting as it is."
)
SET_ADDRESS = (
    "The operator sets BROKER_PUBLIC_URL, at which SNS delivers topics of owners that do not come through the broker's "
    "queue."
)
ADMIT_BROKER = (
    "The owner lets the broker's AWS account subscribe in the policy of its topic (sns:Subscribe). The broker then "
    "hears it through its queue, where it has one, and nothing is lost while the broker is away. As it is, the "
    "subscription is of the owner's account, where the broker can neither set nor see a dead-letter queue."
)
KEEP_ALL = (
    "Not durable: the subscription has no dead-letter queue (RedrivePolicy), and SNS gives up on what it cannot "
    "deliver to the broker within the hour. The operator gives the broker a queue in this Region "
    "(BROKER_FEEDBACK_QUEUES) or one for dead letters (BROKER_FEEDBACK_DEAD_LETTERS)."
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


def why_taken(taken: Mapping[str, Mapping[str, str]], identity: str) -> str:
    """A sentence for each reason why slots of somebody else do not reach us; `taken`: identity → kind → reason.

    Both parties read it, so it names neither the other topic, which is in the route's `previous`, nor an identity
    beneath the grant's, which are in `found`; both are for the owner.
    """
    grouped: dict[str, dict[str, list[str]]] = {}
    for name, kinds in taken.items():
        for kind, reason in kinds.items():
            grouped.setdefault(reason, {}).setdefault(name, []).append(kind)
    sentences = [f"{listed(slots, identity)} go to another topic, {why}." for why, slots in sorted(grouped.items())]
    return " ".join(map(_capital, sentences))


def choices(reasons: Iterable[str]) -> tuple[str, ...]:
    """What can be done about slots that are taken, for these reasons."""
    asked = set(reasons)
    if not asked or asked == {UNCONFIRMED}:
        return ()
    first = [ADMIT_IT] * (NOT_ADMITTED in asked) + [OTHER_KEY] * (ENCRYPTED in asked)
    first += [SET_ADDRESS, ADMIT_BROKER] * (NO_ADDRESS in asked)
    return (*first, LEAVE_IT, CLEAR_IT, OTHER_ROUTE)


def why_lost(slots: Mapping[str, Sequence[str]], identity: str, *, whose: str = "the broker's") -> str:
    """SES drops a topic that it could not publish to (SES Developer Guide, configure-sns-notifications)."""
    return (
        f"SES no longer sends {listed(slots, identity)} to {whose} topic: it drops a topic that it could not "
        "publish to and sends feedback by e-mail instead, or somebody cleared the setting. It is being set again."
    )


def why_partial(refused: Mapping[str, str], taken: Mapping[str, Mapping[str, str]], identity: str) -> str:
    """That identities beneath the grant's do not tell us of their mail, without their names."""
    partial = f"Partial: mail from {beneath(len({*refused, *taken}), identity)} is not covered."
    told = f"SES refused the topic on {beneath(len(refused), identity)}." if refused else ""
    return " ".join(filter(None, (partial, told, why_taken(taken, identity))))


def not_covered(refused: Mapping[str, str], taken: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Why, by name, for the owner alone."""
    return {name: why_taken({name: kinds}, name) for name, kinds in taken.items()} | dict(refused)


def why_empty(lost: Mapping[str, str], identity: str) -> list[str]:
    """What could not be put back, by identity, as both parties may read it."""
    others = len(lost.keys() - {identity})
    whose = [identity] * (identity in lost) + [beneath(others, identity)] * bool(others)
    return [f"What {each} had before could not be put back, so it is empty." for each in whose]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
