"""What a check of a role makes of its connection: a table over what was found. Pure."""

from datetime import timedelta
from enum import StrEnum

import msgspec

from broker.connections.models import State
from broker.due import back_off

CHECK_EVERY = timedelta(minutes=15)
PATIENCE = 11
"""Tries in a row before a role that cannot be assumed is given up: about two minutes with the pauses below."""

_PAUSE, _LONGEST_PAUSE = timedelta(seconds=1), timedelta(seconds=15)


class Finding(StrEnum):
    """The outcome of one check."""

    GOOD = "good"
    NOT_ASSUMABLE = "not_assumable"
    WITHOUT_EXTERNAL_ID = "without_external_id"
    ANY_EXTERNAL_ID = "any_external_id"
    OTHER_ACCOUNT = "other_account"
    LACKS_RIGHTS = "lacks_rights"
    UNREACHABLE = "unreachable"
    BOUND_ELSEWHERE = "bound_elsewhere"


class Verdict(msgspec.Struct, frozen=True):
    """The connection's next state; due again after `again_in` (None: not by itself); `failed` counts the try."""

    state: State
    reason: str | None
    again_in: timedelta | None
    failed: bool = False


# A new role can be assumed only after a while, and a change of its policy takes as long: these are tried again first.
_MAY_PASS = {
    Finding.NOT_ASSUMABLE: "The role cannot be assumed with its ExternalId (not created yet, or its trust differs): {}",
    Finding.LACKS_RIGHTS: "The role lacks rights that the broker needs: {}",
}
_SETTLED = {
    Finding.WITHOUT_EXTERNAL_ID: (
        "The role can be assumed without an ExternalId; its trust policy must demand ours, with StringEquals."
    ),
    Finding.ANY_EXTERNAL_ID: (
        "The role can be assumed with another ExternalId; its trust policy must demand ours, with StringEquals."
    ),
    Finding.OTHER_ACCOUNT: "The role belongs to another account than the one that was claimed; make it there.",
    Finding.BOUND_ELSEWHERE: (
        "This account is already bound to another tenant. If it is yours, ask the operator of the broker to release it."
    ),
}


def judge(finding: Finding, text: str, *, state: State, was_verified: bool, attempts: int) -> Verdict:
    """`text` is what AWS said; `attempts` counts tries since the last one that settled something.

    A connection that was verified before degrades and is looked at again for ever; a new one is given up until its
    owner asks again.
    """
    if finding is Finding.GOOD:
        return Verdict(State.VERIFIED, None, CHECK_EVERY)
    if finding is Finding.UNREACHABLE:
        # Our own or AWS's trouble says nothing about the role.
        return Verdict(state, None if state is State.VERIFIED else text, _pause(attempts), failed=True)
    again = CHECK_EVERY if was_verified else None
    if finding in _SETTLED:
        is_worse = not was_verified or finding is Finding.BOUND_ELSEWHERE
        return Verdict(State.LOST if is_worse else State.DEGRADED, _SETTLED[finding], again)
    reason = _MAY_PASS[finding].format(text)
    if not _given_up(finding, state, attempts):
        return Verdict(State.DEGRADED if was_verified else State.PENDING, reason, _pause(attempts), failed=True)
    # A role that lacks one right can still take policies away: that is not lost.
    still_of_use = was_verified and finding is Finding.LACKS_RIGHTS
    return Verdict(State.DEGRADED if still_of_use else State.LOST, reason, again)


def _given_up(finding: Finding, state: State, attempts: int) -> bool:
    """What was given up before is tried once at each check, so that its state does not flap."""
    known = state is State.LOST or (state is State.DEGRADED and finding is Finding.LACKS_RIGHTS and attempts == 1)
    return known or attempts >= PATIENCE


def _pause(attempts: int) -> timedelta:
    return back_off(max(attempts, 1), first=_PAUSE, most=_LONGEST_PAUSE)
