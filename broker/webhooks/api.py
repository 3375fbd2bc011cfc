"""Endpoints, deliveries and events over HTTP."""

import base64
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import BadRequest
from broker.quotas import Act
from broker.settings import Settings
from broker.web import COUNTED, NO_STORE, Page, after, checked_size, needs, page_of
from broker.webhooks import deliveries, enabling, endpoints, pauses, rotation
from broker.webhooks.deliveries import DeliveryId
from broker.webhooks.feed import feed
from broker.webhooks.views import (
    AttemptView,
    DeliveryState,
    DeliveryView,
    EndpointChange,
    EndpointMade,
    EndpointView,
    EventFeed,
    NewEndpoint,
    Rotation,
    SecretMade,
)


class EndpointMoves(Controller):
    """The half of the endpoints' controller that is not making, reading, changing and deleting."""

    @post(
        "/{endpoint_id:uuid}/test",
        summary="Send a test event",
        operation_id="testEndpoint",
        opt={COUNTED: Act.ENDPOINT_TESTS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def test(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], endpoint_id: FromPath[UUID]
    ) -> EndpointView:
        """Sends `endpoint.test` to this endpoint, the way that all events go."""
        return await endpoints.send_test(db, caller, endpoint_id)

    @post(
        "/{endpoint_id:uuid}/enable",
        summary="Enable a disabled endpoint",
        operation_id="enableEndpoint",
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def enable(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], endpoint_id: FromPath[UUID]
    ) -> EndpointView:
        """New events go to it at once; what it missed follows at a bounded rate, by a replay of the kind `catch_up`.

        A paused endpoint stays paused.
        """
        return await enabling.enable(db, caller, endpoint_id)

    @post(
        "/{endpoint_id:uuid}/pause",
        summary="Pause an endpoint",
        operation_id="pauseEndpoint",
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def pause(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], endpoint_id: FromPath[UUID]
    ) -> EndpointView:
        """Nothing is sent until it is resumed, but for what is under way; events are collected. 409 when disabled."""
        return await pauses.pause(db, caller, endpoint_id)

    @post(
        "/{endpoint_id:uuid}/resume",
        summary="Resume an endpoint",
        operation_id="resumeEndpoint",
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def resume(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], endpoint_id: FromPath[UUID]
    ) -> EndpointView:
        """What was collected is sent at once. 409 when the endpoint is disabled: enable it."""
        return await pauses.resume(db, caller, endpoint_id)

    @post(
        "/{endpoint_id:uuid}/rotate",
        summary="Rotate the signing secret",
        operation_id="rotateSecret",
        response_headers=NO_STORE,
        guards=[needs(Scope.WRITE)],
    )
    async def rotate(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        endpoint_id: FromPath[UUID],
        data: JSONBody[Rotation],
    ) -> SecretMade:
        """The answer holds the new secret, this once. During the overlap both sign, the newest first.

        A secret that was still in an overlap ends at once: never more than two sign.
        """
        return await rotation.rotate(db, caller, endpoint_id, overlap_hours=data.overlap_hours, keyring=keyring)


class EndpointController(EndpointMoves):
    """Where events are posted, signed as in Standard Webhooks 1.0."""

    path = "/v1/endpoints"
    tags = ("Webhooks",)

    @post(
        summary="Make an endpoint",
        operation_id="createEndpoint",
        response_headers=NO_STORE,
        guards=[needs(Scope.WRITE)],
    )
    async def create(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        settings: NamedDependency[Settings],
        data: JSONBody[NewEndpoint],
    ) -> EndpointMade:
        """The answer holds the signing secret, this once. At most 20 endpoints."""
        return await endpoints.create(db, caller, data, keyring=keyring, allow_loopback=settings.webhook_allow_loopback)

    @get(summary="List endpoints", operation_id="listEndpoints", guards=[needs(Scope.READ)])
    async def list_endpoints(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[EndpointView]:
        """Oldest first."""
        size = checked_size(page_size)
        rows = await endpoints.list_all(db, caller, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda endpoint: endpoint.id)

    @get("/{endpoint_id:uuid}", summary="Show an endpoint", operation_id="showEndpoint", guards=[needs(Scope.READ)])
    async def show(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], endpoint_id: FromPath[UUID]
    ) -> EndpointView:
        """State, reason, and when each secret was last used; never a secret, nor the value of a header."""
        return await endpoints.show(db, caller, endpoint_id)

    @patch(
        "/{endpoint_id:uuid}", summary="Change an endpoint", operation_id="changeEndpoint", guards=[needs(Scope.WRITE)]
    )
    async def change(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        settings: NamedDependency[Settings],
        endpoint_id: FromPath[UUID],
        data: JSONBody[EndpointChange],
    ) -> EndpointView:
        """Deliveries that are still pending go to the new URL. `headers` replace all those that were there."""
        loopback = settings.webhook_allow_loopback
        return await endpoints.change(db, caller, endpoint_id, wanted=data, keyring=keyring, allow_loopback=loopback)

    @delete(
        "/{endpoint_id:uuid}", summary="Delete an endpoint", operation_id="deleteEndpoint", guards=[needs(Scope.WRITE)]
    )
    async def remove(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], endpoint_id: FromPath[UUID]
    ) -> None:
        """What was still to be delivered to it is cancelled."""
        await endpoints.remove(db, caller, endpoint_id)


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
