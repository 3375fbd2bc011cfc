"""What the local AWS remembers of SES: identities, their policies and topics, configuration sets, mail and calls."""

from collections import deque
from datetime import datetime
from threading import RLock
from typing import Any

import msgspec

from broker.sandbox import arns
from broker.sandbox.errors import AwsError

Place = tuple[str, str]
"""An account id and a Region: where an identity or a configuration set lives."""


class PolicyVersion(msgspec.Struct, frozen=True):
    """The policies of an identity, by name, from `since` (monotonic seconds) on."""

    since: float
    policies: dict[str, str]
    principal_ids: dict[str, dict[str, str]]
    """By policy name and ARN: the unique ids that its users and roles had when it was stored."""


class Identity(msgspec.Struct):
    """A domain or an e-mail address in one account and Region."""

    account_id: str
    region: str
    name: str
    verified: bool = False
    forwarding: bool = True
    configuration_set: str | None = None
    mail_from_domain: str | None = None
    behavior_on_mx_failure: str = "USE_DEFAULT_VALUE"
    dkim_signing: bool = True
    topics: dict[str, str] = msgspec.field(default_factory=dict)
    """Topic ARNs by notification type: Bounce, Complaint, Delivery."""
    headers_in: set[str] = msgspec.field(default_factory=set)
    history: list[PolicyVersion] = msgspec.field(default_factory=lambda: [PolicyVersion(0, {}, {})])
    tags: list[dict[str, str]] = msgspec.field(default_factory=list)

    @property
    def arn(self) -> str:
        return arns.identity_arn(self.account_id, self.region, self.name)

    @property
    def is_address(self) -> bool:
        return "@" in self.name


class Legacy(msgspec.Struct):
    """Old notifications of one account about an identity of another, named by its ARN: nobody can make new ones.

    Source: Developer Guide, sending-authorization-delegate-sender-tasks-notifications.
    """

    identity_arn: str
    topics: dict[str, str]
    """Topic ARNs by notification type: Bounce, Complaint, Delivery."""
    headers_in: set[str] = msgspec.field(default_factory=set)


class ConfigurationSet(msgspec.Struct):
    """A sender's configuration set; `destinations` are version 2 EventDestination structures by name."""

    name: str
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    destinations: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class Mail(msgspec.Struct, frozen=True):
    """One message that SES accepted, as the control API's mailbox lists it."""

    message_id: str
    account_id: str
    caller_arn: str
    region: str
    source: str
    source_arn: str
    return_path: str | None
    recipients: list[str]
    subject: str
    configuration_set: str | None
    at: datetime


class Published(msgspec.Struct, frozen=True):
    """What SES handed to CloudWatch, Data Firehose, EventBridge or Pinpoint, as the control API lists it."""

    account_id: str
    region: str
    configuration_set: str
    destination: str
    kind: str
    """The member of EventDestination, such as `CloudWatchDestination`."""
    target: str
    body: dict[str, Any]


class Logged(msgspec.Struct, frozen=True):
    """One AWS call that was made, successful or not.

    `at` is when it came and `ended_at` when it had taken effect or was refused, just before the answer. `about` is the
    role or identity that it names, empty for other calls.
    """

    at: datetime
    ended_at: datetime
    account_id: str
    caller_arn: str
    service: str
    operation: str
    about: str
    region: str
    status: int
    error: str | None


class State:
    """Everything above; hold `lock` while reading or changing more than one thing."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.identities: dict[Place, dict[str, Identity]] = {}
        self.configuration_sets: dict[Place, dict[str, ConfigurationSet]] = {}
        self.production: set[Place] = set()
        self.legacy: dict[tuple[str, str], Legacy] = {}
        self.mailbox: deque[Mail] = deque(maxlen=10_000)
        self.published: deque[Published] = deque(maxlen=10_000)
        self.calls: deque[Logged] = deque(maxlen=50_000)
        self.last_calls: dict[tuple[str, str, str], float] = {}

    def identity(self, place: Place, name: str) -> Identity | None:
        """Domain names match without case, addresses with it (Developer Guide, creating-identities)."""
        found = self.identities.get(place, {})
        return found.get(name) or (found.get(name.lower()) if "@" not in name else None)

    def at(self, identity_arn: str) -> Identity | None:
        """The identity of this ARN. Raises AwsError for what is no ARN."""
        named = arns.parse(identity_arn)
        return self.identity((named.account_id, named.region), named.resource.removeprefix("identity/"))

    def add_identity(self, place: Place, name: str, *, verified: bool) -> Identity:
        """The identity of this name, made if it is new; `verified` only ever turns it on."""
        with self.lock:
            key = name if "@" in name else name.lower()
            identity = self.identities.setdefault(place, {}).setdefault(key, Identity(*place, key))
            identity.verified = identity.verified or verified
            return identity

    def covering(self, place: Place, address: str) -> Identity | None:
        """The most specific verified identity that covers an address: itself, its domain, then the parent domains."""
        domain = address.rpartition("@")[2].lower()
        labels = domain.split(".")
        for name in (address, *(".".join(labels[at:]) for at in range(len(labels)))):
            if (identity := self.identity(place, name)) and identity.verified:
                return identity
        return None

    def configuration_set(self, place: Place, name: str) -> ConfigurationSet:
        """Raises AwsError ConfigurationSetDoesNotExist."""
        if (found := self.configuration_sets.get(place, {}).get(name)) is None:
            raise AwsError("ConfigurationSetDoesNotExist", f"Configuration set <{name}> does not exist.")
        return found
