"""Suppressions over HTTP."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.response import Stream

from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import BadRequest
from broker.feedback.recipients import Reason
from broker.feedback.suppressions import push, service
from broker.feedback.suppressions.service import Filters
from broker.feedback.suppressions.table import csv_of
from broker.feedback.suppressions.views import Addresses, Checks, Format, Push, PushView, SuppressionView
from broker.web import Page, after, checked_size, needs, page_of

CSV = "text/csv"  # Litestar adds the charset
Accept = Annotated[
    str | None, HeaderParameter(name="Accept", description="`text/csv` is answered as with `format=csv`")
]


class SuppressionController(Controller):
    """Who must not be mailed again."""

    path = "/v1/suppressions"
    tags = ("Recipients",)

    @get(
        summary="List suppressions",
        operation_id="listSuppressions",
        guards=[needs(Scope.READ)],
        responses={200: ResponseSpec(data_container=Page[SuppressionView], description="A page, or all of it as CSV")},
    )
    async def list_suppressions(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        identity_arn: FromQuery[str | None] = None,
        grant_id: FromQuery[UUID | None] = None,
        reason: FromQuery[Reason | None] = None,
        since: FromQuery[datetime | None] = None,
        format: FromQuery[Format | None] = None,  # noqa: A002 - the name in the query
        accept: Accept = None,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Response[Any]:
        """Complaints, hard bounces and opt-outs of your grants and own mail, oldest first, as your terms show them.

        Opt-outs are subscription events with `unsubscribeAll`. As CSV (`format=csv`) it is all of them, without pages.
        Those of one grant: 409 once its terms keep no feedback any more.
        """
        if since is not None and since.tzinfo is None:
            raise BadRequest("since needs its offset from UTC, such as Z.")
        filters = Filters(identity_arn=identity_arn, grant_id=grant_id, reason=reason, since=since)
        await service.permit(db, caller, filters)
        if format is Format.CSV or (format is None and "text/csv" in (accept or "")):
            return _csv(db, caller, filters, keyring)
        size = checked_size(page_size)
        rows: Sequence[SuppressionView] = await service.list_some(
            db, caller, filters, keyring=keyring, after=after(page_token), limit=size + 1
        )
        return Response(page_of(rows, size, lambda each: each.id))

    @post(
        "/check",
        summary="Check addresses",
        operation_id="checkSuppressions",
        status_code=200,
        guards=[needs(Scope.WRITE)],
    )
    async def check(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        data: JSONBody[Addresses],
    ) -> Checks:
        """Which of up to 100 addresses are suppressed, and why. Nothing is stored of what you ask.

        Where the terms show you no recipients, this tells nothing either.
        """
        return await service.check(db, caller, data, keyring=keyring)

    @get(
        "/pushes",
        summary="List pushes of suppressions",
        operation_id="listSuppressionPushes",
        guards=[needs(Scope.READ)],
    )
    async def list_pushes(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[PushView]:
        """For which of your accounts and Regions it is or was switched on, and how far it is."""
        size = checked_size(page_size)
        rows = await push.list_some(db, caller, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda each: each.id)

    @post(
        "/pushes",
        summary="Switch pushing suppressions on or off",
        operation_id="switchSuppressionPush",
        status_code=202,
        guards=[needs(Scope.ADMIN)],
    )
    async def switch(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], data: JSONBody[Push]
    ) -> PushView:
        """Puts complaints and hard bounces into the suppression list of your own SES account. Off by default.

        **This affects all clients of that account**: SES then refuses these recipients for all its mail in this Region,
        whoever's domain it comes from. Needs `ses:PutSuppressedDestination` in your role, which its template leaves
        out. Guessed complaints and opt-outs are never put there. Switching it off leaves what is there.
        """
        return await push.switch(db, caller, data)


class SuppressionExport(Controller):
    """What an owner takes along from a grant."""

    path = "/v1/grants/{grant_id:uuid}/suppressions"
    tags = ("Recipients",)

    @get(
        "/export",
        summary="Export the suppressions of a grant",
        operation_id="showGrantSuppressions",
        media_type=MediaType.TEXT,
        guards=[needs(Scope.READ)],
        responses={
            200: ResponseSpec(
                data_container=str,
                description="CSV (RFC 4180) with a header",
                media_type="text/csv",
                generate_examples=False,
            )
        },
    )
    async def export(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        grant_id: FromPath[UUID],
    ) -> Response[Any]:
        """Complaints, hard bounces and opt-outs as CSV: addresses at `full`, hashes at `hashed`; 409 at `none`.

        Also after the grant has ended, for as long as its terms keep feedback.
        """
        filters = await service.export(db, caller, grant_id)
        return _csv(db, caller, filters, keyring)


class CsvStream(Stream):
    """A stream that stays CSV: Litestar's own takes the media type of its handler, which may answer JSON as well."""

    def to_asgi_response(self, *args: Any, **named: Any) -> Any:
        return super().to_asgi_response(*args, **{**named, "media_type": CSV})


def _csv(db: Database, caller: Caller, filters: Filters, keyring: Keyring) -> Stream:
    headers = {"Content-Disposition": 'attachment; filename="suppressions.csv"', "Cache-Control": "no-store"}
    return CsvStream(csv_of(service.all_of(db, caller, filters, keyring=keyring)), headers=headers)
