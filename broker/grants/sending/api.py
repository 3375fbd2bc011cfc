"""Sending under a grant, over HTTP: the kit and the export, simulations, and what AWS's error texts mean."""

from uuid import UUID

from litestar import Controller, MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from broker.caller import Caller, Scope
from broker.db import Database
from broker.grants import byhand
from broker.grants.hooks import OwnSet
from broker.grants.sending import simulate, takeaway
from broker.grants.sending.asked import Asked, Puzzle, Simulation
from broker.grants.sending.published import Resolver
from broker.grants.views import GrantView
from broker.policies import export, kit
from broker.policies.advice import Advice
from broker.quotas import Act
from broker.web import COUNTED, needs


class KitController(Controller):
    """Grants: what to paste, and what to apply by hand."""

    path = "/v1/grants/{grant_id:uuid}"
    tags = ("Grants",)
    guards = (needs(Scope.READ),)

    @get("/kit", summary="Show the sending kit", operation_id="showKit")
    async def show_kit(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        own_set: NamedDependency[SkipValidation[OwnSet]],
        grant_id: FromPath[UUID],
        configuration_set: FromQuery[str | None] = None,
        format: FromQuery[kit.Format | None] = None,  # noqa: A002 - the parameter's name in the API
    ) -> Response[kit.Kit | str]:
        """Snippets with this grant's ARNs for boto3, the AWS CLI, SMTP and Nodemailer, and the delegate's IAM policy.

        Only calls that the terms permit. `configuration_set` is one of the delegate's own; without it, the set that a
        route of the grant has made, if there is one. `format` gives one snippet as plain text.
        """
        whole = await takeaway.kit(db, caller, grant_id, configuration_set=configuration_set, own_set=own_set)
        if format is None:
            return Response(whole, media_type=MediaType.JSON)
        return Response(takeaway.one(whole, format).text, media_type=MediaType.TEXT)

    @get("/export", summary="Export the grant", operation_id="exportGrant")
    async def show_export(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        format: FromQuery[export.Format] = export.Format.json,  # noqa: A002 - the parameter's name in the API
    ) -> Response[export.Export | str]:
        """For the owner: the policy as Terraform, as a script of AWS CLI calls, or as JSON with the terms.

        Either the broker manages a grant or whoever applies this, never both.
        """
        found = await takeaway.export(db, caller, grant_id)
        if format is export.Format.json:
            return Response(found, media_type=MediaType.JSON)
        return Response(export.render(found, format), media_type=MediaType.TEXT)


class ByHandController(Controller):
    """Grants on an identity whose policies the owner applies itself."""

    path = "/v1/grants/{grant_id:uuid}"
    tags = ("Negotiation",)
    guards = (needs(Scope.DECIDE),)

    @post("/confirm", summary="Confirm what you did by hand", operation_id="confirmByHand", status_code=202)
    async def confirm(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        data: JSONBody[byhand.Confirmation],
    ) -> Response[GrantView]:
        """For a connection of kind manual: you have applied the exported policy, or removed it.

        The state follows your word and says `verified: false`: nobody has read SES.
        """
        grant = await byhand.confirm(db, caller, grant_id, data)
        return Response(grant, headers={"ETag": grant.etag})


class SimulationController(Controller):
    """What would become of a send, and why one failed. Nothing is changed, and nothing is sent."""

    path = "/v1"
    tags = ("Simulations",)
    guards = (needs(Scope.WRITE),)

    @post(
        "/simulations",
        summary="Simulate a send",
        operation_id="simulateSend",
        opt={COUNTED: Act.SIMULATIONS},
        status_code=200,
    )
    async def simulate_send(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        resolver: NamedDependency[SkipValidation[Resolver]],
        data: JSONBody[Asked],
    ) -> Simulation:
        """Would this send be allowed, and if not, what stops it?

        Under a grant, by all policies of an identity of yours, or by policies that you paste. The checklist has what
        no policy says: Region, sandbox, verification, alignment, configuration sets and the DNS.
        """
        return await simulate.simulate(db, caller, data, resolver=resolver)

    @post("/explanations", summary="Explain an error of AWS", operation_id="explainError", status_code=200)
    async def explain_error(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], data: JSONBody[Puzzle]
    ) -> Advice:
        """Likely causes of an error text of SES, in order, each with its fix and how to tell whether it is the one."""
        return await simulate.explain(db, caller, data)
