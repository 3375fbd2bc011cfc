"""AWS accounts over HTTP."""

from uuid import UUID

from litestar import Controller, MediaType, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from broker.caller import Caller, Scope
from broker.connections import prove, service
from broker.connections.prove import AccountProver
from broker.connections.service import Release
from broker.connections.templates import Format
from broker.connections.views import ConnectionView, Installation, NewConnection, PresignedProof
from broker.db import Database
from broker.quotas import Act
from broker.settings import Settings
from broker.web import COUNTED, ENDS_ACCESS, Page, after, checked_size, needs, page_of


class ConnectionController(Controller):
    """AWS accounts: by a role that we assume, or proven without any rights."""

    path = "/v1/connections"
    tags = ("Connections",)

    @post(summary="Connect an AWS account", operation_id="createConnection", guards=[needs(Scope.WRITE)])
    async def create(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        prover: NamedDependency[SkipValidation[AccountProver]],
        data: JSONBody[NewConnection],
    ) -> ConnectionView:
        """Answers the ExternalId and role of a role connection, or the challenge to sign. Nothing is bound yet."""
        return await service.create(db, caller, data, here=Installation(settings, prover.endpoint))

    @get(summary="List connections", operation_id="listConnections", guards=[needs(Scope.READ)])
    async def list_connections(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        prover: NamedDependency[SkipValidation[AccountProver]],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[ConnectionView]:
        """Oldest first."""
        size = checked_size(page_size)
        here = Installation(settings, prover.endpoint)
        rows = await service.page(db, caller, here=here, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda view: view.id)

    @get(
        "/{connection_id:uuid}",
        summary="Show a connection",
        operation_id="showConnection",
        guards=[needs(Scope.READ)],
    )
    async def show(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        prover: NamedDependency[SkipValidation[AccountProver]],
        connection_id: FromPath[UUID],
    ) -> ConnectionView:
        """Its state, and the reason while it is not verified."""
        return await service.one(db, caller, connection_id, here=Installation(settings, prover.endpoint))

    @delete(
        "/{connection_id:uuid}",
        summary="Remove a connection",
        operation_id="removeConnection",
        opt=ENDS_ACCESS,
        guards=[needs(Scope.WRITE)],
    )
    async def remove(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        release: NamedDependency[SkipValidation[Release]],
        connection_id: FromPath[UUID],
    ) -> None:
        """Frees the account. 409 while grants rest on it: revoke them first, so that their policies are removed."""
        await service.remove(db, caller, connection_id, release=release)

    @post(
        "/{connection_id:uuid}/verify",
        summary="Verify a connection",
        operation_id="verifyConnection",
        opt={COUNTED: Act.CHECKS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def verify(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        prover: NamedDependency[SkipValidation[AccountProver]],
        connection_id: FromPath[UUID],
    ) -> ConnectionView:
        """Has the role checked now (look at `state`), or answers a fresh challenge where an account is to be proven."""
        return await service.verify(db, caller, connection_id, here=Installation(settings, prover.endpoint))

    @post(
        "/{connection_id:uuid}/prove",
        summary="Prove an account",
        operation_id="proveConnection",
        status_code=200,
        guards=[needs(Scope.WRITE)],
    )
    async def prove(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        prover: NamedDependency[SkipValidation[AccountProver]],
        connection_id: FromPath[UUID],
        data: JSONBody[PresignedProof],
    ) -> ConnectionView:
        """Takes a presigned `sts:GetCallerIdentity` that carries the challenge's header, signed in the account.

        409 when the account is bound to another tenant, when another account signed, or when no challenge is open.
        """
        here = Installation(settings, prover.endpoint)
        return await prove.prove(db, caller, connection_id, data, prover=prover, here=here)

    @get(
        "/{connection_id:uuid}/template",
        summary="Get the role's template",
        operation_id="getConnectionTemplate",
        media_type=MediaType.TEXT,
        guards=[needs(Scope.READ)],
    )
    async def template(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        prover: NamedDependency[SkipValidation[AccountProver]],
        connection_id: FromPath[UUID],
        format: FromQuery[Format] = Format.YAML,  # noqa: A002 - the name in the query
    ) -> str:
        """CloudFormation (`yaml`), Terraform (`tf`) or AWS CLI calls (`sh`) that create the role in your account."""
        here = Installation(settings, prover.endpoint)
        return await service.template(db, caller, connection_id, here=here, form=format)
