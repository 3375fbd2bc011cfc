"""Watches a tenant's feed for the events of a story, and what becomes of their deliveries."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from broker.local.asking import Asking, Missing

POLL_S = 0.05
SETTLE_S = 1.0  # a second event of what must make one would come within a few milliseconds
DELIVERY_S = 5.0
MOST_LOOKED_AT = 20  # events whose deliveries are looked up, each with a few requests

Wanted = Counter[tuple[str, str]]
"""Events by SES message id and type."""


class Data(msgspec.Struct, frozen=True):
    """What an event says, as far as it matters here."""

    message_id: str | None = None
    recipient: str | None = None
    recipient_hash: str | None = None


class Event(msgspec.Struct, frozen=True):
    """An event in the feed."""

    id: str
    type: str
    data: Data

    @property
    def key(self) -> tuple[str, str]:
        """As wanted ones are counted."""
        return self.data.message_id or "", self.type


class Delivery(msgspec.Struct, frozen=True):
    """What became of an event at one endpoint: `delivered`, `failed` (it is tried again) or `pending`."""

    url: str
    state: str
    status: int | None = None
    latency_ms: int | None = None
    error: str | None = None


class _Stretch(msgspec.Struct, frozen=True):
    items: list[Event]
    cursor: str | None
    more: bool


class Watch:
    """Sees what comes into the feed from now on."""

    def __init__(self, api: Asking) -> None:
        """Begin at the end of the feed."""
        self._api = api
        self._cursor = api.get("/v1/events", _Stretch, after="now").cursor
        self.events: list[Event] = []

    def wait(self, wanted: Wanted, *, until: float) -> None:
        """Returns when all that is wanted was seen, or at ``until``."""
        while self.missing(wanted):
            self.look()
            if time.monotonic() > until:
                return
            time.sleep(POLL_S)

    def settle(self) -> None:
        """Looks a last time, when anything that is too much would have come as well."""
        time.sleep(SETTLE_S)
        self.look()

    def look(self) -> None:
        """Reads what is new."""
        more = True
        while more:
            given = {"after": self._cursor} if self._cursor else {}
            stretch = self._api.get("/v1/events", _Stretch, page_size="100", **given)
            self.events += stretch.items
            self._cursor, more = stretch.cursor, stretch.more

    def missing(self, wanted: Wanted) -> Wanted:
        """What was not seen."""
        return wanted - Counter(event.key for event in self.events)

    def surplus(self, wanted: Wanted) -> Wanted:
        """What was seen more often than wanted."""
        mails = {message_id for message_id, _ in wanted}
        return Counter(event.key for event in self.events if event.key[0] in mails) - wanted

    def of(self, wanted: Wanted) -> list[Event]:
        """The events of these mails, in the order of the feed."""
        mails = {message_id for message_id, _ in wanted}
        return [event for event in self.events if event.key[0] in mails]


def deliveries_of(api: Asking, events: Sequence[Event]) -> dict[str, list[Delivery]]:
    """By event, what became of it at each endpoint that takes it; waits a little for the first attempts."""
    endpoints = [each for each in api.get_all("/v1/endpoints") if each["state"] != "disabled"]
    found: dict[str, list[Delivery]] = {event.id: [] for event in events[:MOST_LOOKED_AT]}
    ends = time.monotonic() + DELIVERY_S
    for endpoint in endpoints:
        for event_id, so_far in found.items():
            delivery = _wait_for_attempt(api, endpoint, event_id, until=ends)
            if delivery is not None:
                so_far.append(delivery)
    return found


def _wait_for_attempt(api: Asking, endpoint: dict[str, Any], event_id: str, *, until: float) -> Delivery | None:
    """The last attempt, or that none was made yet; None where the endpoint does not take this event."""
    while True:
        tried = _attempts(api, endpoint["id"], event_id)
        if tried:
            return _tried(endpoint["url"], tried[-1])
        if not _is_pending(api, endpoint["id"], event_id):
            # It may have been sent between the two looks.
            tried = _attempts(api, endpoint["id"], event_id)
            return _tried(endpoint["url"], tried[-1]) if tried else None
        if time.monotonic() > until or endpoint["state"] == "paused":
            return Delivery(endpoint["url"], "pending")
        time.sleep(POLL_S)


def _attempts(api: Asking, endpoint_id: str, event_id: str) -> list[dict[str, Any]]:
    try:
        return api.get_all(f"/v1/deliveries/{endpoint_id}.{event_id}/attempts")
    except Missing:
        return []


def _is_pending(api: Asking, endpoint_id: str, event_id: str) -> bool:
    pending = api.get_all("/v1/deliveries", endpoint_id=endpoint_id, state="pending")
    return any(each["event_id"] == event_id for each in pending)


def _tried(url: str, attempt: dict[str, Any]) -> Delivery:
    status = attempt["status"]
    state = "delivered" if status is not None and 200 <= status < 300 else "failed"
    return Delivery(url, state, status, attempt["latency_ms"], attempt["error"])
