"""Routes over HTTP, and the address that SNS posts to."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar import Controller, MediaType, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromPath, FromQuery, JSONBody

from broker import clock
from broker.caller import Caller, Scope
from broker.db import Database
from broker.feedback import moves, quarantine, service
from broker.feedback.receive import Receiver
from broker.feedback.views import NewRoute, QuarantinedView, RouteView
from broker.problems import Problem
from broker.quotas import Act
from broker.web import COUNTED, KEYLESS, Page, after, checked_size, needs, page_of


class RouteController(Controller):
    """How feedback reaches the broker."""

    path = "/v1/routes"
    tags = ("Feedback",)

    @get(summary="List feedback routes", operation_id="listRoutes", guards=[needs(Scope.READ)])
    async def list_routes(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromQuery[UUID | None] = None,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[RouteView]:
        """The routes of your grants, oldest first. `grant_id` limits the list to one grant."""
        size = checked_size(page_size)
        rows = await service.list_routes(db, caller, grant_id=grant_id, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda route: route.id)

    @get("/{route_id:uuid}", summary="Show a feedback route", operation_id="showRoute", guards=[needs(Scope.READ)])
    async def show_route(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], route_id: FromPath[UUID]
    ) -> RouteView:
        """One route of a grant that you are a party to; its state says whether feedback comes through."""
        return await service.show_route(db, caller, route_id)

    @post(summary="Make a feedback route", operation_id="makeRoute", status_code=202, guards=[needs(Scope.WRITE)])
    async def make_route(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], data: JSONBody[NewRoute]
    ) -> RouteView:
        """Asks for one more way in which feedback of a grant comes. Workers set it up; the state tells.

        A grant has one route of each kind; its `identity_topic` is made by itself when it becomes active. 403 when this
        kind is the other party's to make, 409 when there is one already or the grant is not in force.
        """
        return await moves.make(db, caller, data)

    @post(
        "/{route_id:uuid}/check",
        summary="Check a feedback route",
        operation_id="checkRoute",
        opt={COUNTED: Act.CHECKS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def check_route(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], route_id: FromPath[UUID]
    ) -> RouteView:
        """Has it looked at now instead of at its next turn; 409 when it was removed."""
        return await moves.check(db, caller, route_id)

    @post(
        "/{route_id:uuid}/repair",
        summary="Repair a feedback route",
        operation_id="repairRoute",
        opt={COUNTED: Act.CHECKS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def repair_route(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], route_id: FromPath[UUID]
    ) -> RouteView:
        """Has what is missing put back now, also where earlier tries failed.

        409 when the grant has ended or the route is being removed: nothing is put back then.
        """
        return await moves.repair(db, caller, route_id)

    @delete(
        "/{route_id:uuid}",
        summary="Remove a feedback route",
        operation_id="removeRoute",
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def remove_route(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], route_id: FromPath[UUID]
    ) -> RouteView:
        """Has it taken away, and what was set before put back; the state is `removed` once that was read back.

        403 when this kind is the other party's to remove. Asking again changes nothing.
        """
        return await moves.remove(db, caller, route_id)


class QuarantineController(Controller):
    """What was not to be trusted, or could not be read."""

    path = "/v1/quarantine"
    tags = ("Feedback",)

    @get(summary="List messages in quarantine", operation_id="listQuarantine", guards=[needs(Scope.READ)])
    async def list_quarantined(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[QuarantinedView]:
        """Messages of your topics that could not be read or said what a topic may not say, oldest first.

        They were delivered to nobody, and are kept as long as events. The payload is shown where the topic is your own;
        what came through one of the broker's may be about mail of others.
        """
        size = checked_size(page_size)
        rows = await quarantine.list_quarantined(db, caller, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda message: message.id)


@dataclass
class FromSns(Operation):
    """The body as SNS sends it: JSON, under the content type text/plain."""

    def __post_init__(self) -> None:
        example = {"Type": "Notification", "MessageId": "22b80b92-…", "TopicArn": "arn:aws:sns:…", "Message": "{…}"}
        media = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING), example=example)
        self.request_body = RequestBody(content={"text/plain": media}, required=True)


class SnsController(Controller):
    """Where SNS delivers feedback."""

    path = "/v1/feedback/sns"
    tags = ("Feedback",)

    @post(
        summary="Take a message of Amazon SNS",
        operation_id="receiveSns",
        status_code=200,
        media_type=MediaType.TEXT,
        opt={**KEYLESS, "any_text": True},
        security=[{}],
        operation_class=FromSns,
        responses={
            status: ResponseSpec(data_container=Problem, description=text, media_type="application/problem+json")
            for status, text in (
                (400, "Not a signed message of SNS"),
                (403, "The signature does not fit"),
                (404, "The topic belongs to no route"),
                (409, "Nobody waits for this confirmation"),
                (413, "The body is too large"),
                (503, "Our own trouble; SNS tries again"),
            )
        },
    )
    async def receive(self, request: Request[Any, Any, Any], receiver: NamedDependency[Receiver]) -> Response[bytes]:
        """For SNS only; no API key. Answers 200 once the message is stored, whatever becomes of it then.

        Messages must be signed by SNS (versions 1 and 2) and come from the topic of a route; raw delivery is refused.
        """
        await receiver.receive(request.headers, await request.body(), now=clock.now())
        return Response(b"")
