"""What to do with the notification slots of an identity: SES has one topic each for bounces, complaints, deliveries."""

from collections.abc import Mapping

import msgspec

KINDS = ("bounce", "complaint", "delivery")


class Plan(msgspec.Struct, frozen=True):
    """`free`: slots to be set to our topic. `taken`: slots that hold somebody else's, which are left alone."""

    free: tuple[str, ...]
    taken: tuple[str, ...]


def plan(current: Mapping[str, str | None], ours: str) -> Plan:
    """`current` are topic ARNs by kind, None where nothing is set."""
    return Plan(
        free=tuple(kind for kind in KINDS if not current.get(kind)),
        taken=tuple(kind for kind in KINDS if current.get(kind) not in (None, "", ours)),
    )


def before_ours(current: Mapping[str, str | None], ours: str) -> dict[str, str | None]:
    """What the slots held before we came: only empty ones are ever set, so where ours is now there was nothing."""
    return {kind: None if current.get(kind) == ours else current.get(kind) for kind in KINDS}


def why_pending(identity: str, taken: tuple[str, ...]) -> str | None:
    """Which slots are taken and what can be done, None when all is as it should be.

    Both parties read this, so it does not name the other topic: that is in the route's `previous`, for the owner.
    """
    if not taken:
        return None
    names = " and ".join((", ".join(taken[:-1]), taken[-1])) if len(taken) > 1 else taken[0]
    return (
        f"The {names} notifications of {identity} already go to another SNS topic, which was left as it is. "
        "The owner can clear that setting in SES, and we will take its place at the next check; or leave it, and "
        "feedback of this kind will not come through the broker. The grant itself is not affected."
    )


BY_HAND = (
    "The owner's account is not connected by a role that we may use, so the owner has to set the notification topics "
    "of the identity."
)
NO_TOPIC_YET = "The broker's topic in this Region is still being confirmed by SNS."
NO_TOPIC_NOW = "SNS no longer delivers the broker's topic in this Region to us; it has been asked to do so again."
