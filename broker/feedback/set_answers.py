"""What is answered of a `configuration_set` route: what is noted, what was found, and the sentences that go with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from broker.aws_access import RoleAccess
from broker.feedback import set_rules as rules
from broker.feedback.handling import Checked, RouteWork, TenantTopic
from broker.feedback.set_gateways import Subscription
from broker.feedback.set_rules import DESTINATION, MARK, Names, Seen, SetSettings
from broker.feedback.views import RouteState


class Here(msgspec.Struct, frozen=True):
    """One route with its place in the delegate's account."""

    work: RouteWork
    access: RoleAccess
    names: Names
    policy: str

    @property
    def mark(self) -> dict[str, str]:
        return {MARK: str(self.work.grant_id)}

    @property
    def tls_policy(self) -> str | None:
        """As SES writes it; None: not asked for."""
        asked = self.work.settings.get("tls_policy")
        return None if asked is None else msgspec.convert({"tls_policy": asked}, SetSettings).tls_policy


def noted(here: Here) -> Checked:
    """Before anything is made."""
    work, names = here.work, here.names
    return Checked(
        state=RouteState.requested,
        reason=rules.NOT_CONFIRMED,
        choices=rules.how_to_send(names.name, here.access, work.accounts),
        previous={"configuration_set": None, "topic": None} if work.previous is None else None,
        found=_place(here),
        unfinished=True,
        topic=_topic(here),
    )


def told(here: Here, held: Sequence[Mapping[str, Any]], subscription: Subscription) -> Checked:
    work, found = here.work, here.work.found
    before, arn = found.get("subscription_arn"), subscription.arn
    # A queue's is made anew without a word. One by another way than before is the operator's change.
    anew = arn is not None and before not in (None, arn) and found.get("protocol") == subscription.protocol
    state, reason = RouteState.configured, None
    if anew:
        state, reason = RouteState.broken, rules.LOST_SUBSCRIPTION
    elif arn is None and (work.topic_arn is not None or before is not None):
        state, reason = RouteState.broken, rules.NOT_DELIVERED
    elif arn is None:
        state, reason = RouteState.requested, rules.NOT_CONFIRMED
    return Checked(
        state=state,
        reason=reason,
        choices=rules.how_to_send(here.names.name, here.access, work.accounts),
        found=_found(here, held, subscription),
        unfinished=anew,
        topic=_topic(here, subscription),
    )


def left_as_it_is(seen: Seen) -> Checked:
    """Of an ended grant: bounces of the last mail still come in, but nothing is put back."""
    if rules.named(seen.destinations, DESTINATION) is None or seen.topic is None:
        return Checked(state=RouteState.broken, reason=rules.HANDS_OFF)
    return Checked(state=RouteState.configured)


def unreachable(work: RouteWork) -> Checked:
    if work.previous is None and not work.found:
        return Checked(state=RouteState.removed)
    made_in = work.found.get("account_id")
    account = f" {made_in}" if made_in else ""
    reason = rules.BY_HAND.format(account=account, name=rules.set_name(work.grant_id), region=work.region)
    return Checked(state=RouteState.broken, reason=reason)


def _topic(here: Here, subscription: Subscription | None = None) -> TenantTopic:
    known = TenantTopic(arn=here.names.topic_arn, tenant_id=here.work.delegate_id, configuration_set=here.names.name)
    return known if subscription is None else subscribed(known, subscription)


def subscribed(topic: TenantTopic, to: Subscription) -> TenantTopic:
    """The topic as it is heard by this subscription."""
    said = {"protocol": to.protocol, "durable": to.durable, "by_broker": to.by_broker}
    return msgspec.structs.replace(topic, subscription_arn=to.arn, **said)


def _place(here: Here) -> dict[str, Any]:
    """Where our things are, from before they are made."""
    return {
        "account_id": here.access.account_id,
        "configuration_set": here.names.name,
        "configuration_set_arn": here.names.set_arn,
        "topic_arn": here.names.topic_arn,
    }


def _found(here: Here, held: Sequence[Mapping[str, Any]], subscription: Subscription) -> dict[str, Any]:
    return _place(here) | {
        "own_destinations": sum(each.get("Name") != DESTINATION for each in held),
        "subscription_arn": subscription.arn,
        "protocol": subscription.protocol,
        "durable": subscription.durable,
    }
