"""Whose feedback it is: what a route may be trusted with, and the grant under which the mail was sent."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from broker.feedback.payloads import Mail
from broker.policies.terms import FeedbackKind, FeedbackTerms, View

# A policy lets mail through from the moment SES has it, which is before the read-back that marks the grant active.
BEFORE_ACTIVATION = timedelta(minutes=10)
# SES gives no bound within which a removed policy stops the last send; later mail is a sign that it still holds.
AFTER_REMOVAL = timedelta(seconds=60)
RECENT = timedelta(days=30)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The topic that a message came through.

    `tenant_id` is the owner that a broker topic was made for, or the tenant whose own topic it is. `accounts` are the
    AWS accounts whose SES may publish to a broker topic.
    `configuration_set` is that of the route, where a delegate's topic serves one.
    """

    topic_arn: str
    tenant_id: UUID
    accounts: tuple[str, ...]
    source: str
    configuration_set: str | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A grant on the identity, once it has been active. `verified_at`: when its removal was verified, if ended."""

    grant_id: UUID
    owner_id: UUID
    delegate_id: UUID
    identity_arn: str
    accounts: tuple[str, ...]
    feedback: FeedbackTerms
    activated_at: datetime
    ended_at: datetime | None = None
    verified_at: datetime | None = None


class Attributed(msgspec.Struct, frozen=True):
    """A view of None: this party does not hear this kind. `after_end`: sent although the grant was seen to be gone."""

    candidate: Candidate
    owner_view: View | None
    delegate_view: View | None
    after_end: bool


class Dropped(msgspec.Struct, frozen=True):
    """Nobody's but the owner's own business; counted, not stored."""

    reason: str


class Quarantined(msgspec.Struct, frozen=True):
    """Not to be trusted: stored for people to look at, delivered to nobody."""

    reason: str


Attribution = Attributed | Dropped | Quarantined


def attribute(source: Source, candidates: Sequence[Candidate], mail: Mail, kind: FeedbackKind) -> Attribution:
    """The grant of this mail among those on its identity.

    The identity, the sending account and the time decide. Of several grants between the same two parties the one that
    was in force when the mail was sent goes first, then the one activated last: which From addresses each one allows is
    not read here, since the same two parties hear it either way.
    """
    if (distrust := _distrust(source, mail)) is not None:
        return Quarantined(distrust)
    fitting = [each for each in candidates if _fits(each, source, mail)]
    if not fitting:
        if _is_delegates(source):
            return Quarantined("The topic's tenant has no live or recent grant on this identity.")
        return Dropped("The sending account is party to no live or recent grant on this identity.")
    chosen = max(fitting, key=lambda each: (not _after_end(each, mail), each.activated_at, each.grant_id))
    feedback = chosen.feedback
    return Attributed(
        chosen,
        owner_view=feedback.owner_view if kind in feedback.owner_events else None,
        delegate_view=View.full if kind in feedback.delegate_events else None,
        after_end=_after_end(chosen, mail),
    )


def _is_delegates(source: Source) -> bool:
    return source.configuration_set is not None


def _distrust(source: Source, mail: Mail) -> str | None:
    if mail.source_arn is None or mail.sending_account is None:
        return "The message does not say which identity or which account sent the mail."
    if source.source == "broker_topic" and _account(mail.source_arn) not in source.accounts:
        return "The identity is not in an account that publishes to this topic."
    if source.source != "broker_topic" and not _is_delegates(source):
        return "This topic serves no route that is set up."
    if _is_delegates(source) and mail.sending_account != _account(source.topic_arn):
        return "Another account than the topic's is said to have sent the mail."
    if _is_delegates(source) and mail.configuration_set != source.configuration_set:
        return "The mail was sent through another configuration set than the route's."
    return None


def _fits(candidate: Candidate, source: Source, mail: Mail) -> bool:
    party = candidate.delegate_id if _is_delegates(source) else candidate.owner_id
    ended = candidate.ended_at
    return (
        party == source.tenant_id
        and candidate.identity_arn == mail.source_arn
        and mail.sending_account in candidate.accounts
        and candidate.activated_at - BEFORE_ACTIVATION <= mail.sent_at
        and (ended is None or mail.sent_at <= ended + RECENT)
    )


def _after_end(candidate: Candidate, mail: Mail) -> bool:
    if candidate.ended_at is None or candidate.verified_at is None:
        return False
    return mail.sent_at > candidate.verified_at + AFTER_REMOVAL


def _account(arn: str) -> str:
    """The account in any ARN, empty where there is none."""
    return (arn.split(":", 5) + [""] * 5)[4]
