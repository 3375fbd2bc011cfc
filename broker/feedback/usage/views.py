"""What the API answers about a grant's mail."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.feedback.breaker import Figure, State


class GrantUsageDay(msgspec.Struct, frozen=True, kw_only=True):
    """Events by the UTC day on which they happened. Only those that you hear by the terms.

    `counts` are by type of event, and by part: `bounced.hard`, `bounced.soft`, `bounced.suppressed` (not tried, since
    the address was on a suppression list), and `complained.counted` (a guess at several recipients counts once).
    """

    day: date
    counts: Annotated[
        Mapping[str, int], Meta(examples=[{"email.delivered": 1800, "email.bounced": 12, "bounced.hard": 9}])
    ]


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """What the last 24 hours come to, as the broker counts, and what the terms make of it.

    `off`: the grant is not in force. `unmeasured`: nobody tells of sends or deliveries, so there are no rates, and
    `reason` says why. `warned` and `tripped`: for both parties the same. `since`: what happened before does not count
    any more.
    """

    state: State
    reason: Annotated[str | None, Meta(description="Why nothing is measured", examples=[None])]
    figures: Sequence[Figure]
    since: datetime
    changed_at: datetime | None


class GrantUsage(msgspec.Struct, frozen=True, kw_only=True):
    """All days from `first` to `last` on which there was anything, oldest first."""

    grant_id: UUID
    first: date
    last: date
    days: Sequence[GrantUsageDay]
    breaker: Breaker
