"""One lane in the hands of a pump: what waits for one endpoint, what is under way, and how far it was read."""

from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from broker.webhooks.attempt import Addressee
from broker.webhooks.holding import Held, Target
from broker.webhooks.pacing import Bucket, Pace
from broker.webhooks.pending import BEGINNING, PRIORITIES, Parcel, Position, Wish

SMALLEST_BATCH = 16
LARGEST_BATCH = 256
LEAST_SHARE = 10
"""Every tenth attempt is for the least urgent that waits, so that a stream of bounces does not stop the rest."""


class Lane:
    """Everything that is known of a lane while it is held. Times are those of the event loop, in seconds."""

    def __init__(self, held: Held, *, until: float, pace: Pace) -> None:
        """`until`: when the lease is over."""
        self.held = held
        self.until = until
        self.pace = pace
        self.to: Addressee | None = None
        self.stamp: int | None = None
        self.fresh_until = 0.0
        self.bucket: Bucket | None = None
        self.failing_for: timedelta | None = None
        self.not_before = 0.0
        self.stopped = False  # nothing more is to be begun: the receiver is gone, or wants to be left alone
        self.apart = pace.failing  # slow or failing: what it has under way does not count against its tenant's share
        self.alarmed = False  # it is looked at again when its wait is over
        self._more = [True] * PRIORITIES  # there may be more to read
        self._rung = False  # since the last reading began
        self.counted = 0  # under way, and counted in the shares
        self.unwritten = 0
        self.idle_since: float | None = None
        self.flying: dict[UUID, float] = {}  # by event: when the attempt began
        self._waiting: tuple[deque[Parcel], ...] = tuple(deque() for _ in range(PRIORITIES))
        self._read = [Position()] * PRIORITIES
        self._known: set[UUID] = set()
        self._written: list[UUID] = []
        self._popped = 0
        self._behind = False
        self._recalls = held.recalls
        self._valid_from = 0.0  # what was read before may tell of somebody who is to be forgotten

    @property
    def wants(self) -> bool:
        """Whether there may be more to read."""
        return any(self._more) and not self.stopped

    @property
    def waiting(self) -> int:
        """How many deliveries wait to be begun."""
        return sum(map(len, self._waiting))

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is under way, and there is nothing to be written."""
        return not (self.flying or self.unwritten or self.waiting)

    @property
    def batch(self) -> int:
        """How many deliveries to read at once; what is under way and unwritten counts, so that memory is bounded."""
        return max(SMALLEST_BATCH, min(self.pace.window * 4, LARGEST_BATCH))

    def aim(self, target: Target, to: Addressee, *, now: float) -> None:
        """Takes over where the lane leads now."""
        self.to = to
        self.stamp = target.stamp
        self.failing_for = target.failing_for
        self.fresh_until = now + (target.ends_in.total_seconds() if target.ends_in is not None else 3600.0)
        if target.rate_limit != (self.bucket and self.bucket.rate):
            self.bucket = Bucket(target.rate_limit) if target.rate_limit else None

    def needs_aim(self, now: float) -> bool:
        """Whether it has to be read anew where the lane leads."""
        return self.to is None or self.stamp is None or now >= self.fresh_until

    def wishes(self) -> list[Wish]:
        """What to read now, by priority; none while there is enough.

        Reading goes on where it ended, since all before that is known; it begins anew when nothing is known any more: a
        transaction that was committed late may have left something behind.
        """
        if self.idle:
            self._read = [Position()] * PRIORITIES
            if self._behind:
                self.rewind()
        if not self.wants or self.waiting + self.unwritten >= 2 * self.batch:
            return []
        wishes = [
            Wish(self.held.id, priority, self._read[priority], self.batch)
            for priority, waiting in enumerate(self._waiting)
            if self._more[priority] and len(waiting) <= self.batch // 2
        ]
        self._known.difference_update(self._written)
        self._written.clear()
        self._rung = False
        return wishes

    def receive(self, wishes: Sequence[Wish], parcels: Sequence[Parcel]) -> None:
        """Takes in what was read for its `wishes`.

        What is known already is left out: a snapshot may be older than the statement that finished a delivery.
        """
        if any(self._is_recalled(parcel) for parcel in parcels):
            self.rewind()
            return
        counts = [0] * PRIORITIES
        self._behind = self._behind or any(wish.after.next_at > BEGINNING for wish in wishes)
        for parcel in parcels:
            counts[parcel.priority] += 1
            self._read[parcel.priority] = parcel.position
            if parcel.event_id not in self._known:
                self._known.add(parcel.event_id)
                self._waiting[parcel.priority].append(parcel)
            if parcel.stamp != self.stamp:
                self.stamp = None
        for wish in wishes:
            self._more[wish.priority] = self._rung or counts[wish.priority] >= wish.room

    def rewind(self) -> None:
        """Reads from the beginning next time: what was committed late may lie before what was read."""
        self._read = [Position()] * PRIORITIES
        self._behind = False
        self.look_again()

    def heed(self, recalls: int, *, now: float) -> None:
        """Where it was recalled since, forgets what waits, and what is being read in this moment: it is read again."""
        if recalls != self._recalls:
            self._recalls, self._valid_from = recalls, now
            self.drop_waiting()
            self.rewind()

    def _is_recalled(self, parcel: Parcel) -> bool:
        return parcel.read_at < self._valid_from

    def look_again(self) -> None:
        """There may be something new, also when a reading is under way: it may have begun before."""
        self._more = [True] * PRIORITIES
        self._rung = True

    def stop(self) -> None:
        """Nothing more is to be begun or read; what waits stays pending."""
        self.stopped = True
        self.drop_waiting()

    def pop(self) -> Parcel | None:
        """The next to be sent: the most urgent, the oldest first; now and then the least urgent."""
        self._popped += 1
        ranks = self._waiting if self._popped % LEAST_SHARE else self._waiting[::-1]
        for waiting in ranks:
            if waiting:
                return waiting.popleft()
        return None

    def put_back(self, parcel: Parcel) -> None:
        """This one was not sent after all."""
        if self.stopped or self._is_recalled(parcel):
            self._known.discard(parcel.event_id)
        else:
            self._waiting[parcel.priority].appendleft(parcel)

    def drop_waiting(self) -> None:
        """Forgets what waits; it stays pending."""
        for waiting in self._waiting:
            self._known.difference_update(parcel.event_id for parcel in waiting)
            waiting.clear()

    def written(self, event_ids: Sequence[UUID]) -> None:
        """These results are in the database. They stay known until a reading that began later has come in."""
        self.unwritten -= len(event_ids)
        self._written.extend(event_ids)
