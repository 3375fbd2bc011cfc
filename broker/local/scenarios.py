"""The stories that `broker trigger` can tell: which SES events, about which mail, in which order. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

import msgspec

from broker.feedback.events import EVENT_TYPES
from broker.policies.terms import FeedbackKind

# All that an identity's topic ever gets (SES Developer Guide, notification-contents).
ON_IDENTITY_TOPICS = frozenset({FeedbackKind.bounce, FeedbackKind.complaint, FeedbackKind.delivery})
# SES does not say whose they are when a message had several recipients: one event for all of them.
_OF_THE_MAIL = frozenset({FeedbackKind.open, FeedbackKind.click, FeedbackKind.subscription})
_AT_SIMULATOR: Mapping[FeedbackKind, str] = MappingProxyType(
    {FeedbackKind.bounce: "bounce", FeedbackKind.complaint: "complaint"}
)
USUAL_BURST = 50


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One SES event. `mail` numbers the mails of a story. The mail was sent `sent_ago`, the rest happened `ago`.

    `stands_in`: in the shape of event publishing, on the identity's topic. `copies` of the same SNS message come.
    """

    kind: FeedbackKind
    recipients: Sequence[str]
    mail: int = 0
    cause: str = "General"
    sent_ago: timedelta = timedelta()
    ago: timedelta = timedelta()
    stands_in: bool = False
    copies: int = 1

    @property
    def type(self) -> str:
        """Of its events."""
        return EVENT_TYPES[self.kind]

    def times(self, now: datetime, *, earliest: datetime) -> tuple[datetime, datetime]:
        """When the mail was sent and when this happened; not before ``earliest``, as a grant has no earlier mail."""
        sent_at = max(now - self.sent_ago, earliest)
        return sent_at, max(now - self.ago, sent_at)


Round = Sequence[Scene]
"""Scenes that are published at once; the next round waits until all of their events are there."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario. `compose` gets the recipients that were asked for (none: its own) and a count."""

    name: str
    summary: str
    compose: Callable[[Sequence[str], int], Sequence[Round]]
    counts_itself: bool = False


def expected(rounds: Sequence[Round]) -> Counter[tuple[int, str]]:
    """How many events of each (mail, type): what is told twice counts once."""
    facts = {
        (scene.mail, scene.type, recipient.lower())
        for scenes in rounds
        for scene in scenes
        for recipient in (("",) if scene.kind in _OF_THE_MAIL else scene.recipients)
    }
    return Counter((mail, kind) for mail, kind, _ in facts)


def repeats(rounds: Sequence[Round]) -> bool:
    """Whether anything is told more than once, so that more than what is expected could come."""
    scenes = [scene for scenes in rounds for scene in scenes]
    told = sum(scene.copies * (1 if scene.kind in _OF_THE_MAIL else len(scene.recipients)) for scene in scenes)
    return told > expected(rounds).total()


def _simulated(kind: FeedbackKind, label: str = "") -> str:
    """An address of the mailbox simulator."""
    name = _AT_SIMULATOR.get(kind, "success")
    return f"{name}+{label}@simulator.amazonses.com" if label else f"{name}@simulator.amazonses.com"


def _single(kind: FeedbackKind) -> Story:
    def compose(recipients: Sequence[str], _count: int) -> list[Round]:
        stands_in = kind not in ON_IDENTITY_TOPICS
        return [[Scene(kind=kind, recipients=recipients or [_simulated(kind)], stands_in=stands_in)]]

    own_topic = "" if kind in ON_IDENTITY_TOPICS else " (stands in for a configuration set)"
    return Story(name=EVENT_TYPES[kind], summary=f"{_SUMMARIES[kind]}{own_topic}", compose=compose)


_SUMMARIES: Mapping[FeedbackKind, str] = MappingProxyType(
    {
        FeedbackKind.bounce: "A hard bounce: there is no such user",
        FeedbackKind.complaint: "The recipient marked the mail as spam",
        FeedbackKind.delivery: "The recipient's mail server took the mail",
        FeedbackKind.delay: "SES could not connect to the recipient's mail server yet and tries again",
        FeedbackKind.send: "SES accepted the mail",
        FeedbackKind.reject: "SES found a virus and does not send the mail",
        FeedbackKind.open: "The recipient opened the mail",
        FeedbackKind.click: "The recipient followed a link",
        FeedbackKind.rendering_failure: "The template could not be filled in",
        FeedbackKind.subscription: "The recipient unsubscribed by the link in the header",
    }
)


