"""Adopting policies over HTTP."""

from uuid import UUID

from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from broker.caller import Caller, Scope
from broker.db import Database
from broker.grants.adopting.service import adopt_policy
from broker.grants.adopting.views import Adopting
from broker.grants.views import GrantView
from broker.settings import Settings
from broker.web import needs


class AdoptionController(Controller):
    """Policies that somebody wrote without the broker, taken under grants."""

    path = "/v1/identities/{identity_id:uuid}/policies/{policy_name:str}"
    tags = ("Policies",)
    guards = (needs(Scope.DECIDE),)

    @post("/adopt", summary="Adopt a policy", operation_id="adoptIdentityPolicy")
    async def adopt(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        identity_id: FromPath[UUID],
        policy_name: FromPath[str],
        data: JSONBody[Adopting],
    ) -> Response[GrantView]:
        """Proposes a grant of the same meaning in a policy's place. The delegate approves it like any other.

        The policy stays until the grant's own was read back, and is deleted then, if it still means what it meant;
        `replaces` of the grant tells. Refused, with the reasons, where terms cannot mean the same.
        """
        grant = await adopt_policy(db, caller, identity_id, policy_name, data, lifetime=settings.offer_lifetime)
        return Response(grant, headers={"ETag": grant.etag})
