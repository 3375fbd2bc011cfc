"""Endpoints over HTTP."""

from uuid import UUID

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.quotas import Act
from broker.settings import Settings
from broker.web import COUNTED, NO_STORE, Page, after, checked_size, needs, page_of
from broker.webhooks import enabling, endpoints, pauses, rotation
from broker.webhooks.views import (
    EndpointChange,
    EndpointMade,
    EndpointView,
    NewEndpoint,
    Rotation,
    SecretMade,
)


class EndpointMoves(Controller):
    """What can be done with an endpoint beside making, reading, changing and deleting it."""

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
        """The answer holds the signing secret, this once. At most 20 endpoints, or as many as the operator allows."""
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
