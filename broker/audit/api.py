"""The audit trail over HTTP."""

from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery

from broker.audit import service
from broker.audit.service import Entry
from broker.caller import Caller, Scope
from broker.db import Database
from broker.web import Page, after, checked_size, needs, page_of


class AuditController(Controller):
    """Who did what, append-only."""

    path = "/v1/audit"
    tags = ("Audit",)

    @get(summary="List audit entries", guards=[needs(Scope.READ)], operation_id="listAudit")
    async def list_entries(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        subject_id: FromQuery[UUID | None] = None,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[Entry]:
        """Oldest first. `subject_id` limits the list to one grant, connection or endpoint."""
        size = checked_size(page_size)
        rows = await service.entries(db, caller, subject_id=subject_id, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda entry: entry.id)
