"""Whose feedback it is: what a route may be trusted with, and the grant under which the mail was sent."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from broker.feedback.occurrence import Mail
from broker.feedback.reasons import Reason
from broker.policies.terms import FeedbackKind, FeedbackTerms, View
from broker.policies.wildcards import matches

# A policy lets mail through from the moment SES has it, which is before the read-back that marks the grant active.
BEFORE_ACTIVATION = timedelta(minutes=10)
# SES gives no bound within which a removed policy stops the last send; later mail is a sign that it still holds.
AFTER_REMOVAL = timedelta(seconds=60)
RECENT = timedelta(days=30)
# What the breaker takes its rates of; the terms cannot blind it.
COUNTED: frozenset[FeedbackKind | None] = frozenset(
    {FeedbackKind.send, FeedbackKind.delivery, FeedbackKind.bounce, FeedbackKind.complaint}
)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The topic that a message came through.

    `tenant_id` is the owner that a broker topic was made for, or the tenant whose own topic it is. `configuration_set`
    is that of the route which a delegate's topic serves. Where there is none, the topic is on the owner's side, and
    `accounts` are those whose identities may speak through it.
    """

    topic_arn: str
    tenant_id: UUID
    accounts: tuple[str, ...]
    source: str
    configuration_set: str | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A grant on the identity, once it has been active. `verified_at`: when its removal was verified, if ended.

    `from_addresses` are patterns, none for no limit; `not_before` and `expires_at` the agreed window. `suspended_at`
    and `resumed_at` are those of the latest suspension; of earlier ones nothing is known.
    """

    grant_id: UUID
    owner_id: UUID
    delegate_id: UUID
    identity_arn: str
    accounts: tuple[str, ...]
    feedback: FeedbackTerms
    activated_at: datetime
    ended_at: datetime | None = None
    verified_at: datetime | None = None
    from_addresses: tuple[str, ...] = ()
    not_before: datetime | None = None
    expires_at: datetime | None = None
    suspended_at: datetime | None = None
    resumed_at: datetime | None = None


class Standing(msgspec.Struct, frozen=True):
    """What the database knows of an identity: its grants, and the owner who wants to hear of its own mail, if any."""

    candidates: Sequence[Candidate] = ()
    own_mail_of: UUID | None = None


class Attributed(msgspec.Struct, frozen=True, kw_only=True):
    """A view of None: this party does not hear this kind. No grant: the owner's own mail, which it alone hears.

    `gone_since`: the mail was sent more than 60 s after the grant's policy was seen to be gone, at this time; only
    where a topic of the broker's says so, since to its own topic a tenant can publish mails that were never sent.
    `counted`: the breaker of a live grant goes by it, whether or not anybody hears it.
    """

    owner_id: UUID
    delegate_id: UUID | None = None
    grant_id: UUID | None = None
    owner_view: View | None
    delegate_view: View | None = None
    gone_since: datetime | None = None
    counted: bool = False


class Dropped(msgspec.Struct, frozen=True):
    """Nobody's business here, or (`own`) the owner's alone, which it does not want to hear; counted, not stored."""

    own: bool = False


class Quarantined(msgspec.Struct, frozen=True):
    """Not to be trusted: stored for people to look at, delivered to nobody."""

    reason: Reason


Attribution = Attributed | Dropped | Quarantined


def attribute(source: Source, standing: Standing, mail: Mail, kind: FeedbackKind | None) -> Attribution:
    """The grant of this mail among those on its identity; a kind of None is one that SES has and we do not know.

    The identity, the sending account and the time decide. Of several grants between the same two parties the one whose
    terms fit the mail goes first: by its From address, then by its time, then the one activated last.
    """
    if (distrust := _distrust(source, mail)) is not None:
        return Quarantined(distrust)
    fitting = [each for each in standing.candidates if _fits(each, source, mail)]
    if not fitting:
        return _of_no_grant(source, standing, mail)
    chosen = fitting[0] if len(fitting) == 1 else max(_of_one(fitting, mail), key=lambda each: _rank(each, mail))
    feedback = chosen.feedback
    return Attributed(
        owner_id=chosen.owner_id,
        delegate_id=chosen.delegate_id,
        grant_id=chosen.grant_id,
        owner_view=feedback.owner_view if _hears(feedback.owner_events, kind) else None,
        delegate_view=View.full if _hears(feedback.delegate_events, kind) else None,
        gone_since=chosen.verified_at if source.source == "broker_topic" and _after_end(chosen, mail) else None,
        counted=kind in COUNTED and chosen.ended_at is None,
    )


def _hears(kinds: Sequence[FeedbackKind], kind: FeedbackKind | None) -> bool:
    """What nobody could agree on because nobody knows it is for each party that hears anything."""
    return bool(kinds) if kind is None else kind in kinds


def _of_no_grant(source: Source, standing: Standing, mail: Mail) -> Attribution:
    if _is_delegates(source):
        return Quarantined(Reason.no_grant)
    if mail.sending_account != _account(mail.source_arn or ""):
        return Dropped()
    if standing.own_mail_of != source.tenant_id:
        return Dropped(own=True)
    return Attributed(owner_id=source.tenant_id, owner_view=View.full)


def _is_delegates(source: Source) -> bool:
    return source.configuration_set is not None


def _distrust(source: Source, mail: Mail) -> Reason | None:
    if mail.source_arn is None or mail.sending_account is None:
        return Reason.no_sender
    if not _is_delegates(source):
        return None if _account(mail.source_arn) in source.accounts else Reason.foreign_identity
    # Its owner can publish anything to it, so it is believed about itself only.
    if mail.sending_account != _account(source.topic_arn):
        return Reason.foreign_account
    return None if mail.configuration_set == source.configuration_set else Reason.foreign_set


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


def _of_one(fitting: Sequence[Candidate], mail: Mail) -> Sequence[Candidate]:
    """The grants of whoever had the sending account then.

    An account changes hands when another tenant proves it after a grant has ended. What the new one sends is never
    the business of the former, whatever the From address says.
    """
    if len({each.delegate_id for each in fitting}) == 1:
        return fitting
    holder = max(fitting, key=lambda each: (_in_force(each, mail.sent_at), each.activated_at, each.grant_id))
    return [each for each in fitting if each.delegate_id == holder.delegate_id]


def _rank(candidate: Candidate, mail: Mail) -> tuple[bool, bool, bool, datetime, UUID]:
    """How well its terms fit the mail; SES lets nothing through that fits none, so the From address says most."""
    return (
        _allows_from(candidate, mail.from_address),
        not _after_end(candidate, mail),
        _in_force(candidate, mail.sent_at),
        candidate.activated_at,
        candidate.grant_id,
    )


def _allows_from(candidate: Candidate, address: str | None) -> bool:
    """Without regard to case: two grants that differ in nothing else are not worth a wrong answer."""
    if not candidate.from_addresses or address is None:
        return True
    return any(matches(pattern.lower(), address.lower(), None) for pattern in candidate.from_addresses)


def _in_force(candidate: Candidate, at: datetime) -> bool:
    began = max(candidate.not_before or candidate.activated_at, candidate.activated_at - BEFORE_ACTIVATION)
    ends = [end for end in (candidate.ended_at, candidate.expires_at) if end is not None]
    return began <= at and all(at <= end for end in ends) and not _suspended(candidate, at)


def _suspended(candidate: Candidate, at: datetime) -> bool:
    """Whether it was taken back then, and for so long that nothing should get through.

    From when it was asked for, not from the read that proves it, which is forgotten when the grant is resumed: of mail
    sent in between, which another grant allowed as well, the breaker of that one must not be blind.
    """
    began, resumed = candidate.suspended_at, candidate.resumed_at
    if began is None or at <= began + AFTER_REMOVAL:
        return False
    return resumed is None or resumed < began or at < resumed


def _after_end(candidate: Candidate, mail: Mail) -> bool:
    if candidate.ended_at is None or candidate.verified_at is None:
        return False
    return mail.sent_at > candidate.verified_at + AFTER_REMOVAL


def _account(arn: str) -> str:
    """The account in any ARN, empty where there is none."""
    return (arn.split(":", 5) + [""] * 5)[4]
