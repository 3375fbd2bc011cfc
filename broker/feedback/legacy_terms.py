"""Old cross-account notifications: what can be asked of them, how far a migration is, and how it is tested. Rules only.

The delegate once attached its topic to the owner's identity, by the identity's ARN. Such notifications can still be
viewed, edited and removed; new ones cannot be created (Developer Guide,
sending-authorization-delegate-sender-tasks-notifications).
"""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from broker.feedback.foreign_terms import account_of
from broker.feedback.notification_settings import Notifications, Slot, listed
from broker.feedback.set_rules import set_name
from broker.feedback.slots import KINDS

BOUNCE = "bounce@simulator.amazonses.com"
"""SES answers a mail to this address with a bounce that counts against nobody (send-an-email-from-console)."""

NO_NEW = (
    "SES lets nobody create new cross-account notifications; existing ones can be viewed, edited and removed. Ask the "
    "owner for a route of the kind foreign_topic, or use configuration_set or identity_topic."
)


class LegacyEdit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one existing notification is to be; null leaves it as it is."""

    topic_arn: (
        Annotated[
            str,
            msgspec.Meta(
                description="Another topic of yours; where several of your accounts have the notification, it is set "
                "for the topic's own account, or for all of them if that has none",
                max_length=512,
                examples=["arn:aws:sns:eu-west-1:222222222222:agency-feedback"],
            ),
        ]
        | None
    ) = None
    include_headers: Annotated[bool | None, msgspec.Meta(description="Add the original headers", examples=[True])] = (
        None
    )


class LegacySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to old cross-account notifications; without any they are only watched and listed."""

    bounce: LegacyEdit | None = None
    complaint: LegacyEdit | None = None
    delivery: LegacyEdit | None = None

    @property
    def edits(self) -> dict[str, LegacyEdit]:
        """By kind."""
        asked = ((kind, getattr(self, kind)) for kind in KINDS)
        return {kind: each for kind, each in asked if each}


class Target(StrEnum):
    """What old notifications can be migrated to by the delegate alone."""

    IDENTITY_TOPIC = "identity_topic"
    CONFIGURATION_SET = "configuration_set"


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """A move to another route. `asked` counts how often it was asked for: each time a test may be sent anew."""

    to: Target
    route_id: UUID
    began_at: datetime
    asked: int = 1


class Stored(LegacySettings, frozen=True, kw_only=True):
    """A route's stored settings."""

    migration: Migration | None = None


class Progress(StrEnum):
    """How far a migration is."""

    WAITING_FOR_ROUTE = "waiting_for_route"
    WAITING_FOR_BOUNCE = "waiting_for_bounce"
    DONE = "done"


def stored(settings: Mapping[str, Any]) -> Stored:
    """Stored settings, typed again."""
    return msgspec.convert(settings, Stored)


def existing(now: Notifications) -> dict[str, Slot]:
    """The notifications that there are."""
    return {kind: slot for kind, slot in now.slots.items() if slot.topic}


def edited(there: Mapping[str, Slot], edits: Mapping[str, LegacyEdit]) -> dict[str, Slot]:
    """How the existing ones are to be."""
    found = {}
    for kind, slot in there.items():
        edit = edits.get(kind, LegacyEdit())
        headers = slot.headers if edit.include_headers is None else edit.include_headers
        found[kind] = Slot(edit.topic_arn or slot.topic, headers)
    return found


def edited_in(there: Mapping[str, Mapping[str, Slot]], edits: Mapping[str, LegacyEdit]) -> dict[str, dict[str, Slot]]:
    """The same by account: a topic of an account that has the notification is for that account alone."""
    found = {}
    for account, slots in there.items():
        mine = {kind: edit for kind, edit in edits.items() if _is_for(account, kind, edit, there)}
        found[account] = edited(slots, mine)
    return found


def _is_for(account: str, kind: str, edit: LegacyEdit, there: Mapping[str, Mapping[str, Slot]]) -> bool:
    owner = account_of(edit.topic_arn) if edit.topic_arn else account
    return owner == account or kind not in there.get(owner, {})


def would_be_new(there: Sequence[str], edits: Mapping[str, LegacyEdit]) -> str | None:
    """Why an edit cannot be: SES has no such notification to edit."""
    missing = tuple(kind for kind in edits if kind not in there)
    return f"There is no {listed(missing)} notification to edit. {NO_NEW}" if missing else None


def sender_for(identity: str, from_addresses: Sequence[str]) -> str:
    """An address that the grant lets the delegate send from: the first of its patterns, its wildcards filled in."""
    if "@" in identity:
        return identity
    pattern = next((each for each in from_addresses if "@" in each), f"*@{identity}")
    local, _, domain = pattern.rpartition("@")
    domain = domain.replace("*.", "test.").replace("*", "").replace("?", "x")
    return f"{local.replace('*', 'bounce-test').replace('?', 'x')}@{domain or identity}"


def planned_set(to: Target, grant_id: UUID) -> str | None:
    """What the configuration set is called that mail has to name once the new route is set up; None: it need not."""
    return set_name(grant_id) if to is Target.CONFIGURATION_SET else None


def command(*, sender: str, identity_arn: str, region: str, configuration_set: str | None) -> str:
    """The line of AWS CLI version 2 with which the delegate sends the test itself."""
    content = '{"Simple":{"Subject":{"Data":"Test"},"Body":{"Text":{"Data":"Test"}}}}'
    parts = [
        "aws", "sesv2", "send-email", "--region", region, "--from-email-address", sender,
        "--from-email-address-identity-arn", identity_arn, "--destination", f"ToAddresses={BOUNCE}",
        "--content", content,
    ]  # fmt: skip
    if configuration_set:
        parts += ["--configuration-set-name", configuration_set]
    return shlex.join(parts)
