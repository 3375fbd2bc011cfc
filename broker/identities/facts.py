"""What a sender must know of an identity, read from SES's answers. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from broker.policies.plan import PREFIX


class Topics(msgspec.Struct, frozen=True):
    """SNS topic ARNs that hear of this identity's mail; None where none is set."""

    bounce: str | None = None
    complaint: str | None = None
    delivery: str | None = None


class Attributes(msgspec.Struct, frozen=True):
    """Settings of the identity and its account; None for what was not read yet.

    `dkim` and `mail_from_status` are SES's words (SUCCESS, PENDING …). `feedback_forwarding`: bounces go out by e-mail
    too. `overlapping` names the other identities that cover the same addresses. `listed`: SES still knows the identity.
    """

    dkim: str | None = None
    dkim_signing: bool | None = None
    mail_from: str | None = None
    mail_from_status: str | None = None
    feedback_forwarding: bool | None = None
    default_configuration_set: str | None = None
    topics: Topics = Topics()
    production_access: bool | None = None
    sending_enabled: bool | None = None
    overlapping: tuple[str, ...] = ()
    listed: bool = True


class Facts(msgspec.Struct, frozen=True):
    """One identity as SES described it; `policies` is name → JSON text."""

    name: str
    verified: bool
    attributes: Attributes
    policies: dict[str, str]


def facts_of(name: str, told: Mapping[str, Any], topics: Mapping[str, str | None], account: Mapping[str, Any]) -> Facts:
    """From the answers of GetEmailIdentity, GetIdentityNotificationAttributes and GetAccount."""
    dkim, mail_from = told.get("DkimAttributes", {}), told.get("MailFromAttributes", {})
    attributes = Attributes(
        dkim=dkim.get("Status"),
        dkim_signing=dkim.get("SigningEnabled"),
        mail_from=mail_from.get("MailFromDomain") or None,
        mail_from_status=mail_from.get("MailFromDomainStatus"),
        feedback_forwarding=told.get("FeedbackForwardingStatus"),
        default_configuration_set=told.get("ConfigurationSetName"),
        topics=Topics(topics.get("bounce"), topics.get("complaint"), topics.get("delivery")),
        production_access=account.get("ProductionAccessEnabled"),
        sending_enabled=account.get("SendingEnabled"),
    )
    return Facts(
        name=name,
        verified=bool(told.get("VerifiedForSendingStatus")),
        attributes=attributes,
        policies=dict(told.get("Policies", {})),
    )


def kind_of(name: str) -> str:
    """`email` for an address, `domain` otherwise."""
    return "email" if "@" in name else "domain"


def overlaps(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each identity the others that cover some of the same addresses: parents, children, addresses.

    The most specific one supplies the settings of a mail (SES Developer Guide, creating-identities), so policies and
    topics of one do not tell the whole story.
    """
    known = set(names)
    found: dict[str, set[str]] = {name: set() for name in known}
    for name in known:
        for parent in _parents(name):
            if parent in known:
                found[name].add(parent)
                found[parent].add(name)
    return {name: tuple(sorted(others)) for name, others in found.items()}


def _parents(name: str) -> list[str]:
    domain = name.rpartition("@")[2]
    labels = domain.split(".")
    above = [".".join(labels[at:]) for at in range(1, len(labels) - 1)]
    return [domain, *above] if "@" in name else above


def is_ours(policy_name: str) -> bool:
    """Whether a policy has a name that only we give."""
    return policy_name.startswith(PREFIX)
