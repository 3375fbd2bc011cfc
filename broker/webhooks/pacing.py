"""How fast one endpoint is sent to: a window that learns, a pause while it fails, a limit of its own. Pure."""

import msgspec

FIRST_WINDOW = 4
WIDEST_WINDOW = 64
PATIENCE = 4
LONGEST_PAUSE = 60.0  # seconds


class Pace(msgspec.Struct, frozen=True):
    """How many attempts may be under way at once, and how many have failed in a row."""

    window: int = FIRST_WINDOW
    failures: int = 0

    @property
    def failing(self) -> bool:
        """It is asked by one attempt at a time now, and not at the expense of the others."""
        return self.failures >= PATIENCE


def learn(pace: Pace, *, delivered: bool) -> Pace:
    """One wider with every success, half as wide with every failure."""
    if delivered:
        widest = pace.window == WIDEST_WINDOW and not pace.failures
        return pace if widest else Pace(min(pace.window + 1, WIDEST_WINDOW), 0)
    return Pace(max(pace.window // 2, 1), pace.failures + 1)


def pause_after(pace: Pace) -> float:
    """Seconds to leave a failing endpoint alone before the next probe: 1, 2, 4 … 60; 0 while it does not fail."""
    if not pace.failing:
        return 0.0
    return min(2.0 ** min(pace.failures - PATIENCE, 10), LONGEST_PAUSE)


class Bucket:
    """At most `rate` a second, evenly: what was not used within a tenth of a second is lost."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._depth = max(1.0, rate / 10)
        self._tokens = self._depth
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until one more may go, 0 for now; `now` in seconds of any clock that never goes back."""
        self._tokens = min(self._depth, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return max(0.0, (1.0 - self._tokens) / self.rate)

    def is_full(self, now: float) -> bool:
        """Whether a new one would allow no more than this one."""
        return self._tokens + (now - self._at) * self.rate >= self._depth

    def take(self) -> None:
        """One goes, right after `wait` said 0."""
        self._tokens -= 1.0
