"""Calls of SES's slow kinds take turns within a process, so that an account's routes do not run into its limit."""

import asyncio
from contextvars import ContextVar
from datetime import timedelta

from broker.errors import Unavailable

LONGEST_TURN = 3.0  # seconds that a call waits; who is further back is told to come back, as SES would tell it
IN_ALL = 20.0  # seconds that the calls of one task wait together: well below the lease of what it works on
_MARGIN = 1.05  # what follows a call on its way may catch up with it a little
_MOST_KEPT = 10_000

Kind = tuple[str, str, str]  # account, Region, operation

_WAITED: ContextVar[float] = ContextVar("waited", default=0.0)


def takes_turns(service: str, operation: str) -> bool:
    """Whether a call is one about notifications (version 1 of the API) or configuration sets.

    SES takes about one a second of each operation, account and Region (SES API References, throttling). Of policies it
    takes no more; but those who take access back wait for nobody: SES itself says whether a call comes too soon.
    """
    return service == "ses" or (service == "sesv2" and "configuration_set" in operation)


class Turns:
    """One bucket for each kind of call, which holds one call and fills `rate` times a second; 0: no limit.

    Of this process alone: what several of them ask too soon SES refuses, and it is tried again as before.
    """

    def __init__(self, rate: float, *, in_all: float = IN_ALL) -> None:
        self._in_all = in_all
        self._apart = _MARGIN / rate if rate else 0.0
        self._next: dict[Kind, float] = {}

    async def take(self, account_id: str, region: str, operation: str) -> None:
        """Returns when it is this call's turn, the first one's at once; `Unavailable` where too many are before it."""
        if not self._apart:
            return
        wait = self.reserve((account_id, region, operation), asyncio.get_running_loop().time())
        if wait and (waited := _WAITED.get() + wait) <= self._in_all:
            _WAITED.set(waited)
            await asyncio.sleep(wait)

    def reserve(self, kind: Kind, now: float) -> float:
        """For how many seconds the next call of a kind has to wait; its turn is taken then."""
        wait = max(self._next.get(kind, now) - now, 0.0)
        if wait > LONGEST_TURN:
            retry = timedelta(seconds=wait)
            raise Unavailable(
                f"Too many {kind[2]} calls of one account wait for their turn with SES.", retry_after=retry
            )
        if len(self._next) >= _MOST_KEPT:
            self._next = {each: at for each, at in self._next.items() if at > now}
        self._next[kind] = now + wait + self._apart
        return wait
