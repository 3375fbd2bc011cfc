"""A delegate's own event destinations over HTTP."""

from uuid import UUID

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, SkipValidation

from broker.caller import Caller, Scope
from broker.db import Database
from broker.feedback.destinations import service
from broker.feedback.destinations.views import DestinationChange, DestinationView, NewDestination
from broker.feedback.set_gateways import Sets
from broker.web import Page, needs


class DestinationController(Controller):
    """Where else SES publishes the events of the configuration set, for the delegate's own use."""

    path = "/v1/routes/{route_id:uuid}/destinations"
    tags = ("Feedback",)

    @get(summary="List event destinations", operation_id="listDestinations", guards=[needs(Scope.READ)])
    async def list_destinations(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        sets: NamedDependency[SkipValidation[Sets]],
        route_id: FromPath[UUID],
    ) -> Page[DestinationView]:
        """As SES shows them now, the broker's own among them. For the delegate of a `configuration_set` route."""
        return Page(items=await service.list_all(db, sets, caller, route_id))

    @post(summary="Make an event destination", operation_id="createDestination", guards=[needs(Scope.WRITE)])
    async def create(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        sets: NamedDependency[SkipValidation[Sets]],
        route_id: FromPath[UUID],
        data: JSONBody[NewDestination],
    ) -> DestinationView:
        """SES takes at most 10 in a set, ours included; what it refuses is told in its own words.

        Data Firehose needs a role of your account that trusts `ses.amazonaws.com` and whose name begins with
        `delegation-broker-`. Amazon Pinpoint was retired by AWS: no new destination goes there.
        """
        return await service.create(db, sets, caller, route_id, wanted=data)

    @patch(
        "/{name:str}",
        summary="Change an event destination",
        operation_id="changeDestination",
        guards=[needs(Scope.WRITE)],
    )
    async def change(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        sets: NamedDependency[SkipValidation[Sets]],
        route_id: FromPath[UUID],
        name: FromPath[str],
        data: JSONBody[DestinationChange],
    ) -> DestinationView:
        """What is left out stays. The broker's own destination and those of Pinpoint cannot be changed."""
        return await service.change(db, sets, caller, route_id, name=name, wanted=data)

    @delete(
        "/{name:str}",
        summary="Remove an event destination",
        operation_id="deleteDestination",
        guards=[needs(Scope.WRITE)],
    )
    async def remove(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        sets: NamedDependency[SkipValidation[Sets]],
        route_id: FromPath[UUID],
        name: FromPath[str],
    ) -> None:
        """Any but the broker's own."""
        await service.remove(db, sets, caller, route_id, name=name)
