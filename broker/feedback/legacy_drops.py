"""Old notifications that SES dropped since the last look: told before they are put back, or said to be gone. Pure.

SES drops a topic that it could not publish to (SES Developer Guide, configure-sns-notifications), and lets nobody
create new cross-account notifications: whether it takes a dropped one again is not documented, so it is tried once.
"""

from collections.abc import Mapping

import msgspec

from broker.feedback.handling import Checked, RouteWork
from broker.feedback.legacy_terms import NO_NEW
from broker.feedback.notification_settings import Slot, listed
from broker.feedback.slots import KINDS
from broker.feedback.views import RouteState

Held = Mapping[str, Mapping[str, Slot]]
"""Existing notifications by account and kind."""

DROPPED = (
    "SES no longer sends the {kinds} notifications of {identity} to the delegate's topic: it drops a topic that it "
    "could not publish to, or somebody removed it. It is tried to set them again."
)
GONE = f"SES dropped the {{kinds}} notifications and does not take them again. {NO_NEW}"
ADMIT = "The delegate lets ses.amazonaws.com publish to its topics (sns:Publish) on behalf of its account."
MIGRATE = "The delegate moves them to a route through the broker: POST /v1/routes/{id}/migrate."


def held_before(work: RouteWork) -> dict[str, dict[str, Slot]]:
    """As the last look found them."""
    found = work.found.get("notifications", {})
    return {
        account: {kind: msgspec.convert(slot, Slot) for kind, slot in kinds.items()}
        for account, kinds in found.items()
        if account not in KINDS  # noted before accounts were told apart
    }


def dropped(work: RouteWork, there: Held) -> Checked | None:
    """What is to be told first; None where nothing is gone, or that was told already."""
    lost = _lost(work, there)
    if not lost or "lost" in work.found:
        return None
    kinds = tuple(kind for kind in KINDS if any(kind in each for each in lost.values()))
    found = dict(work.found) | {"lost": {account: sorted(each) for account, each in lost.items()}}
    return Checked(
        state=RouteState.broken,
        reason=DROPPED.format(kinds=listed(kinds), identity=work.identity),
        choices=(ADMIT, MIGRATE.format(id=work.id)),
        found=found,
        unfinished=True,
    )


def to_repair(work: RouteWork, there: Held) -> list[tuple[str, str, Slot]]:
    """Account, kind and how it was, of what was told to be dropped."""
    if "lost" not in work.found:
        return []
    return [(account, kind, slot) for account, kinds in _lost(work, there).items() for kind, slot in kinds.items()]


def gone_for_good(work: RouteWork, checked: Checked, there: Held) -> Checked:
    """What is left goes on; both parties read what is not, until it is there again."""
    lost = _lost(work, there) if "lost" in work.found else {}
    known = {account: set(kinds) for account, kinds in work.found.get("gone", {}).items()}
    gone = {
        account: sorted((known.get(account, set()) | lost.get(account, {}).keys()) - slots.keys())
        for account, slots in there.items()
    }
    gone = {account: kinds for account, kinds in gone.items() if kinds}
    if not gone:
        return checked
    kinds = tuple(kind for kind in KINDS if any(kind in each for each in gone.values()))
    reason = " ".join(filter(None, (checked.reason, GONE.format(kinds=listed(kinds)))))
    choices = (*checked.choices, MIGRATE.format(id=work.id))
    found = dict(checked.found or {}) | {"gone": gone}
    return msgspec.structs.replace(checked, reason=reason, choices=choices, found=found)


def _lost(work: RouteWork, there: Held) -> dict[str, dict[str, Slot]]:
    """In accounts that were looked in."""
    gone = {
        account: {kind: slot for kind, slot in kinds.items() if kind not in there[account]}
        for account, kinds in held_before(work).items()
        if account in there
    }
    return {account: kinds for account, kinds in gone.items() if kinds}
