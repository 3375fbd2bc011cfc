"""Deliveries and the feed of events over HTTP."""

import base64
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from broker.caller import Caller, Scope
from broker.db import Database
from broker.errors import BadRequest
from broker.quotas import Act
from broker.web import COUNTED, Page, after, checked_size, needs, page_of
from broker.webhooks import deliveries
from broker.webhooks.deliveries import DeliveryId
from broker.webhooks.feed import feed
from broker.webhooks.views import AttemptView, DeliveryState, DeliveryView, EventFeed


class DeliveryController(Controller):
    """What each endpoint must still get, and every attempt made."""

    path = "/v1/deliveries"
    tags = ("Webhooks",)

    @get(summary="List deliveries", operation_id="listDeliveries", guards=[needs(Scope.READ)])
    async def list_deliveries(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        endpoint_id: FromQuery[UUID | None] = None,
        delivery_state: Annotated[DeliveryState, QueryParameter(name="state")] = DeliveryState.PENDING,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[DeliveryView]:
        """Pending ones, or those given up (`state=dead`). What was delivered is no longer listed: see its attempts."""
        size = checked_size(page_size)
        rows = await deliveries.list_some(
            db, caller, state=delivery_state, endpoint_id=endpoint_id, after=_after(page_token), limit=size + 1
        )
        if len(rows) <= size:
            return Page(items=rows)
        return Page(items=rows[:size], next_page_token=_token(rows[size - 1]))

    @get(
        "/{delivery_id:str}/attempts",
        summary="List the attempts of a delivery",
        operation_id="listAttempts",
        guards=[needs(Scope.READ)],
    )
    async def attempts(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        delivery_id: FromPath[str],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[AttemptView]:
        """Oldest first, with status, latency and the beginning of the answer. A delivery's id is `endpoint.event`."""
        size = checked_size(page_size)
        rows = await deliveries.attempts(
            db, caller, DeliveryId.read(delivery_id), after=after(page_token), limit=size + 1
        )
        return page_of(rows, size, lambda attempt: attempt.id)

    @post(
        "/{delivery_id:str}/replay",
        summary="Send a delivery again",
        operation_id="replayDelivery",
        opt={COUNTED: Act.REPLAYS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def replay(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], delivery_id: FromPath[str]
    ) -> DeliveryView:
        """At once and with a fresh schedule, whether it is pending, dead or was delivered; under the same id."""
        return await deliveries.replay(db, caller, DeliveryId.read(delivery_id))


class EventController(Controller):
    """The same events, to pull."""

    path = "/v1/events"
    tags = ("Webhooks",)

    @get(summary="Read events", operation_id="listEvents", guards=[needs(Scope.READ)])
    async def list_events(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        after: FromQuery[str | None] = None,
        since: FromQuery[datetime | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> EventFeed:
        """Oldest first, after a cursor; keep `cursor` and give it as `after` next time.

        `after=now` gives no events but the cursor of the end. `since`, a time with its offset, leaves out what happened
        before.
        """
        return await feed(db, caller, after=after, since=_in_utc(since), limit=checked_size(page_size))


def _in_utc(given: datetime | None) -> datetime | None:
    if given is None:
        return None
    try:
        if given.tzinfo is not None:
            return given.astimezone(UTC)
    except OverflowError as error:
        raise BadRequest("since is out of range.") from error
    raise BadRequest("since needs its offset from UTC, such as Z.")


def _token(row: DeliveryView) -> str:
    return base64.urlsafe_b64encode(row.endpoint_id.bytes + row.event_id.bytes).decode()


def _after(page_token: str | None) -> DeliveryId | None:
    if page_token is None:
        return None
    try:
        both = base64.urlsafe_b64decode(page_token)
        return DeliveryId(UUID(bytes=both[:16]), UUID(bytes=both[16:]))
    except ValueError as error:
        raise BadRequest("page_token is not one that this API gave out.") from error
