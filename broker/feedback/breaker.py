"""The breaker: what a grant's last 24 hours come to, and whether it warns or suspends. Rules only.

Events of a tenant's own topic may be forged by that tenant, so they can only make the breaker stricter. Rates are taken
twice, and the stricter one counts: of what the broker's topics told alone, whatever a tenant's topic said before or
besides; and of all that the parties heard, each occurrence once, whoever told of it first. The second says all there is
where topics of the broker's tell of nothing or of a part, and the same as the first where they tell of everything.

Bounces are only ever taken of mail that was told of. Where nothing tells of sends or deliveries, they say nothing.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from fractions import Fraction

import msgspec

from broker.policies.terms import BOUNCE_RATE, COMPLAINT_RATE, MINIMUM_SENDS, Limits

WINDOW = timedelta(hours=24)
WARN_AT = {"bounces": Fraction(2, 5), "complaints": Fraction(1, 2), "sends": Fraction(4, 5)}
"""Shares of what suspends: 2 % of 5 % and 0.05 % of 0.1 %."""

MINIMUM_COMPLAINTS = 3
CALM_BELOW = Fraction(4, 5)
"""Of what warns: nobody is warned twice while a figure moves up and down around it."""


class State(StrEnum):
    """`off`: the grant is not in force; `unmeasured`: nobody tells of its mail; `tripped`: it was suspended."""

    OFF = "off"
    UNMEASURED = "unmeasured"
    OK = "ok"
    WARNED = "warned"
    TRIPPED = "tripped"


class Counts(msgspec.Struct, frozen=True):
    """Events of one grant within the window. `bounced` are final ones of mail that SES did try to deliver.

    `complained`: a complaint that SES guessed to be of several recipients counts once.
    """

    sent: int = 0
    delivered: int = 0
    bounced: int = 0
    complained: int = 0


class Deliveries(StrEnum):
    """Who is told of an identity's deliveries: the broker's topic, one of the owner's that it hears, or neither."""

    BROKERS = "brokers"
    OWNERS = "owners"
    UNHEARD = "unheard"


class Window(msgspec.Struct, frozen=True):
    """The last 24 hours: as the broker's topics told, and as the parties heard from whoever told of a thing first.

    `deliveries`: where these are heard, a window of bounces alone means that nothing was delivered. Whoever tells of
    sends tells of those of mail that bounced as well.
    """

    vouched: Counts = Counts()
    heard: Counts = Counts()
    deliveries: Deliveries = Deliveries.BROKERS


class Figure(msgspec.Struct, frozen=True):
    """One measured rate, or the number of sends (`of` None, and `rate` equal to `count`); fractions, not per cent.

    `enough`: there were as many sends and complaints as it takes to say anything.
    """

    name: str
    count: int
    of: int | None
    rate: float
    warn_at: float
    suspend_at: float
    enough: bool


class Verdict(msgspec.Struct, frozen=True):
    """What the breaker says; `why` are the figures that are over what warns or, when it tripped, suspends."""

    state: State
    figures: tuple[Figure, ...]
    why: tuple[Figure, ...] = ()


def judge(window: Window, limits: Limits, *, before: State = State.OK) -> Verdict:
    """The state that follows `before`. A breaker that tripped stays so: the owner resumes the grant."""
    found = tuple(_figures(window, limits))
    over = [each for each in found if _reaches(each, Fraction(1))]
    if before is State.TRIPPED or over:
        return _verdict(State.TRIPPED, found, over)
    warned = [each for each in found if _reaches(each, WARN_AT[each.name])]
    if not warned and before is State.WARNED:
        minimum = _minimum(limits) * CALM_BELOW
        warned = [each for each in found if _lingers(each, minimum)]
    if warned:
        return _verdict(State.WARNED, found, warned)
    return _verdict(State.OK if any(each.of for each in found) else State.UNMEASURED, found, ())


def _verdict(state: State, found: Sequence[Figure], over: Sequence[Figure]) -> Verdict:
    """Of two figures of a name the stricter one is told."""
    strictest = {
        each.name: each for each in sorted(found, key=lambda each: (each in over, each.enough, each.rate, each.of or 0))
    }
    told = tuple(strictest[name] for name in dict.fromkeys(each.name for each in found))
    return Verdict(state, told, tuple(each for each in told if each in over))


