"""What every HTTP route shares: problem details, request ids, scopes, idempotency, pages, ETags."""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
import structlog
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import ResponseHeader
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter
from litestar.types import Guard

from broker import bodies, log
from broker.caller import Caller, IdempotencyRequest, Scope
from broker.crypto import Keyring
from broker.errors import (
    BadRequest,
    BrokerError,
    Flaw,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from broker.idempotency import Replayed

PROBLEM = "application/problem+json"
TYPES = "https://ses-delegation-broker.dev/problems/"
MAX_PAGE = 100
LEAST_UNBOUND = 16  # characters: the answer to a registration holds a secret, and an address may be shared

IfMatch = Annotated[
    str | None,
    HeaderParameter(name="If-Match", description="The ETag of the offer that you looked at; one strong tag"),
]

# `opt` of a route by which access is taken away: nothing limits how often. And of one that is counted by the minute.
ENDS_ACCESS = {"ends_access": True}
COUNTED = "act"

# For answers that hold a secret: no cache may keep them (RFC 9111, section 5.2.2.5).
NO_STORE = (ResponseHeader(name="Cache-Control", value="no-store", description="The answer holds a secret"),)

T = TypeVar("T")
BrokerRequest = Request[Any, Caller, Any]

logger = log.get(__name__)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457): a stable `type`, a sentence in `detail`, the fields in `errors`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    request_id: str = ""
    errors: tuple[Flaw, ...] = ()


class _Tagged(msgspec.Struct, frozen=True):
    """An answer as far as its headers depend on it."""

    etag: str | None = None


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
    """Before a route is called: values of another type than the document says, which the framework would convert."""
    taken = request.route_handler.parsed_fn_signature.parameters
    if "data" not in taken:
        times = _times_of(request.route_handler)
        bodies.refuse_numbers(request.scope["query_string"], times)
        return
    body = await request.body()
    if not body:
        return
    try:
        bodies.refuse_loose(body, taken["data"].annotation)
    except msgspec.ValidationError as error:
        item = {"key": "data", "message": str(error)}
        flaw = Flaw(pointer=_pointer(item), detail=_sentence(str(error)))
        raise Invalid(f"The body is not valid: {flaw.detail}", flaws=(flaw,)) from error


@cache
def _times_of(handler: BaseRouteHandler) -> frozenset[str]:
    """The parameters of a route that are times."""
    taken = handler.parsed_fn_signature.parameters
    return frozenset(
        name for name, field in taken.items() if field.has_inner_subclass_of(datetime) or field.is_subclass_of(datetime)
    )


async def provide_caller(request: BrokerRequest) -> Caller:
    """The authenticated caller, with the request's `Idempotency-Key` if it has one."""
    key = request.headers.get("idempotency-key")
    if key is None or request.method != "POST":
        return request.auth
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


def problem_of(error: BrokerError, path: str) -> Problem:
    """An error of ours as problem details."""
    return Problem(
        type=TYPES + error.slug,
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=path,
        request_id=structlog.contextvars.get_contextvars().get("request_id", ""),
        errors=error.flaws,
    )


def retry_headers(error: BrokerError) -> dict[str, str]:
    """When to come back, in whole seconds, where that would help (RFC 9110, section 10.2.3)."""
    if not isinstance(error, Unavailable | TooManyRequests):
        return {}
    return {"Retry-After": str(max(1, round(error.retry_after.total_seconds())))}


def problem(request: Request[Any, Any, Any], error: BrokerError) -> Response[Problem]:
    """The answer to an error of ours."""
    headers = retry_headers(error)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="ses-delegation-broker"'
    body = problem_of(error, request.url.path)
    return Response(body, status_code=error.status, media_type=PROBLEM, headers=headers)


def answer_broker_error(request: BrokerRequest, error: BrokerError) -> Response[Problem]:
    return problem(request, error)


def answer_http_error(request: BrokerRequest, error: HTTPException) -> Response[Problem]:
    """Litestar's own errors in our form; a body that can be read but is not valid is 422 with its fields."""
    if isinstance(error, ValidationException):
        return problem(request, _from_validation(error))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(request, NotFound("There is nothing at this path."))
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return answer_crash(request, error)
    status = HTTPStatus(error.status_code)
    known = {400: BadRequest, 401: Unauthenticated, 403: Forbidden, 413: TooLarge}.get(error.status_code)
    if known:
        return problem(request, known(_sentence(error.detail)))
    body = Problem(
        type=TYPES + status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        status=error.status_code,
        detail=_sentence(error.detail or status.phrase),
        instance=request.url.path,
    )
    return Response(body, status_code=error.status_code, media_type=PROBLEM, headers=error.headers)


def answer_unreadable(request: BrokerRequest, error: RecursionError | UnicodeDecodeError) -> Response[Problem]:
    """A body that no parser takes; both are raised by the decoder of JSON, and by nothing else in a request."""
    nested = isinstance(error, RecursionError)
    return problem(request, BadRequest("The body is nested too deeply." if nested else "The body is not UTF-8."))


def answer_crash(request: BrokerRequest, error: Exception) -> Response[Problem]:
    """What nobody foresaw: logged with its trace, told without it."""
    logger.error("request failed", path=request.url.path, exc_info=error)
    return problem(request, BrokerError("An unexpected error; it was logged under this request id."))


def answer_replay(keyring: Keyring) -> Callable[[BrokerRequest, Replayed], Response[bytes]]:
    """The stored answer of an `Idempotency-Key`, decrypted where it holds a secret."""

    def answer(_request: BrokerRequest, replayed: Replayed) -> Response[bytes]:
        body = keyring.open(replayed.body) if replayed.sealed else replayed.body
        tag = msgspec.json.decode(body, type=_Tagged).etag
        return Response(
            body,
            status_code=replayed.status,
            media_type="application/json",
            headers={
                "Idempotent-Replayed": "true",
                **({"ETag": tag} if tag else {}),
                **({"Cache-Control": "no-store"} if replayed.sealed else {}),
            },
        )

    return answer


def _from_validation(error: ValidationException) -> BrokerError:
    extra = error.extra if isinstance(error.extra, list) else []
    if not extra:
        return BadRequest(_sentence(error.detail))
    sources = {str(item.get("source", "body")) for item in extra}
    if "path" in sources:
        return NotFound("There is nothing with this id.")
    flaws = tuple(Flaw(pointer=_pointer(item), detail=_sentence(item.get("message", ""))) for item in extra)
    if sources <= {"body"}:
        return Invalid("The body is not valid: " + " ".join(flaw.detail for flaw in flaws), flaws=flaws)
    names = ", ".join(str(item.get("key", "")) for item in extra)
    return BadRequest(f"Not a valid parameter: {names}.", flaws=flaws)


def _pointer(item: dict[str, Any]) -> str:
    """msgspec's `$.terms.principals[0]` or Litestar's key, as a JSON pointer."""
    where = re.sub(r"^data\b", "", str(item.get("key", "")))
    match = re.search(r"`\$([^`]*)`", str(item.get("message", "")))
    if match:
        where = match.group(1)
    unknown = re.search(r"unknown field `([^`]*)`", str(item.get("message", "")))
    parts = [part for part in re.split(r"[.\[\]]+", where) if part and part != "$"]
    if unknown:
        parts.append(unknown.group(1))
    return "".join(f"/{part}" for part in parts)


def _sentence(message: object) -> str:
    text = re.sub(r" - at `[^`]*`", "", str(message)).strip()
    if text == "'data'":  # Litestar's way of saying that there is no body
        text = "Expected `object`, got nothing"
    return text if text.endswith(".") else f"{text}."
