"""What a `configuration_set` route is made of in the delegate's account: names, policy, destination, and sentences."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from broker.aws_access import RoleAccess
from broker.connections.permissions import PREFIX

DESTINATION = "delegation-broker"
"""What our event destination is called; nobody else may make, change or remove one of this name."""

MARK = "delegation-broker:grant"
"""The tag of what we make, with the grant's id: by it we know our own when the note of it was lost in a crash."""

EVENT_TYPES = (
    "SEND",
    "REJECT",
    "BOUNCE",
    "COMPLAINT",
    "DELIVERY",
    "OPEN",
    "CLICK",
    "RENDERING_FAILURE",
    "DELIVERY_DELAY",
    "SUBSCRIPTION",
)
"""All ten (SES API v2, EventDestination, MatchingEventTypes)."""


class TlsPolicy(StrEnum):
    """`require`: SES delivers to recipients over TLS or not at all (SES API v2, DeliveryOptions)."""

    require = "require"
    optional = "optional"


class SetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be asked of a `configuration_set` route. Without `tls_policy` the set's own is left as it is."""

    tls_policy: Annotated[
        TlsPolicy | None,
        msgspec.Meta(description="require: mail of this set is delivered over TLS or not at all", examples=["require"]),
    ] = None


class Names(msgspec.Struct, frozen=True):
    """What a grant's things are called in one account and Region; set and topic have the same name."""

    name: str
    set_arn: str
    topic_arn: str


def set_name(grant_id: UUID) -> str:
    """At most 64 of `[A-Za-z0-9_-]` (SES API v2, CreateConfigurationSet)."""
    return f"{PREFIX}{grant_id.hex}"


def names(grant_id: UUID, access: RoleAccess, *, partition: str) -> Names:
    """The names of this grant's things in the account that `access` leads to."""
    name, place = set_name(grant_id), f"{access.region}:{access.account_id}"
    return Names(
        name=name,
        set_arn=f"arn:{partition}:ses:{place}:configuration-set/{name}",
        topic_arn=f"arn:{partition}:sns:{place}:{name}",
    )


class Seen(msgspec.Struct, frozen=True):
    """One reading of the delegate's account; None: not there."""

    set: Mapping[str, Any] | None
    destinations: Sequence[Mapping[str, Any]]
    topic: Mapping[str, str] | None


def topic_policy(found: Names, *, account_id: str, broker_account: str, partition: str) -> str:
    """Lets SES publish for this set of this account, and the broker's account subscribe; nobody else.

    SES names `aws:SourceAccount` and `aws:SourceArn`, which is the set (Developer Guide,
    event-publishing-add-event-destination-sns); the SNS guide's example for SES has `aws:SourceOwner`
    (sns-access-policy-use-cases). One statement each, since the conditions of one would all have to hold.
    """
    publish = [
        {
            "Sid": f"SesBy{key}",
            "Effect": "Allow",
            "Principal": {"Service": "ses.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": found.topic_arn,
            "Condition": {"StringEquals": {f"aws:{key}": account_id, "aws:SourceArn": found.set_arn}},
        }
        for key in ("SourceAccount", "SourceOwner")
    ]
    subscribe = {
        "Sid": "BrokerSubscribes",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:{partition}:iam::{broker_account}:root"},
        "Action": "sns:Subscribe",
        "Resource": found.topic_arn,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [*publish, subscribe]})


def topic_changes(held: Mapping[str, str], policy: str) -> dict[str, str]:
    """Attributes of the topic that must be set anew.

    SES cannot publish to a topic under the AWS-managed key (Developer Guide, configure-sns-notifications); an empty
    key ends encryption (SNS, SetTopicAttributes). A key of the delegate's own is its own choice.
    """
    changes = {}
    if not _same_json(held.get("Policy"), policy):
        changes["Policy"] = policy
    if held.get("SignatureVersion") != "2":
        changes["SignatureVersion"] = "2"
    if held.get("KmsMasterKeyId", "").endswith("alias/aws/sns"):
        changes["KmsMasterKeyId"] = ""
    return changes


def _same_json(held: str | None, wanted: str) -> bool:
    try:
        return held is not None and json.loads(held) == json.loads(wanted)
    except ValueError:
        return False


def definition(topic_arn: str) -> dict[str, Any]:
    """Our event destination as SES takes it."""
    return {"Enabled": True, "MatchingEventTypes": list(EVENT_TYPES), "SnsDestination": {"TopicArn": topic_arn}}


