"""Deciding about a delegate's topics, and old cross-account notifications, over HTTP."""

from uuid import UUID

from litestar import Controller, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from broker.caller import Caller, Scope
from broker.db import Database
from broker.feedback import decide, migrate
from broker.feedback.decide import Approval
from broker.feedback.legacy_terms import LegacySettings
from broker.feedback.migrate import Migrating, MigrationView
from broker.feedback.views import RouteView
from broker.grants.views import Reason
from broker.web import needs


class ForeignRouteController(Controller):
    """Topics that the broker does not see: decided by the owner, or attached by the delegate long ago."""

    path = "/v1/routes/{route_id:uuid}"
    tags = ("Feedback",)

    @post(
        "/approve",
        summary="Approve a delegate's topics",
        operation_id="approveRoute",
        status_code=202,
        guards=[needs(Scope.DECIDE)],
    )
    async def approve(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        route_id: FromPath[UUID],
        data: JSONBody[Approval | None] = None,
    ) -> RouteView:
        """As the owner: SES will tell the delegate's topics of all mail of the identity, whoever sends it.

        The broker hears nothing of it, so `configured` is all that such a route will ever say. SES has one topic for
        each kind of notification: where one is set already this is refused with what holds it, unless you `replace` it;
        what was there is recorded in `previous` and put back when the route is removed or its grant ends.
        """
        return await decide.approve(db, caller, route_id, data or Approval())

    @post(
        "/decline",
        summary="Decline a delegate's topics",
        operation_id="declineRoute",
        status_code=200,
        guards=[needs(Scope.DECIDE)],
    )
    async def decline(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        route_id: FromPath[UUID],
        data: JSONBody[Reason | None] = None,
    ) -> RouteView:
        """As the owner: says no, and nothing is set. What you have approved before you remove instead."""
        return await decide.decline(db, caller, route_id, data or Reason())

    @patch(
        "/legacy",
        summary="Edit old cross-account notifications",
        operation_id="editLegacyRoute",
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def edit(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        route_id: FromPath[UUID],
        data: JSONBody[LegacySettings],
    ) -> RouteView:
        """As the delegate: another topic or the headers of notifications that exist; SES lets nobody make new ones."""
        return await migrate.edit(db, caller, route_id, data)

    @post(
        "/migrate",
        summary="Migrate old cross-account notifications",
        operation_id="migrateRoute",
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def migrate(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        route_id: FromPath[UUID],
        data: JSONBody[Migrating],
    ) -> MigrationView:
        """As the delegate: moves them to a route through the broker, without a gap and without doubled events.

        The new route is set up beside them. They are removed once the bounce of a test mail to
        bounce@simulator.amazonses.com came through the new one; `command` sends it. Ask again to look again at once.
        """
        return await migrate.migrate(db, caller, route_id, data)
