"""How many requests without a valid key one client address may make: buckets of this process."""

import math
from collections import OrderedDict
from datetime import timedelta

from broker.errors import TooManyRequests
from broker.rates import WINDOW
from broker.tenants.guesses import network

MOST_KEPT = 10_000  # addresses; the one that was away for longest goes


class Visits:
    """Ten seconds' worth passes at once, and then `per_second`; 0 is no limit. What is refused takes nothing."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._quota = max(1.0, per_second * WINDOW)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, *, now: float) -> TooManyRequests | None:
        """One request from here; the refusal when nothing is left. `now` in seconds that only go forward."""
        if not self._per_second:
            return None
        host = network(client)
        left, at = self._buckets.get(host, (self._quota, now))
        left = min(self._quota, left + (now - at) * self._per_second)
        self._keep(host, left - 1 if left >= 1 else left, now)
        return None if left >= 1 else self._refusal((1 - left) / self._per_second)

    def _keep(self, host: str, left: float, now: float) -> None:
        self._buckets[host] = left, now
        self._buckets.move_to_end(host)
        if len(self._buckets) > MOST_KEPT:
            self._buckets.popitem(last=False)

    def _refusal(self, wait: float) -> TooManyRequests:
        seconds = max(1, math.ceil(wait))
        return TooManyRequests(
            f"One address may make {math.floor(self._quota)} requests without a valid API key in"
            f" {math.ceil(self._quota / self._per_second)} seconds; try again in {seconds} seconds, or send a key:"
            " Authorization: Bearer sdb_…",
            retry_after=timedelta(seconds=seconds),
        )
