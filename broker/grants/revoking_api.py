"""Taking access back from everybody who fits a filter, over HTTP."""

from uuid import UUID

from litestar import Controller, MediaType, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, SkipValidation

from broker.caller import Caller, Scope
from broker.db import Database
from broker.grants import revoking
from broker.grants.hooks import LastUsed
from broker.grants.views import Matching, Revoked
from broker.settings import Settings
from broker.web import ENDS_ACCESS, needs


class RevocationController(Controller):
    """Grants: ending many at once."""

    path = "/v1/grants"
    tags = ("Negotiation",)

    @post(
        "/revoke",
        summary="Revoke every grant that fits",
        operation_id="revokeMatching",
        opt=ENDS_ACCESS,
        status_code=202,
        guards=[needs(Scope.DECIDE)],
    )
    async def revoke_matching(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        last_used: NamedDependency[SkipValidation[LastUsed]],
        data: JSONBody[Matching],
    ) -> Revoked:
        """Takes access back from a delegate, an account or on an identity; `dry_run` only names the grants.

        What was used last goes first. Each becomes `revoked` by itself, once SES was read twice without it; `expected`
        and `accounts` say how long that takes at SES's rate.
        """
        return await revoking.revoke_matching(db, caller, data, last_used=last_used, gap=settings.readback_gap)

    @get(
        "/revoke-script",
        summary="Print a script that revokes",
        operation_id="revokeScript",
        opt=ENDS_ACCESS,
        media_type=MediaType.TEXT,
        guards=[needs(Scope.READ)],
    )
    async def revoke_script(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        last_used: NamedDependency[SkipValidation[LastUsed]],
        delegate_id: FromQuery[UUID | None] = None,
        account_id: FromQuery[str | None] = None,
        identity_arn: FromQuery[str | None] = None,
    ) -> str:
        """AWS CLI calls with which you take the access back without the broker: a Deny first, then the removals.

        For your grants that fit and are live, or have ended and are not proven to be gone. Others keep what they have,
        also where they share a policy. Print it before you need it, and again when grants have changed.
        """
        wanted = Matching(delegate_id=delegate_id, account_id=account_id, identity_arn=identity_arn)
        return await revoking.script_for(db, caller, wanted, last_used=last_used)
