"""The room for grants over HTTP."""

from uuid import UUID

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from broker.caller import Caller, Scope
from broker.db import Database
from broker.grants.room import Fits, Fitting, fits
from broker.web import needs


class RoomController(Controller):
    """Room on an identity, which SES limits."""

    path = "/v1/identities/{identity_id:uuid}/room"
    tags = ("Identities",)
    guards = (needs(Scope.READ),)

    @post(summary="Count the grants that fit", operation_id="countGrantsThatFit", status_code=200)
    async def count(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        identity_id: FromPath[UUID],
        data: JSONBody[Fitting],
    ) -> Fits:
        """How many more grants of these terms your identity takes, by what SES was read to hold and what is agreed.

        Two places are kept free for taking access back. Nothing is stored, and AWS is not asked.
        """
        return await fits(db, caller, identity_id, data)
