"""What is taken away from a grant, over HTTP: the sending kit and the export."""

from uuid import UUID

from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from broker.caller import Caller, Scope
from broker.db import Database
from broker.grants import takeaway
from broker.policies import export, kit
from broker.web import needs


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
        grant_id: FromPath[UUID],
        configuration_set: FromQuery[str | None] = None,
        format: FromQuery[kit.Format | None] = None,  # noqa: A002 - the parameter's name in the API
    ) -> Response[kit.Kit | str]:
        """Snippets with this grant's ARNs for boto3, the AWS CLI, SMTP and Nodemailer, and the delegate's IAM policy.

        Only calls that the terms permit. `configuration_set` is one of the delegate's own, `format` gives one snippet
        as plain text.
        """
        whole = await takeaway.kit(db, caller, grant_id, configuration_set=configuration_set)
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
