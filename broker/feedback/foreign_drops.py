"""What SES undid of a `foreign_topic` since the last look: slots that are empty, e-mail that goes out again. Pure.

SES drops a topic that it could not publish to, and then sends feedback by e-mail (SES Developer Guide,
configure-sns-notifications).
"""

from broker.feedback import slots
from broker.feedback.foreign_rules import ADMIT, REMOVE, Case, Look, named
from broker.feedback.foreign_terms import Forwarding
from broker.feedback.handling import Checked
from broker.feedback.holders import Holder
from broker.feedback.notification_settings import listed
from broker.feedback.views import RouteState

BY_MAIL_AGAIN = (
    "SES sends the bounces and complaints of {identities} by e-mail again, which had been switched off: SES does so "
    "when it drops a topic, or somebody did. It is being switched off again."
)


def dropped(case: Case, look: Look) -> Checked | None:
    """To be told before it is put right: a crash in between would leave nothing to tell of. None: nothing new."""
    work, lost, noisy = case.work, _lost(case, look), _noisy(case, look)
    if "lost" in work.found or not (lost or noisy):
        return None
    return Checked(
        state=RouteState.broken,
        reason=slots.why_lost(lost, work.identity, whose="the delegate's") if lost else _by_mail(noisy, work.identity),
        choices=named(work, ADMIT, REMOVE),
        found=dict(work.found) | {"lost": lost, "by_mail_again": list(noisy)},
        unfinished=True,
    )


def _lost(case: Case, look: Look) -> dict[str, tuple[str, ...]]:
    """By identity the slots that held our topic at the last look and hold nothing now."""
    before = case.work.found.get("identities", {})
    gone = {
        name: tuple(
            kind
            for kind, who in before.get(name, {}).items()
            if who == Holder.THIS_ROUTE and kind in case.asked.wanted and not now.topic(kind)
            if kind not in case.away(name)
        )
        for name, now in look.items()
    }
    return {name: kinds for name, kinds in gone.items() if kinds}


def _noisy(case: Case, look: Look) -> tuple[str, ...]:
    """Where forwarding by e-mail was off at the last look, as it was asked for, and is on again."""
    silent = case.work.found.get("silent", ()) if case.asked.forwarding is Forwarding.OFF else ()
    return tuple(name for name in silent if name in look and look[name].forwarding)


def _by_mail(names: tuple[str, ...], identity: str) -> str:
    """Both parties read it: the names of the owner's others are for the owner."""
    others = len(set(names) - {identity})
    whose = (identity,) * (identity in names) + (slots.beneath(others, identity),) * bool(others)
    return BY_MAIL_AGAIN.format(identities=listed(whose))
