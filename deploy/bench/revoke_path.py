"""How long a revoke took to its Deny and to its end, read from the local AWS's log of calls. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

REMOVAL = "DeleteEmailIdentityPolicy"
DENY = "CreateEmailIdentityPolicy"  # the one thing that a revoke creates


class Call(msgspec.Struct, frozen=True):
    """One line of the log: when it came, when it had taken effect, whose account it was in, what it named."""

    at: datetime
    ended_at: datetime
    account_id: str
    operation: str
    about: str
    status: int


class Way(msgspec.Struct, frozen=True):
    """One revoke: committed, the Deny there, the last Allow gone, and the AWS calls that the Deny had to wait for."""

    committed_at: datetime
    denied_at: datetime
    gone_at: datetime
    calls: int
    refused: int = 0

    @property
    def ms(self) -> float:
        """From the commit until no Allow was left."""
        return (self.gone_at - self.committed_at).total_seconds() * 1000

    @property
    def deny_ms(self) -> float:
        """From the commit until the Deny was there."""
        return (self.denied_at - self.committed_at).total_seconds() * 1000


def way_of(account_id: str, committed_at: datetime, log: Iterable[Call]) -> Way | None:
    """The way of the one revoke in this owner's account; None while SES holds the Allow, or no Deny yet.

    Its calls are those in the account and the sessions opened for its role, from the commit until the Deny was there.
    """
    role = f"arn:aws:iam::{account_id}:role/"
    mine = [
        call
        for call in log
        if call.at >= committed_at and (call.account_id == account_id or call.about.startswith(role))
    ]
    gone_at = max((each.ended_at for each in mine if each.operation == REMOVAL and each.status == 200), default=None)
    denied_at = min((each.ended_at for each in mine if each.operation == DENY and each.status == 200), default=None)
    if gone_at is None or denied_at is None:
        return None
    # What ran side by side with the Deny is not what it waited for.
    on_way = [each for each in mine if each.ended_at <= denied_at]
    refused = sum(each.status >= 400 for each in mine if each.ended_at <= max(gone_at, denied_at))
    return Way(committed_at, denied_at, gone_at, calls=in_sequence(on_way), refused=refused)


def in_sequence(calls: Sequence[Call]) -> int:
    """How many of the calls waited for each other: those that ran side by side count once."""
    number, ended = 0, None
    for call in sorted(calls, key=lambda each: each.at):
        if ended is None or call.at >= ended:
            number, ended = number + 1, call.ended_at
    return number


def over_aws_ms(ways: Iterable[Way], *, call_ms: float) -> list[float]:
    """What of each way to the Deny was not the calls' own time."""
    return [way.deny_ms - way.calls * call_ms for way in ways]
