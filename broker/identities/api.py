"""Identities over HTTP."""

from uuid import UUID

from litestar import Controller, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from broker import clock
from broker.caller import Caller, Scope
from broker.db import Database
from broker.identities import service
from broker.identities.enter import NewIdentity, enter
from broker.identities.policies import HeldPolicies, PolicyVersion, list_policies, versions
from broker.identities.views import IdentityChange, IdentityView
from broker.quotas import Act
from broker.settings import Settings
from broker.web import COUNTED, Page, after, checked_size, needs, page_of


class IdentityController(Controller):
    """Verified domains and addresses in your accounts."""

    path = "/v1/identities"
    tags = ("Identities",)

    @get(summary="List identities", operation_id="listIdentities", guards=[needs(Scope.READ)])
    async def list_identities(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        name: FromQuery[str | None] = None,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[IdentityView]:
        """Oldest first. `name` keeps one domain or address, which may be in several Regions."""
        size = checked_size(page_size)
        rows = await service.page(db, caller, after=after(page_token), limit=size + 1, name=name)
        return page_of(rows, size, lambda view: view.id)

    @post(summary="Enter an identity by hand", operation_id="enterIdentity", guards=[needs(Scope.WRITE)])
    async def enter(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        data: JSONBody[NewIdentity],
    ) -> IdentityView:
        """For a connection of kind manual, whose identities nobody can look up. You say that SES has verified it."""
        return await enter(db, caller, data, partition=settings.aws_partition)

    @get("/{identity_id:uuid}", summary="Show an identity", operation_id="showIdentity", guards=[needs(Scope.READ)])
    async def show(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], identity_id: FromPath[UUID]
    ) -> IdentityView:
        """What a sender needs to know, and the room that is left for policies."""
        return await service.one(db, caller, identity_id)

    @patch(
        "/{identity_id:uuid}", summary="Change an identity", operation_id="changeIdentity", guards=[needs(Scope.WRITE)]
    )
    async def change(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        identity_id: FromPath[UUID],
        data: JSONBody[IdentityChange],
    ) -> IdentityView:
        """Switches `own_mail`: with it you alone hear feedback about mail that your own account sends from it.

        Without it that mail is counted, and not stored.
        """
        return await service.change(db, caller, identity_id, data)

    @post(
        "/{identity_id:uuid}/refresh",
        summary="Read an identity again",
        operation_id="refreshIdentity",
        opt={COUNTED: Act.CHECKS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def refresh(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], identity_id: FromPath[UUID]
    ) -> IdentityView:
        """Has SES read now; `read_at` tells when it was."""
        return await service.refresh(db, caller, identity_id)

    @get(
        "/{identity_id:uuid}/policies",
        summary="List an identity's policies",
        operation_id="listIdentityPolicies",
        guards=[needs(Scope.READ)],
    )
    async def policies(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], identity_id: FromPath[UUID]
    ) -> HeldPolicies:
        """Ours and everybody else's, as SES was read at `read_at`: explained, linted, and with who may send by them.

        For each that is not ours, `adoption` shows the terms that a grant in its place would have.
        """
        return await list_policies(db, caller, identity_id, now=clock.now())

    @get(
        "/{identity_id:uuid}/policies/{policy_name:str}",
        summary="Show the versions of a policy",
        operation_id="listIdentityPolicyVersions",
        guards=[needs(Scope.READ)],
    )
    async def policy_versions(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        identity_id: FromPath[UUID],
        policy_name: FromPath[str],
    ) -> Page[PolicyVersion]:
        """The texts that were seen under this name, the latest first, a hundred at most.

        SES cannot give back a policy that was deleted: here is what to put back.
        """
        return Page(items=await versions(db, caller, identity_id, policy_name))
