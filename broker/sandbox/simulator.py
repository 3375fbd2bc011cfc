"""What becomes of accepted mail: the mailbox simulator's addresses decide, everybody else gets a delivery.

Source: Developer Guide, send-an-email-from-console (mailbox simulator) and configure-sns-notifications.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from broker.sandbox import event_destinations, payloads, sns_topics
from broker.sandbox.arns import parse
from broker.sandbox.cloud import Cloud
from broker.sandbox.event_destinations import Happening
from broker.sandbox.payloads import Kind, Sent
from broker.sandbox.state import Identity

DOMAIN = "simulator.amazonses.com"


def is_simulated(address: str) -> bool:
    return address.rpartition("@")[2].lower() == DOMAIN


def fate(address: str) -> tuple[str, ...]:
    """What happens to mail for an address, in order; labels (`bounce+a@`) do not count."""
    if not is_simulated(address):
        return ("Delivery",)
    match address.rpartition("@")[0].partition("+")[0].lower():
        case "bounce":
            return ("General",)
        case "complaint":
            return ("Delivery", "Complaint")
        case "ooto":
            return ("Delivery", "OutOfOffice")
        case "suppressionlist":
            return ("Suppressed",)
        case _:
            return ("Delivery",)


def carry_out(cloud: Cloud, sent: Sent) -> None:
    """Publishes every event of a message, one for all recipients of the same fate, on both feedback paths."""
    _to_configuration_set(cloud, "Send", sent, {})
    for kind, details in _events(sent):
        announce(cloud, kind, sent, details)


def announce(cloud: Cloud, kind: Kind, sent: Sent, details: dict[str, Any], *, copies: int = 1) -> list[str]:
    """Publishes one event to the identity's topic and to the sender's configuration set; the topics that had it."""
    topics = (
        _to_identity(cloud, kind, sent, details, copies=copies),
        _to_legacy(cloud, kind, sent, details, copies=copies),
    )
    return [topic for topic in topics if topic] + _to_configuration_set(cloud, kind, sent, details, copies=copies)


def stand_in(cloud: Cloud, kind: Kind, sent: Sent, details: dict[str, Any], *, copies: int = 1) -> list[str]:
    """Publishes what a configuration set would to a topic of the identity instead, which SES never does."""
    owner = parse(sent.source_arn)
    identity = cloud.state.covering((owner.account_id, owner.region), sent.envelope.from_address)
    topic = next(iter(identity.topics.values()), None) if identity else None
    if topic is None:
        return []
    sns_topics.publish(cloud, topic, json.dumps(payloads.event(kind, sent, details)), copies=copies)
    return [topic]


def _events(sent: Sent) -> Iterator[tuple[Kind, dict[str, Any]]]:
    fates: dict[str, list[str]] = defaultdict(list)
    for address in sent.envelope.recipients:
        for each in fate(address):
            fates[each].append(address)
    for each in sorted(fates, key=lambda word: word != "Delivery"):
        match each:
            case "Delivery":
                yield "Delivery", payloads.delivery(sent, fates[each])
            case "Complaint":
                yield "Complaint", payloads.complaint(sent, fates[each])
            case cause:
                yield "Bounce", payloads.bounce(cause, fates[each])


def _to_identity(cloud: Cloud, kind: Kind, sent: Sent, details: dict[str, Any], *, copies: int) -> str | None:
    owner = parse(sent.source_arn)
    if cloud.dialect.identity_topic_silent_for_delegated and owner.account_id != sent.account_id:
        return None
    identity = cloud.state.covering((owner.account_id, owner.region), sent.envelope.from_address)
    if identity is None or not (topic := identity.topics.get(kind)):
        return None
    if not sns_topics.ses_may_publish(cloud, topic, account_id=owner.account_id, source_arn=identity.arn):
        _give_up(identity, kind)
        return None
    record = payloads.identity_notification(kind, sent, details, headers=kind in identity.headers_in)
    sns_topics.publish(cloud, topic, json.dumps(record), copies=copies)
    return topic


def _to_legacy(cloud: Cloud, kind: Kind, sent: Sent, details: dict[str, Any], *, copies: int) -> str | None:
    """An account that attached its topic to another's identity long ago hears of the mail that it sends itself."""
    legacy = cloud.state.legacy.get((sent.account_id, sent.source_arn))
    if legacy is None or not (topic := legacy.topics.get(kind)):
        return None
    if not sns_topics.ses_may_publish(cloud, topic, account_id=sent.account_id, source_arn=sent.source_arn):
        del legacy.topics[kind]
        return None
    record = payloads.identity_notification(kind, sent, details, headers=kind in legacy.headers_in)
    sns_topics.publish(cloud, topic, json.dumps(record), copies=copies)
    return topic


def _give_up(identity: Identity, kind: Kind) -> None:
    """A failed publish makes SES drop the setting and forward by e-mail again; deliveries keep their topic."""
    if kind != "Delivery":
        identity.topics.pop(kind, None)
        identity.forwarding = True


def _to_configuration_set(
    cloud: Cloud, kind: Kind, sent: Sent, details: dict[str, Any], *, copies: int = 1
) -> list[str]:
    if not sent.envelope.configuration_set:
        return []
    region, name = parse(sent.source_arn).region, sent.envelope.configuration_set
    happening = Happening(kind, sent, details, region, name, datetime.now(UTC))
    return event_destinations.publish(cloud, happening, copies=copies)