def same_definition(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether SES shows what was wanted: the order of event types does not count, nor what SES adds."""
    kinds = set(held.get("MatchingEventTypes", ())) == set(wanted["MatchingEventTypes"])
    rest = {key: value for key, value in wanted.items() if key != "MatchingEventTypes"}
    return kinds and all(held.get(key) == value for key, value in rest.items())


def named(destinations: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The destination of this name."""
    return next((each for each in destinations if each.get("Name") == name), None)


def lost(found: Mapping[str, Any], seen: Seen, name: str) -> tuple[str, ...]:
    """What a former check found set up and is no longer there, or turned off; named for a sentence."""
    if "own_destinations" not in found:  # the first check that set all of it up writes this down
        return ()
    ours = named(seen.destinations, DESTINATION)
    gone = {
        f"the configuration set {name}": seen.set is None,
        f"its event destination {DESTINATION}": seen.set is not None and not (ours and ours.get("Enabled")),
        "its SNS topic": seen.topic is None,
    }
    return tuple(what for what, is_gone in gone.items() if is_gone)


def why_lost(what: Sequence[str]) -> str:
    """The reason for both parties."""
    return (
        f"No longer as it was set up in the delegate's account: {', '.join(what)} (deleted or turned off there). "
        "Mail that is sent meanwhile is not heard here. It is being set up again."
    )


NO_ROLE = (
    "The delegate's account is not connected by a role that we may use, so no configuration set can be made there."
)
NO_ROLE_CHOICES = (
    "The delegate connects its account by a role: POST /v1/connections with kind role, then its template.",
    "Leave it: feedback comes through the owner's identity, as far as that route is set up.",
)
NOT_CONFIRMED = "SNS has not yet confirmed that it delivers the topic of the configuration set to us."
NOT_DELIVERED = "SNS no longer delivers the topic of the configuration set to us; it has been asked to do so again."
HANDS_OFF = "The grant has ended and parts of the route are missing in the delegate's account; they are not put back."
LOST_SUBSCRIPTION = (
    "The broker's subscription to the SNS topic of the configuration set had been ended, so what was told meanwhile "
    "was not heard here. It has been made again."
)
BY_HAND = (
    "The delegate's account{account} cannot be used through its role any more, so what we made there is still there: "
    "the configuration set {name} and the SNS topic of the same name in {region}. The delegate can delete both."
)
STAYS = (
    "The configuration set {name} holds event destinations of the delegate's own and was left to it, without ours; "
    "our SNS topic is gone. The delegate can delete the set once nothing names it any more."
)


def not_ours(kind: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The reason and the choices where something of our name is there that does not carry our mark."""
    reason = f"The delegate's account already has {kind} {name} that was not made by us, and it was left as it is."
    choices = (
        f"The delegate deletes {name}, and we make ours at the next check.",
        f"The delegate tags it {MARK} with the id of the grant, which gives it to us: we will change and delete it.",
        "Remove this route.",
    )
    return reason, choices


def wrong_account(account_id: str) -> str:
    """The reason where the role leads into an account that the grant does not name."""
    return f"The delegate's role is in account {account_id}, which may not send under this grant."


def elsewhere(account_id: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The reason and the choices where the role at hand is in another account than that of the route."""
    reason = (
        f"The configuration set {name} is in account {account_id}, which is not connected by a role that we may use "
        "now. It is not made anew in another account of the delegate's, since senders name the one that is there."
    )
    choices = (
        f"The delegate connects account {account_id} again by a role: POST /v1/connections.",
        "Remove this route once the account is connected again, and make it anew.",
    )
    return reason, choices


def how_to_send(name: str, access: RoleAccess, accounts: Sequence[str]) -> tuple[str, ...]:
    """What the delegate must do so that feedback comes this way, with the exact name."""
    others = sorted(set(accounts) - {access.account_id})
    sentences = [
        f"Name the configuration set {name} on every send in {access.region}; your software may do so by default.",
        f"API: ConfigurationSetName={name}. SMTP: the header X-SES-CONFIGURATION-SET: {name}.",
        "Use it for mail of this grant alone: events of other mail are put aside and delivered to nobody.",
        "The identity's own default configuration set is the owner's setting and cannot name this one.",
        "Whoever sends needs the send action on the configuration set's ARN as well as on the identity's.",
    ]
    if others:
        sentences.append(f"Mail sent from {', '.join(others)} is not heard here: the set is in {access.account_id}.")
    return tuple(sentences)