def _bounce(cause: str) -> Callable[[Sequence[str], int], list[Round]]:
    def compose(recipients: Sequence[str], _count: int) -> list[Round]:
        to = recipients or [_simulated(FeedbackKind.bounce)]
        return [[Scene(kind=FeedbackKind.bounce, recipients=to, cause=cause)]]

    return compose


def _complaint_after_delivery(recipients: Sequence[str], _count: int) -> list[Round]:
    to, sent = recipients or [_simulated(FeedbackKind.complaint)], timedelta(days=2)
    delivered = Scene(kind=FeedbackKind.delivery, recipients=to, sent_ago=sent, ago=sent - timedelta(seconds=2))
    return [[delivered], [Scene(kind=FeedbackKind.complaint, recipients=to, sent_ago=sent)]]


def _out_of_order(recipients: Sequence[str], _count: int) -> list[Round]:
    to, sent = recipients or [_simulated(FeedbackKind.complaint)], timedelta(minutes=10)
    complained = Scene(kind=FeedbackKind.complaint, recipients=to, sent_ago=sent)
    delivered = Scene(kind=FeedbackKind.delivery, recipients=to, sent_ago=sent, ago=sent - timedelta(seconds=2))
    return [[complained], [delivered]]


def _duplicate(recipients: Sequence[str], _count: int) -> list[Round]:
    to = recipients or [_simulated(FeedbackKind.bounce)]
    return [[Scene(kind=FeedbackKind.bounce, recipients=to, copies=3)]]


def _both_paths(recipients: Sequence[str], _count: int) -> list[Round]:
    once = Scene(kind=FeedbackKind.bounce, recipients=recipients or [_simulated(FeedbackKind.bounce)])
    return [[once, msgspec.structs.replace(once, stands_in=True)]]


def _multi_recipient(recipients: Sequence[str], _count: int) -> list[Round]:
    to = recipients or [_simulated(FeedbackKind.bounce, label) for label in ("1", "2", "3")]
    return [[Scene(kind=FeedbackKind.bounce, recipients=to)]]


def _burst(recipients: Sequence[str], count: int) -> list[Round]:
    """Mostly deliveries, with one bounce in ten and one complaint in twenty."""
    scenes = []
    for number in range(count):
        kind = FeedbackKind.delivery
        if number % 10 == 5:
            kind = FeedbackKind.bounce
        elif number % 20 == 19:
            kind = FeedbackKind.complaint
        to = [recipients[number % len(recipients)]] if recipients else [_simulated(kind, str(number + 1))]
        scenes.append(Scene(kind=kind, recipients=to, mail=number))
    return [scenes]


_NAMED = (
    Story(
        name="soft-bounce", summary="A bounce that is not final: the mailbox is full", compose=_bounce("MailboxFull")
    ),
    Story(name="out-of-office", summary="An automatic reply, a transient bounce", compose=_bounce("OutOfOffice")),
    Story(name="suppressed", summary="SES did not send: the address bounced before", compose=_bounce("Suppressed")),
    Story(
        name="complaint-after-delivery",
        summary="Delivered, and two days later (or since the grant is active) marked as spam",
        compose=_complaint_after_delivery,
    ),
    Story(name="duplicate", summary="SNS brings the same bounce three times: one event", compose=_duplicate),
    Story(name="both-paths", summary="The same bounce in both of SES's shapes: one event", compose=_both_paths),
    Story(name="out-of-order", summary="The complaint comes before the delivery", compose=_out_of_order),
    Story(name="multi-recipient", summary="One bounce of three recipients: three events", compose=_multi_recipient),
    Story(
        name="burst",
        summary=f"--count mails at once (default {USUAL_BURST}): deliveries, bounces, complaints",
        compose=_burst,
        counts_itself=True,
    ),
)

STORIES: Mapping[str, Story] = MappingProxyType(
    {story.name: story for story in (*(_single(kind) for kind in _SUMMARIES), *_NAMED)}
)
