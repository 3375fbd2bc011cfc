"""Errors as answers: problem details (RFC 9457), with pointers to the fields; and stored answers, given again."""

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from broker import log, queries
from broker.crypto import Keyring
from broker.errors import (
    BadRequest,
    BrokerError,
    Flaw,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from broker.headers import BARE
from broker.idempotency import Replayed

PROBLEM = "application/problem+json"
TYPES = "https://ses-delegation-broker.dev/problems/"

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


async def send_problem(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]], error: BrokerError, path: str
) -> None:
    """The answer to an error of ours where there is no framework between (ASGI 3.0)."""
    body = msgspec.json.encode(problem_of(error, path))
    told = {"content-type": PROBLEM, **retry_headers(error), "content-length": str(len(body))}
    headers = [*((name.lower().encode(), value.encode()) for name, value in told.items()), *BARE]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def answer_broker_error(request: Request[Any, Any, Any], error: BrokerError) -> Response[Problem]:
    return problem(request, error)


def answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Litestar's own errors in our form; a body that can be read but is not valid is 422 with its fields."""
    if isinstance(error, ValidationException):
        written = queries.taken(request.route_handler).written if "route_handler" in request.scope else {}
        return problem(request, _from_validation(error, written))
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


def answer_unreadable(request: Request[Any, Any, Any], error: RecursionError | UnicodeDecodeError) -> Response[Problem]:
    """A body that no parser takes; both are raised by the decoder of JSON, and by nothing else in a request."""
    nested = isinstance(error, RecursionError)
    return problem(request, BadRequest("The body is nested too deeply." if nested else "The body is not UTF-8."))


def answer_crash(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """What nobody foresaw: logged with its trace, told without it."""
    logger.error("request failed", path=request.url.path, exc_info=error)
    return problem(request, BrokerError("An unexpected error; it was logged under this request id."))


def answer_replay(keyring: Keyring) -> Callable[[Request[Any, Any, Any], Replayed], Response[bytes]]:
    """The stored answer of an `Idempotency-Key`, decrypted where it holds a secret."""

    def answer(_request: Request[Any, Any, Any], replayed: Replayed) -> Response[bytes]:
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


def _from_validation(error: ValidationException, written: Mapping[str, str]) -> BrokerError:
    """`written`: the route's arguments by the names that callers write, where the framework tells its own."""
    found = error.extra if isinstance(error.extra, list) else []
    extra = [
        {**item, "key": written.get(item["key"], item["key"])}
        if item.get("source") != "body" and "key" in item
        else item
        for item in found
    ]
    if not extra:
        return BadRequest(_sentence(error.detail))
    sources = {str(item.get("source", "body")) for item in extra}
    if "path" in sources:
        return NotFound("There is nothing with this id.")
    flaws = tuple(flaw_of(item) for item in extra)
    if sources <= {"body"}:
        return Invalid("The body is not valid: " + " ".join(flaw.detail for flaw in flaws), flaws=flaws)
    names = ", ".join(str(item.get("key", "")) for item in extra)
    return BadRequest(f"Not a valid parameter: {names}.", flaws=flaws)


def flaw_of(item: dict[str, Any]) -> Flaw:
    """What msgspec or Litestar say of one field: `message`, and under `key` where it is."""
    return Flaw(pointer=_pointer(item), detail=_sentence(item.get("message", "")))


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
