"""The audit trail over HTTP, and the keys that check its seals."""

from datetime import datetime
from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery
from litestar.response import Stream

from broker.audit import export, service
from broker.audit.export import HeadLine
from broker.audit.service import Entry, Filters
from broker.audit.signing import Jwks, Signer
from broker.caller import Caller, Scope
from broker.db import Database
from broker.errors import BadRequest
from broker.web import PUBLIC, Page, after, checked_size, needs, page_of

LINES = "application/x-ndjson"


class AuditController(Controller):
    """Who did what, append-only."""

    path = "/v1/audit"
    tags = ("Audit",)
    guards = (needs(Scope.READ),)

    @get(summary="List audit entries", operation_id="listAudit")
    async def list_entries(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        action: FromQuery[str | None] = None,
        subject_kind: FromQuery[str | None] = None,
        subject_id: FromQuery[UUID | None] = None,
        since: FromQuery[datetime | None] = None,
        until: FromQuery[datetime | None] = None,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[Entry]:
        """Oldest first, each with its place in the chain once it is sealed.

        `action` is one, or `grant.*` for all that begin so. `subject_id` limits the list to one grant, connection or
        endpoint. What happened from `since` on and before `until`.
        """
        if any(each is not None and each.tzinfo is None for each in (since, until)):
            raise BadRequest("since and until need their offset from UTC, such as Z.")
        size = checked_size(page_size)
        filters = Filters(action, subject_kind, subject_id, since, until)
        rows = await service.entries(db, caller, filters, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda entry: entry.id)

    @get("/head", summary="Show the head of your chain", operation_id="showAuditHead")
    async def head(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], signer: NamedDependency[Signer]
    ) -> HeadLine:
        """How long your chain is, signed. Keep it elsewhere: it proves a later cut (`broker audit verify --head`)."""
        return await export.head(db, caller, signer)

    @get(
        "/export",
        summary="Export the audit trail",
        operation_id="showAuditExport",
        media_type=LINES,
        responses={200: ResponseSpec(data_container=str, media_type=LINES, description="JSON lines")},
    )
    async def export(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], signer: NamedDependency[Signer]
    ) -> Stream:
        """All that is sealed, as JSON lines: the signed head, your chain, and what other chains say of your grants.

        `broker audit verify FILE --key KEYS` checks it without the broker.
        """
        headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"', "Cache-Control": "no-store"}
        return Stream(export.lines(db, caller, signer), headers=headers, media_type=LINES)


class KeyController(Controller):
    """What checks the service's signatures."""

    path = "/.well-known/jwks.json"
    tags = ("Audit",)
    opt = PUBLIC
    security = ({},)

    @get(summary="List the signing keys", operation_id="listSigningKeys")
    async def list_keys(self, signer: NamedDependency[Signer]) -> Jwks:
        """The public Ed25519 keys of seals and receipts (RFC 8037): first the one that signs, then former ones."""
        return signer.public.published()
