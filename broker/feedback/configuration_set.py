"""The `configuration_set` route: a set with our event destination in the delegate's account, heard by its own topic."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from broker.aws_access import RoleAccess
from broker.errors import Unavailable
from broker.feedback import set_rules as rules
from broker.feedback.handling import Checked, RouteWork, TenantTopic
from broker.feedback.set_gateways import Sets, Subscriber, Topics
from broker.feedback.set_rules import DESTINATION, MARK, Names, SetSettings
from broker.feedback.views import RouteState


class _Foreign(Exception):  # an outcome: something of our name does not carry our mark
    """`kind` with its article, such as "a configuration set"."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _Here(msgspec.Struct, frozen=True):
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


class ConfigurationSets:
    """Fits `broker.feedback.handling.Handler`."""

    def __init__(
        self, sets: Sets, topics: Topics, subscriber: Subscriber, *, partition: str, broker_account: str
    ) -> None:
        self._sets = sets
        self._topics = topics
        self._subscriber = subscriber
        self._partition = partition
        self._broker_account = broker_account

    async def check(self, work: RouteWork) -> Checked:
        """Makes topic, set and destination where they are missing, puts them right where they differ, and subscribes.

        `requested` until the topic's messages come. Nothing is subscribed before the topic is known, which it is once
        the first answer is stored: SNS asks for confirmation at once, and only of known topics is it given.
        """
        if work.delegate is None:
            return Checked(state=RouteState.pending, reason=rules.NO_ROLE, choices=rules.NO_ROLE_CHOICES)
        if work.delegate.account_id not in work.accounts:
            reason = rules.wrong_account(work.delegate.account_id)
            return Checked(state=RouteState.pending, reason=reason, choices=rules.NO_ROLE_CHOICES)
        here = self._here(work, work.delegate)
        if work.ended:
            return await self._look(here)
        try:
            held = await self._set_up(here)
        except _Foreign as error:
            reason, choices = rules.not_ours(error.kind, here.names.name)
            return Checked(state=RouteState.broken, reason=reason, choices=choices)
        return await self._subscribed(here, held)

    async def remove(self, work: RouteWork) -> Checked:
        """Deletes our destination, the set where it holds no others, and the topic; nothing without our mark."""
        if work.delegate is None:
            return _unreachable(work)
        here = self._here(work, work.delegate)
        kept = await self._remove_set(here)
        if await self._topic(here) is not None and await self._is_marked(here):
            await self._topics.delete(here.access, here.names.topic_arn)
        reason = rules.STAYS.format(name=here.names.name) if kept else None
        return Checked(state=RouteState.removed, reason=reason)

    def _here(self, work: RouteWork, access: RoleAccess) -> _Here:
        names = rules.names(work.grant_id, access, partition=self._partition)
        policy = rules.topic_policy(
            names, account_id=access.account_id, broker_account=self._broker_account, partition=self._partition
        )
        return _Here(work, access, names, policy)

    async def _set_up(self, here: _Here) -> Sequence[Mapping[str, Any]]:
        """The set's destinations as SES shows them afterwards."""
        is_new = await self._ensure_set(here)
        await self._ensure_topic(here)
        access, name, wanted = here.access, here.names.name, rules.definition(here.names.topic_arn)
        held = [] if is_new else await self._sets.destinations(access, name)
        ours = rules.named(held, DESTINATION)
        if ours is not None and rules.same_definition(ours, wanted):
            return held
        write = self._sets.create_destination if ours is None else self._sets.update_destination
        await write(access, name, DESTINATION, wanted)
        # An answer of 200 is not taken as proof: what counts is what SES says afterwards.
        after = await self._sets.destinations(access, name)
        ours = rules.named(after, DESTINATION)
        if ours is None or not rules.same_definition(ours, wanted):
            raise Unavailable("SES does not show the event destination that was just set.")
        return after

    async def _ensure_set(self, here: _Here) -> bool:
        """Whether it was made just now."""
        access, name, tls_policy = here.access, here.names.name, _upper(here.tls_policy)
        held = await self._sets.find(access, name)
        if held is None:
            await self._sets.create(access, name, tags=here.mark, tls_policy=tls_policy)
            return True
        if not _marked(held, here):
            raise _Foreign("a configuration set")
        if tls_policy is not None and held.get("DeliveryOptions", {}).get("TlsPolicy", "OPTIONAL") != tls_policy:
            await self._sets.set_tls_policy(access, name, tls_policy)
        return False

    async def _ensure_topic(self, here: _Here) -> None:
        access, arn = here.access, here.names.topic_arn
        held = await self._topic(here)
        if held is None:
            attributes = {"Policy": here.policy, "SignatureVersion": "2"}
            await self._topics.create(access, arn, attributes=attributes, tags=here.mark)
            return
        if not await self._is_marked(here):
            raise _Foreign("an SNS topic")
        for name, value in rules.topic_changes(held, here.policy).items():
            await self._topics.set_attribute(access, arn, name, value)

    async def _topic(self, here: _Here) -> dict[str, str] | None:
        return await self._topics.attributes(here.access, here.names.topic_arn)

    async def _is_marked(self, here: _Here) -> bool:
        tags = await self._topics.tags(here.access, here.names.topic_arn)
        return tags.get(MARK) == here.mark[MARK]

    async def _subscribed(self, here: _Here, held: Sequence[Mapping[str, Any]]) -> Checked:
        arn, work = here.names.topic_arn, here.work
        known = work.found.get("topic_arn") == arn
        subscription = await self._subscriber.subscribe(arn) if known else None
        state, reason = RouteState.configured, None
        if subscription is None and work.topic_arn is not None:
            state, reason = RouteState.broken, rules.NOT_DELIVERED
        elif subscription is None:
            state, reason = RouteState.requested, rules.NOT_CONFIRMED
        return Checked(
            state=state,
            reason=reason,
            choices=rules.how_to_send(here.names.name, here.access, work.accounts),
            previous={"configuration_set": None, "topic": None} if work.previous is None else None,
            found=_found(here, held),
            unfinished=not known,
            topic=TenantTopic(
                arn=arn,
                tenant_id=work.delegate_id,
                configuration_set=here.names.name,
                subscription_arn=subscription,
            ),
        )

    async def _look(self, here: _Here) -> Checked:
        """Only reads: bounces of the last mail still come in, but nothing is put back."""
        is_there = await self._sets.find(here.access, here.names.name) is not None
        held = await self._sets.destinations(here.access, here.names.name) if is_there else []
        if rules.named(held, DESTINATION) is None or await self._topic(here) is None:
            return Checked(state=RouteState.broken, reason=rules.HANDS_OFF)
        return Checked(state=RouteState.configured)

    async def _remove_set(self, here: _Here) -> bool:
        """Whether the set stays because it holds others' destinations."""
        access, name = here.access, here.names.name
        held = await self._sets.find(access, name)
        if held is None or not _marked(held, here):
            return False
        if all(each.get("Name") == DESTINATION for each in await self._sets.destinations(access, name)):
            await self._sets.delete(access, name)
            return False
        await self._sets.delete_destination(access, name, DESTINATION)
        return True


def _unreachable(work: RouteWork) -> Checked:
    if work.previous is None:
        return Checked(state=RouteState.removed)
    name = rules.set_name(work.grant_id)
    return Checked(state=RouteState.broken, reason=rules.BY_HAND.format(name=name, region=work.region))


def _marked(held: Mapping[str, Any], here: _Here) -> bool:
    tags = {each["Key"]: each["Value"] for each in held.get("Tags") or ()}
    return tags.get(MARK) == here.mark[MARK]


def _upper(word: str | None) -> str | None:
    return None if word is None else word.upper()


def _found(here: _Here, held: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "account_id": here.access.account_id,
        "configuration_set": here.names.name,
        "configuration_set_arn": here.names.set_arn,
        "topic_arn": here.names.topic_arn,
        "own_destinations": sum(each.get("Name") != DESTINATION for each in held),
    }