def mail_of(counts: Counts, *, partly: bool = False) -> tuple[int, int] | None:
    """Of how many sends bounce and complaint rates are taken, None: nothing was measured.

    `sent` where there are any; else what was delivered, for bounces with the bounces, also where nothing was delivered
    at all. Complaints are taken of delivered mail alone (0: they have no rate): who writes to many dead addresses must
    not look better to those who complain. `partly`: one route may
    tell of the sends of a part of the mail, and another of what became of all of it, so what arrived is a lower bound.
    """
    if not (counts.sent or counts.delivered or counts.bounced):
        return None
    if counts.sent and not partly:
        return counts.sent, counts.sent
    return max(counts.sent, counts.delivered + counts.bounced), max(counts.sent, counts.delivered)


def why_unmeasured(window: Window) -> str:
    """For both parties. Of a verdict that is `unmeasured`."""
    if window.deliveries is not Deliveries.UNHEARD:
        return NO_MAIL
    return NOTHING_TO_MEASURE_BY if all_heard(window).bounced else f"{NO_MAIL} {NOT_TOLD}"


NO_MAIL = "Nothing was told of the grant's mail in the last 24 hours."
NOT_TOLD = "The identity's delivery notifications do not come to the broker, and no route tells it of sends."
NOTHING_TO_MEASURE_BY = (
    f"{NOT_TOLD} So bounces cannot be set against the mail that was sent, and the breaker is off. The owner clears the "
    "delivery setting in SES or lets the broker hear its topic, or the delegate makes a route of the kind "
    "configuration_set."
)


def sends_of(window: Window) -> int:
    """How many sends there were at least, by what tells of the most."""
    return max(max(each.sent, each.delivered + each.bounced) for each in (window.vouched, window.heard))


def all_heard(window: Window) -> Counts:
    """What was heard, and at least what the broker's topics told of it, whatever the parties heard of that instead."""
    vouched, heard = window.vouched, window.heard
    bounced, complained = max(vouched.bounced, heard.bounced), max(vouched.complained, heard.complained)
    return Counts(heard.sent, heard.delivered, bounced, complained)


def _figures(window: Window, limits: Limits) -> Iterator[Figure]:
    for counts, partly in _sides(window):
        mail = mail_of(counts, partly=partly)
        if mail is not None:
            enough = mail[0] >= _minimum(limits)
            yield _figure("bounces", counts.bounced, mail[0], limits.bounce_rate or BOUNCE_RATE, enough=enough)
            if mail[1]:
                enough = enough and counts.complained >= MINIMUM_COMPLAINTS
                rate = limits.complaint_rate or COMPLAINT_RATE
                yield _figure("complaints", counts.complained, mail[1], rate, enough=enough)
    if limits.sends_per_day is not None:
        yield _figure("sends", sends_of(window), None, limits.sends_per_day, enough=True)


def _sides(window: Window) -> Iterator[tuple[Counts, bool]]:
    """What rates are taken of, and whether that may tell of the sends of a part of the mail.

    Bounces of mail that nobody could have told of are left out: they would be taken of themselves. So are those that
    the parties hear without the mail, where topics of the broker's told of it.
    """
    if _tells_of_mail(window.vouched) or window.deliveries is Deliveries.BROKERS:
        yield window.vouched, False
    silent = not _tells_of_mail(window.vouched) and window.deliveries is not Deliveries.UNHEARD
    if _tells_of_mail(window.heard) or silent:
        yield all_heard(window), True


def _tells_of_mail(counts: Counts) -> bool:
    return bool(counts.sent or counts.delivered)


def _figure(name: str, count: int, of: int | None, suspend_at: float, *, enough: bool) -> Figure:
    return Figure(
        name=name,
        count=count,
        of=of,
        rate=count if of is None else count / of,
        warn_at=float(_exact(suspend_at) * WARN_AT[name]),
        suspend_at=suspend_at,
        enough=enough,
    )


def _reaches(figure: Figure, share: Fraction) -> bool:
    return figure.enough and _is_at(figure, share)


def _lingers(figure: Figure, minimum: Fraction) -> bool:
    if figure.name == "complaints" and figure.count < MINIMUM_COMPLAINTS:
        return False
    return (figure.of is None or figure.of >= minimum) and _is_at(figure, WARN_AT[figure.name] * CALM_BELOW)


def _is_at(figure: Figure, share: Fraction) -> bool:
    """Whether the figure has reached this share of what suspends; exact, as the terms write it."""
    return figure.count >= _exact(figure.suspend_at) * share * (figure.of or 1)


def _exact(number: float) -> Fraction:
    return Fraction(str(number))


def _minimum(limits: Limits) -> int:
    return limits.minimum_sends or MINIMUM_SENDS
