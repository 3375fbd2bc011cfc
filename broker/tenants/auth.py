"""Authentication: a bearer token becomes a frozen `Caller`, or nobody."""

import hmac
import time
from typing import Any
from uuid import UUID

import msgspec
import structlog
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp
from sqlalchemy import text

from broker.caller import NOBODY, Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Forbidden, TooManyRequests, Unauthenticated
from broker.ids import new_id
from broker.rates import Rates, Standing
from broker.settings import Registration, Settings
from broker.tenants.guesses import Guesses
from broker.tenants.keys import looks_like_one
from broker.tenants.together import Together
from broker.tenants.visits import Visits
from broker.web import COUNTED

STANDING = "standing"  # where the scope's state holds how the caller stands with its rates


class KeyAuthentication(AbstractAuthenticationMiddleware):
    """Looks the key up by its keyed digest; one round trip, no secret in the database.

    A known key with nothing left of its rate is turned away before that: a flood costs the others nothing. There is one
    of these for each route, so what is counted over all of them is given to it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        db: Database,
        keyring: Keyring,
        rates: Rates,
        guesses: Guesses,
        together: Together,
        visits: Visits,
    ) -> None:
        super().__init__(app, exclude="^/schema", exclude_from_auth_key="no_key_at_all", exclude_http_methods=())
        self._db = db
        self._keyring = keyring
        self._guesses = guesses
        self._together = together
        self._rates = rates
        self._visits = visits

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """The caller of this request; routes that are not public refuse nobody."""
        request_id = _request_id(connection.headers.get("x-request-id"))
        structlog.contextvars.bind_contextvars(request_id=request_id)
        caller = Caller(tenant_id=None, actor="nobody", request_id=request_id)
        token = bearer(connection.headers.get("authorization"))
        keyless = connection.route_handler.opt.get("keyless")
        if token is not None and looks_like_one(token) and not keyless:
            caller = await self._admit(connection, token, request_id) or caller
        if caller.tenant_id is None and not connection.route_handler.opt.get("public"):
            raise Unauthenticated("Send an API key: Authorization: Bearer sdb_…")
        return AuthenticationResult(user=caller.tenant_id, auth=caller)

    async def _admit(
        self, connection: ASGIConnection[Any, Any, Any, Any], token: str, request_id: str
    ) -> Caller | None:
        """As the database has it at this moment: a key that was revoked is refused by the next request, everywhere."""
        digest, taken = self._keyring.digest(token), connection.route_handler.opt
        limited = not taken.get("ends_access")
        if limited:
            _answer_for(connection, self._rates.refused(digest, time.monotonic()))
        caller = await self._known(connection, token, digest, request_id=request_id)
        if limited and caller is not None and caller.key_id is not None:
            _answer_for(
                connection,
                self._rates.take(digest, caller.tenant, caller.key_id, act=taken.get(COUNTED), now=time.monotonic()),
            )
        return caller

    async def _known(
        self, connection: ASGIConnection[Any, Any, Any, Any], token: str, digest: bytes, *, request_id: str
    ) -> Caller | None:
        client = connection.client.host if connection.client else ""
        if wait := self._guesses.wait(client, token, digest, at=time.monotonic()):
            found = await self._together.caller_of(client, digest)
            if found is None:
                sentence = "Too many API keys from here were wrong; try again in a moment."
                raise TooManyRequests(sentence, retry_after=wait)
            found = msgspec.structs.replace(found, request_id=request_id)
        else:
            found = await self._find(digest, request_id)
        self._guesses.note(client, token, digest, right=found is not None, at=time.monotonic())
        if found is None and (refusal := self._visits.take(client, now=time.monotonic())):
            raise refusal
        return found

    async def _find(self, digest: bytes, request_id: str) -> Caller | None:
        async with self._db.begin(NOBODY) as session:
            row = (
                await session.execute(
                    text("SELECT key_id, tenant_id, scopes FROM authenticate(:digest)"),
                    {"digest": digest},
                )
            ).one_or_none()
        if row is None:
            return None
        scopes = frozenset(Scope(scope) for scope in row.scopes)
        return Caller(tenant_id=row.tenant_id, key_id=row.key_id, scopes=scopes, request_id=request_id)


def _answer_for(connection: ASGIConnection[Any, Any, Any, Any], standing: Standing | None) -> None:
    """Leaves the standing for the answer's headers; raises what is refused."""
    if standing is None:
        return
    connection.scope["state"][STANDING] = standing
    if standing.refused:
        raise standing.error()


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def may_register(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A guard: registration is open, or needs the operator's token."""
    settings: Settings = connection.app.state.settings
    if settings.registration is Registration.OPEN:
        return
    token = bearer(connection.headers.get("authorization")) or ""
    if not hmac.compare_digest(token.encode(), settings.operator_token.encode()):
        raise Forbidden("Registration needs the operator's token.")


def _request_id(given: str | None) -> str:
    """The caller's own id where it is a UUID, so that it cannot write into our logs; else a new one."""
    try:
        return str(UUID(given)) if given else str(new_id())
    except ValueError:
        return str(new_id())
