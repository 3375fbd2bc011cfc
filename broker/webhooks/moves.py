"""What can be done with an endpoint, over HTTP: test, enable, pause, resume, and rotate its secret."""

from uuid import UUID

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.web import NO_STORE, needs
from broker.webhooks import endpoints, pauses, rotation
from broker.webhooks.views import EndpointView, Rotation, SecretMade


class EndpointMoves(Controller):
    """The half of the endpoints' controller that is not making, reading, changing and deleting."""

    @post(
        "/{endpoint_id:uuid}/test",
        summary="Send a test event",
        operation_id="testEndpoint",
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
        """It gets events again, and what was pending at once. A paused endpoint stays paused."""
        return await endpoints.enable(db, caller, endpoint_id)

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
