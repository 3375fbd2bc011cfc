"""The `configuration_set` route: a set with our event destination in the delegate's account, heard by its own topic."""

from collections.abc import Mapping, Sequence
from typing import Any

from broker.aws_access import RoleAccess
from broker.errors import Unavailable
from broker.feedback import set_answers as answers
from broker.feedback import set_rules as rules
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.set_answers import Here
from broker.feedback.set_gateways import Sets, Subscriber, Topics
from broker.feedback.set_rules import DESTINATION, MARK, Seen
from broker.feedback.views import RouteState
from broker.points import reach


class _Foreign(Exception):  # an outcome: something of our name does not carry our mark
    """`kind` with its article, such as "a configuration set"."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


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

        First what will be made is noted, with its topic: after a crash the removal would not know of it otherwise, and
        SNS asks for confirmation at once, which only known topics are given. `requested` until its messages come.
        """
        if work.delegate is None:
            return Checked(state=RouteState.pending, reason=rules.NO_ROLE, choices=rules.NO_ROLE_CHOICES)
        made_in = work.found.get("account_id", work.delegate.account_id)
        if made_in != work.delegate.account_id:
            reason, choices = rules.elsewhere(made_in, rules.set_name(work.grant_id))
            return Checked(state=RouteState.pending, reason=reason, choices=choices)
        if work.delegate.account_id not in work.accounts:
            reason = rules.wrong_account(work.delegate.account_id)
            return Checked(state=RouteState.pending, reason=reason, choices=rules.NO_ROLE_CHOICES)
        here = self._here(work, work.delegate)
        if work.ended:
            return answers.left_as_it_is(await self._see(here))
        if work.found.get("topic_arn") != here.names.topic_arn:
            return answers.noted(here)
        return await self._check(here, await self._see(here))

    async def _check(self, here: Here, seen: Seen) -> Checked:
        lost = rules.lost(here.work.found, seen, here.names.name)
        if lost and "lost" not in here.work.found:
            # Told before it is put back: a crash in between would leave nothing to tell of.
            found = {key: value for key, value in here.work.found.items() if seen.topic or key != "subscription_arn"}
            found["lost"] = list(lost)
            return Checked(state=RouteState.broken, reason=rules.why_lost(lost), found=found, unfinished=True)
        try:
            held = await self._set_up(here, seen)
        except _Foreign as error:
            reason, choices = rules.not_ours(error.kind, here.names.name)
            return Checked(state=RouteState.broken, reason=reason, choices=choices)
        subscription = await self._subscriber.subscribe(here.names.topic_arn)
        reach("sets.subscribed")
        return answers.told(here, held, subscription)

    async def remove(self, work: RouteWork) -> Checked:
        """Deletes our destination, the set where it holds no others, and the topic; nothing without our mark."""
        if work.delegate is None or work.found.get("account_id", work.delegate.account_id) != work.delegate.account_id:
            return answers.unreachable(work)
        here = self._here(work, work.delegate)
        kept = await self._remove_set(here)
        if await self._topic(here) is not None and await self._is_marked(here):
            await self._topics.delete(here.access, here.names.topic_arn)
            reach("sets.topic_deleted")
        reason = rules.STAYS.format(name=here.names.name) if kept else None
        return Checked(state=RouteState.removed, reason=reason)

    def _here(self, work: RouteWork, access: RoleAccess) -> Here:
        names = rules.names(work.grant_id, access, partition=self._partition)
        policy = rules.topic_policy(
            names, account_id=access.account_id, broker_account=self._broker_account, partition=self._partition
        )
        return Here(work, access, names, policy)

    async def _see(self, here: Here) -> Seen:
        held = await self._sets.find(here.access, here.names.name)
        destinations = [] if held is None else await self._sets.destinations(here.access, here.names.name)
        return Seen(held, destinations, await self._topic(here))

    async def _set_up(self, here: Here, seen: Seen) -> Sequence[Mapping[str, Any]]:
        """The set's destinations as SES shows them afterwards."""
        await self._ensure_set(here, seen.set)
        await self._ensure_topic(here, seen.topic)
        access, name, wanted = here.access, here.names.name, rules.definition(here.names.topic_arn)
        ours = rules.named(seen.destinations, DESTINATION)
        if ours is not None and rules.same_definition(ours, wanted):
            return seen.destinations
        write = self._sets.create_destination if ours is None else self._sets.update_destination
        await write(access, name, DESTINATION, wanted)
        reach("sets.told")
        # An answer of 200 is not taken as proof: what counts is what SES says afterwards.
        after = await self._sets.destinations(access, name)
        ours = rules.named(after, DESTINATION)
        if ours is None or not rules.same_definition(ours, wanted):
            raise Unavailable("SES does not show the event destination that was just set.")
        return after

    async def _ensure_set(self, here: Here, held: Mapping[str, Any] | None) -> None:
        access, name, tls_policy = here.access, here.names.name, _upper(here.tls_policy)
        if held is None:
            await self._sets.create(access, name, tags=here.mark, tls_policy=tls_policy)
            reach("sets.made")
            return
        if not _marked(held, here):
            raise _Foreign("a configuration set")
        if tls_policy is not None and held.get("DeliveryOptions", {}).get("TlsPolicy", "OPTIONAL") != tls_policy:
            await self._sets.set_tls_policy(access, name, tls_policy)
            reach("sets.hardened")

    async def _ensure_topic(self, here: Here, held: Mapping[str, str] | None) -> None:
        access, arn = here.access, here.names.topic_arn
        if held is None:
            attributes = {"Policy": here.policy, "SignatureVersion": "2"}
            await self._topics.create(access, arn, attributes=attributes, tags=here.mark)
            reach("sets.topic_made")
            return
        if not await self._is_marked(here):
            raise _Foreign("an SNS topic")
        for name, value in rules.topic_changes(held, here.policy).items():
            await self._topics.set_attribute(access, arn, name, value)
            reach("sets.topic_mended")

    async def _topic(self, here: Here) -> dict[str, str] | None:
        return await self._topics.attributes(here.access, here.names.topic_arn)

    async def _is_marked(self, here: Here) -> bool:
        tags = await self._topics.tags(here.access, here.names.topic_arn)
        return tags.get(MARK) == here.mark[MARK]

    async def _remove_set(self, here: Here) -> bool:
        """Whether the set stays because it holds others' destinations."""
        access, name = here.access, here.names.name
        held = await self._sets.find(access, name)
        if held is None or not _marked(held, here):
            return False
        if all(each.get("Name") == DESTINATION for each in await self._sets.destinations(access, name)):
            await self._sets.delete(access, name)
            reach("sets.deleted")
            return False
        await self._sets.delete_destination(access, name, DESTINATION)
        reach("sets.silenced")
        return True


def _marked(held: Mapping[str, Any], here: Here) -> bool:
    tags = {each["Key"]: each["Value"] for each in held.get("Tags") or ()}
    return tags.get(MARK) == here.mark[MARK]


def _upper(word: str | None) -> str | None:
    return None if word is None else word.upper()
