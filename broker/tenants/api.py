"""Registration, oneself and one's API keys over HTTP."""

from uuid import UUID

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from broker import clock
from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.tenants import service
from broker.tenants.auth import may_register
from broker.tenants.views import (
    ApiKeyMade,
    ApiKeyView,
    NewApiKey,
    Registered,
    Registration,
    TenantChange,
    TenantView,
)
from broker.web import ENDS_ACCESS, NO_STORE, PUBLIC, Page, after, checked_size, needs, page_of


class TenantController(Controller):
    """Tenants."""

    path = "/v1"
    tags = ("Tenants",)

    @post(
        "/tenants",
        summary="Register a tenant",
        operation_id="registerTenant",
        response_headers=NO_STORE,
        opt=PUBLIC,
        guards=[may_register],
        security=[{}],
    )
    async def register(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        data: JSONBody[Registration],
    ) -> Registered:
        """Makes a tenant and its first API key. The secret is shown this once."""
        return await service.register(db, caller, data, keyring=keyring)

    @get("/tenant", summary="Show yourself", operation_id="showTenant", guards=[needs(Scope.READ)])
    async def show(self, db: NamedDependency[Database], caller: NamedDependency[Caller]) -> TenantView:
        """The tenant that the key belongs to."""
        return await service.show(db, caller)

    @patch("/tenant", summary="Change yourself", operation_id="changeTenant", guards=[needs(Scope.ADMIN)])
    async def change(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], data: JSONBody[TenantChange]
    ) -> TenantView:
        """Changes the name, the contact address, or the address that hears of what is stuck; null removes one."""
        return await service.change(db, caller, data)


class ApiKeyController(Controller):
    """API keys."""

    path = "/v1/api-keys"
    tags = ("API keys",)

    @post(summary="Make an API key", operation_id="makeApiKey", response_headers=NO_STORE, guards=[needs(Scope.ADMIN)])
    async def make(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        data: JSONBody[NewApiKey],
    ) -> ApiKeyMade:
        """A further key, no wider than yours. The secret is shown this once."""
        return await service.make_key(db, caller, data, keyring=keyring, now=clock.now())

    @get(summary="List your API keys", operation_id="listApiKeys", guards=[needs(Scope.READ)])
    async def list_keys(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[ApiKeyView]:
        """Your keys, revoked ones too, oldest first, without their secrets."""
        size = checked_size(page_size)
        rows = await service.list_keys(db, caller, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda key: key.id)

    @delete(
        "/{key_id:uuid}",
        summary="Revoke an API key",
        operation_id="revokeApiKey",
        opt=ENDS_ACCESS,
        guards=[needs(Scope.ADMIN)],
    )
    async def revoke(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], key_id: FromPath[UUID]
    ) -> None:
        """Ends the key at once."""
        await service.revoke_key(db, caller, key_id)
