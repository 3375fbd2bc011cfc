"""Erasures over HTTP."""

from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.feedback.erasures import service
from broker.feedback.erasures.views import ErasureView, Recipient
from broker.web import Page, after, checked_size, needs, page_of


class ErasureController(Controller):
    """The right to be forgotten."""

    path = "/v1/erasures"
    tags = ("Recipients",)

    @post(
        summary="Erase a recipient",
        operation_id="eraseRecipient",
        status_code=202,
        guards=[needs(Scope.ADMIN)],
    )
    async def erase(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        data: JSONBody[Recipient],
    ) -> ErasureView:
        """Blanks the address, and all that may tell of it, in everything that you are a party to; cannot be undone.

        Events, for both their parties; pending and dead deliveries; answers of receivers; messages in quarantine;
        stored answers of this API; the recipient's state. Ids and counts stay, and suppressions as keyed hashes with
        their reasons. What arrives later is new. What is on its way to a receiver at that moment may still arrive;
        once this is `done`, nothing of it does.
        """
        return await service.erase(db, caller, data, keyring=keyring)

    @get(summary="List erasures", operation_id="listErasures", guards=[needs(Scope.READ)])
    async def list_erasures(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[ErasureView]:
        """Newest first. They never show an address."""
        size = checked_size(page_size)
        rows = await service.list_some(db, caller, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda job: job.id)

    @get("/{erasure_id:uuid}", summary="Show an erasure", operation_id="showErasure", guards=[needs(Scope.READ)])
    async def show(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], erasure_id: FromPath[UUID]
    ) -> ErasureView:
        """How far it is, and how many of each were blanked."""
        return await service.show(db, caller, erasure_id)
