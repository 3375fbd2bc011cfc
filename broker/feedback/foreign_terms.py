"""What a delegate may ask for as a `foreign_topic`, and what the owner's decision adds to it. Rules only."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from broker.errors import Flaw
from broker.feedback.notification_settings import Slot
from broker.feedback.slots import KINDS
from broker.policies.arns import parse_identity_arn

_TOPIC = "arn:aws:sns:eu-west-1:222222222222:agency-feedback"


class TopicWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic of the delegate's."""

    topic_arn: Annotated[
        str,
        msgspec.Meta(
            description="A Standard topic of yours in the identity's Region", max_length=512, examples=[_TOPIC]
        ),
    ]
    include_headers: Annotated[
        bool, msgspec.Meta(description="Add the original headers to the notifications", examples=[False])
    ] = False


class Forwarding(StrEnum):
    """Feedback by e-mail: left as it is, or off."""

    AS_IT_IS = "as_it_is"
    OFF = "off"


class ForeignTopicSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SES's "SNS topic you don't own": SES publishes straight to the delegate's topic, and the broker hears nothing.

    One topic for each kind of feedback that is asked for (Developer Guide,
    sending-authorization-identity-owner-tasks-policy).
    """

    bounce: TopicWanted | None = None
    complaint: TopicWanted | None = None
    delivery: TopicWanted | None = None
    forwarding: Annotated[
        Forwarding,
        msgspec.Meta(description="`off` needs a topic for both bounces and complaints", examples=["as_it_is"]),
    ] = Forwarding.AS_IT_IS

    @property
    def wanted(self) -> dict[str, Slot]:
        """The slots that are asked for, by kind."""
        asked = ((kind, getattr(self, kind)) for kind in KINDS)
        return {kind: Slot(each.topic_arn, each.include_headers) for kind, each in asked if each}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The owner's yes. `replace`: also where another topic is set, as it was shown to the owner."""

    at: datetime
    replace: bool = False


class Agreed(ForeignTopicSettings, frozen=True, kw_only=True):
    """A route's stored settings: what was asked for and, once the owner has said yes, its decision."""

    decision: Decision | None = None


def agreed(settings: Mapping[str, Any]) -> Agreed:
    """Stored settings, typed again."""
    return msgspec.convert(settings, Agreed)


def account_of(topic_arn: str) -> str:
    """The account in a topic's ARN, empty for what is none."""
    parts = topic_arn.split(":")
    return parts[4] if len(parts) == 6 else ""


def flaws(asked: ForeignTopicSettings, *, identity_arn: str, proven: frozenset[str]) -> tuple[Flaw, ...]:
    """What SES or we would refuse of it, each with its field. `proven`: the accounts that the delegate has proven."""
    found = [
        Flaw(f"/settings/{kind}/topic_arn", sentence)
        for kind, slot in asked.wanted.items()
        if (sentence := _topic_flaw(slot.topic or "", identity_arn, proven))
    ]
    if not asked.wanted:
        found.append(Flaw("/settings", "Name a topic for at least one of bounce, complaint and delivery."))
    if asked.forwarding is Forwarding.OFF and not {"bounce", "complaint"} <= asked.wanted.keys():
        found.append(
            Flaw(
                "/settings/forwarding",
                "SES forwards feedback by e-mail until both bounces and complaints have a topic: name both, or leave "
                "forwarding as it is.",
            )
        )
    return tuple(found)


def _topic_flaw(arn: str, identity_arn: str, proven: frozenset[str]) -> str | None:
    """Topics are Standard ones of the identity's Region (Developer Guide, configure-sns-notifications)."""
    identity = parse_identity_arn(identity_arn)
    parts = arn.split(":")
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "sns" or not parts[5]:
        return "This is not the ARN of an SNS topic (arn:aws:sns:REGION:ACCOUNT:NAME)."
    if parts[1] != identity.partition or parts[3] != identity.region:
        return f"The topic must be in the identity's Region, {identity.region}."
    if parts[5].endswith(".fifo"):
        return "SES publishes to Standard topics only; this one is FIFO."
    if parts[4] not in proven:
        return f"You have not proven account {parts[4][:12]}; connect it first, then ask again."
    return None
