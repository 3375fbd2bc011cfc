"""The breaker: what a grant's last 24 hours come to, and whether it warns or suspends. Rules only.

Events of a tenant's own topic may be forged by that tenant, so they can only make the breaker stricter: their bounces
and complaints count like any other, while mail that only they tell of is never set against what the broker's topics
told. Where those told of no mail at all, nothing would be measured; then, and only then, theirs is what rates are taken
of.
"""

from collections.abc import Iterator
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
    """`off`: the grant is not in force; `unmeasured`: nobody told how much was sent; `tripped`: it was suspended."""

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


class Window(msgspec.Struct, frozen=True):
    """The last 24 hours by who told of them: the broker's topics, or topics of the tenants' own."""

    vouched: Counts = Counts()
    told: Counts = Counts()


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
    over = tuple(each for each in found if _reaches(each, Fraction(1)))
    if before is State.TRIPPED or over:
        return Verdict(State.TRIPPED, found, over)
    warned = tuple(each for each in found if _reaches(each, WARN_AT[each.name]))
    if not warned and before is State.WARNED:
        minimum = _minimum(limits) * CALM_BELOW
        warned = tuple(each for each in found if _lingers(each, minimum))
    if warned:
        return Verdict(State.WARNED, found, warned)
    return Verdict(State.OK if any(each.of for each in found) else State.UNMEASURED, found)


def mail_of(window: Window) -> tuple[int, int] | None:
    """Of how many sends bounce and complaint rates are taken, None: nothing was measured.

    `sent` where there are any; else what was delivered, for bounces with the bounces. Complaints are taken of delivered
    mail alone: who writes to many dead addresses must not look better to those who complain.
    """
    bounced = window.vouched.bounced + window.told.bounced
    for counts in (window.vouched, window.told):
        if counts.sent:
            return counts.sent, counts.sent
        if counts.delivered:
            return counts.delivered + bounced, counts.delivered
    return None


def sends_of(window: Window) -> int:
    """How many sends there were at least, by whoever told of the most."""
    one, other = window.vouched, window.told
    arrived = one.delivered + one.bounced + other.delivered + other.bounced
    return max(one.sent + other.sent, arrived)


def _figures(window: Window, limits: Limits) -> Iterator[Figure]:
    mail = mail_of(window)
    if mail is not None:
        bounced = window.vouched.bounced + window.told.bounced
        complained = window.vouched.complained + window.told.complained
        enough = mail[0] >= _minimum(limits)
        yield _figure("bounces", bounced, mail[0], limits.bounce_rate or BOUNCE_RATE, enough=enough)
        enough = enough and complained >= MINIMUM_COMPLAINTS
        yield _figure("complaints", complained, mail[1], limits.complaint_rate or COMPLAINT_RATE, enough=enough)
    if limits.sends_per_day is not None:
        yield _figure("sends", sends_of(window), None, limits.sends_per_day, enough=True)


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
