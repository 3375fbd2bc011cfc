"""Taking access back and giving it back, over HTTP."""

from uuid import UUID

from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from broker.caller import Caller, Scope
from broker.db import Database
from broker.grants import end, suspend
from broker.grants.api import tagged
from broker.grants.views import GrantView, Reason
from broker.settings import Settings
from broker.web import ENDS_ACCESS, needs


class EndingController(Controller):
    """Grants: ending, suspending, resuming."""

    path = "/v1/grants/{grant_id:uuid}"
    tags = ("Negotiation",)
    guards = (needs(Scope.DECIDE),)

    @post("/revoke", summary="Revoke a grant", operation_id="revokeGrant", opt=ENDS_ACCESS, status_code=202)
    async def revoke(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        grant_id: FromPath[UUID],
        data: JSONBody[Reason | None] = None,
    ) -> Response[GrantView]:
        """Takes access back. The state is `revoked` only once SES was read twice without it; see the receipt."""
        why = data or Reason()
        return tagged(await end.revoke(db, caller, grant_id, why, deny_kept=settings.deny_kept))

    @post("/relinquish", summary="Hand access back", operation_id="relinquishGrant", opt=ENDS_ACCESS, status_code=202)
    async def relinquish(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        data: JSONBody[Reason | None] = None,
    ) -> Response[GrantView]:
        """The delegate ends the grant."""
        return tagged(await end.relinquish(db, caller, grant_id, data or Reason()))

    @post("/suspend", summary="Suspend a grant", operation_id="suspendGrant", opt=ENDS_ACCESS, status_code=202)
    async def suspend(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        grant_id: FromPath[UUID],
        data: JSONBody[Reason | None] = None,
    ) -> Response[GrantView]:
        """Takes access back for a while. The state is `suspended` only once SES was read twice without it."""
        why = data or Reason()
        return tagged(await suspend.suspend(db, caller, grant_id, why, deny_kept=settings.deny_kept))

    @post("/resume", summary="Resume a suspended grant", operation_id="resumeGrant", status_code=202)
    async def resume(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        data: JSONBody[Reason | None] = None,
    ) -> Response[GrantView]:
        """Gives access back under the agreed terms. Workers apply them; what tripped the breaker counts no more."""
        return tagged(await suspend.resume(db, caller, grant_id, data or Reason()))

    @post("/restore", summary="Restore a drifted grant", operation_id="restoreGrant", status_code=202)
    async def restore(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], grant_id: FromPath[UUID]
    ) -> Response[GrantView]:
        """Puts the agreed policy back that somebody removed outside the broker."""
        return tagged(await end.restore(db, caller, grant_id))
