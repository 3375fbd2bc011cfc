"""What every HTTP route shares: request ids, scopes, idempotency, pages, ETags."""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import ResponseHeader
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter
from litestar.types import Guard

from broker import bodies, log, queries
from broker.caller import Caller, IdempotencyRequest, Scope
from broker.errors import (
    BadRequest,
    Forbidden,
    Invalid,
    PreconditionFailed,
    PreconditionRequired,
)
from broker.problems import flaw_of

MAX_PAGE = 100
LEAST_UNBOUND = 16  # characters: the answer to a registration holds a secret, and an address may be shared

IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", description="The ETag of the offer that you looked at; one strong tag"),
]

PUBLIC = {"public": True}  # `opt` of a route that needs no key
KEYLESS = {**PUBLIC, "keyless": True}  # and of one that does not even look at it, so that no guess is slowed there
# `opt` of a route by which access is taken away: nothing limits how often. And of one that is counted by the minute.
ENDS_ACCESS = {"ends_access": True}
COUNTED = "act"

# For answers that hold a secret: no cache may keep them (RFC 9111, section 5.2.2.5).
NO_STORE = (ResponseHeader(name="Cache-Control", value="no-store", description="The answer holds a secret"),)

T = TypeVar("T")
BrokerRequest = Request[Any, Caller, Any]

logger = log.get(__name__)


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list; give `next_page_token` as `page_token` for the next; empty at the end."""

    items: Sequence[T]
    next_page_token: str | None = None


def page_of(rows: Sequence[T], size: int, key: Callable[[T], UUID]) -> Page[T]:
    """A page from `size + 1` rows read in the order of `key`."""
    if len(rows) <= size:
        return Page(items=rows)
    return Page(items=rows[:size], next_page_token=base64.urlsafe_b64encode(key(rows[size - 1]).bytes).decode())


def after(page_token: str | None) -> UUID | None:
    """The id after which the page begins; `BadRequest` for a token that is not ours."""
    if page_token is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(page_token))
    except ValueError as error:
        raise BadRequest("page_token is not one that this API gave out.") from error


def checked_size(asked: int) -> int:
    """A page size from 1 to 100."""
    if not 1 <= asked <= MAX_PAGE:
        raise BadRequest(f"page_size must be between 1 and {MAX_PAGE}.")
    return asked


def needs(scope: Scope) -> Guard:
    """A guard: the key must have this scope."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        caller: Caller = connection.auth
        if scope not in caller.scopes:
            raise Forbidden(f"This API key lacks the scope {scope.value}.")

    return guard


async def begin(request: BrokerRequest) -> None:
    """Before anything is read from a request: a line in the log, without the query, which may hold what is private."""
    logger.info("request", method=request.method, path=request.url.path)
    await refuse_nul(request)
    await refuse_loose(request)


async def refuse_nul(request: BrokerRequest) -> None:
    """Before anything is read from a request: what the database cannot keep. SNS's own texts are kept without it."""
    reads = request.method in {"POST", "PATCH"} and not request.route_handler.opt.get("any_text")
    bodies.refuse_nul(request.scope["query_string"], await request.body() if reads else b"")


async def refuse_loose(request: BrokerRequest) -> None:
    """Before a route is called: what it does not take, and values of other types, which the framework converts."""
    refuse_query(request.scope["query_string"], queries.taken(request.route_handler))
    taken = request.route_handler.parsed_fn_signature.parameters
    if "data" not in taken:
        return
    body = await request.body()
    if not body:
        return
    try:
        bodies.refuse_loose(body, taken["data"].annotation)
    except msgspec.ValidationError as error:
        flaw = flaw_of({"key": "data", "message": str(error)})
        raise Invalid(f"The body is not valid: {flaw.detail}", flaws=(flaw,)) from error


def refuse_query(query: bytes, taken: queries.Taken) -> None:
    """`BadRequest` for parameters that a route does not have, and for numbers in place of times."""
    if not query:
        return
    if taken.strict:
        queries.refuse_unknown(query, taken.query)
    bodies.refuse_numbers(query, taken.times)


async def provide_caller(request: BrokerRequest) -> Caller:
    """The authenticated caller, with the request's `Idempotency-Key` if it has one."""
    keys = request.headers.getall("idempotency-key", [])
    if not keys or request.method != "POST":
        return request.auth
    if len(keys) > 1:
        raise BadRequest("Send one Idempotency-Key; this request has several.")
    key = keys[0]
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise BadRequest("Idempotency-Key must be 1 to 255 printable characters.")
    if request.auth.key_id is None and len(key) < LEAST_UNBOUND:
        raise BadRequest(
            f"Without an API key an Idempotency-Key needs at least {LEAST_UNBOUND} characters, as a UUID has."
        )
    # Not the body alone: an approval has none, and what it approves is in If-Match.
    said = (request.url.path, request.url.query, request.headers.get("if-match", ""))
    seen = hashlib.sha256("\n".join((request.method, *said, "")).encode("utf-8", "surrogateescape"))
    seen.update(await request.body())
    client = request.client.host if request.client else ""
    return msgspec.structs.replace(
        request.auth,
        idempotency=IdempotencyRequest(
            scope=str(request.auth.key_id or f"address:{client}"),
            key=key,
            fingerprint=seen.digest(),
            status=getattr(request.route_handler, "status_code", None) or HTTPStatus.OK,
        ),
    )


def expected_version(if_match: str | None) -> UUID:
    """The offer id in `If-Match` (RFC 9110, 13.1.1): one strong tag; 428 without, 412 for what cannot match."""
    if if_match is None:
        raise PreconditionRequired("Send If-Match with the ETag of the offer you looked at.")
    match = re.fullmatch(r'"([0-9a-fA-F-]{36})"', if_match.strip())
    if match is None:
        raise PreconditionFailed("If-Match must be the one strong ETag of the latest offer.")
    try:
        return UUID(match.group(1))
    except ValueError as error:
        raise PreconditionFailed("If-Match must be the one strong ETag of the latest offer.") from error
