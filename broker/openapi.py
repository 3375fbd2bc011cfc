"""What the generated OpenAPI document lacks: errors in our form, an example for every operation, and the webhooks."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi.spec import (
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType

from broker import strictness_api
from broker.feedback import documented
from broker.feedback.topics import FEEDBACK_PATH
from broker.openapi_examples import MOMENT, example_of
from broker.problems import PROBLEM, TYPES

METHODS = ("get", "post", "patch", "delete")
ERRORS = {
    400: ("bad-request", "The request cannot be read."),
    401: ("unauthenticated", "Send an API key: Authorization: Bearer sdb_…"),
    403: ("forbidden", "This API key lacks the scope decide."),
    404: ("not-found", "There is no grant with this id."),
    409: ("conflict", "There is no open offer to decide."),
    412: ("precondition-failed", "Another offer was made since you looked; read the grant and decide on that one."),
    413: ("too-large", "The body is too large."),
    422: ("invalid", "The terms are not valid: The end has passed already."),
    428: ("precondition-required", "Send If-Match with the ETag of the offer you looked at."),
    429: ("too-many-requests", "Too many API keys from here were wrong; try again in a moment."),
    503: ("unavailable", "The database cannot be reached right now; nothing was changed."),
}
PASSES = frozenset({429, 503})
"""What passes by itself: these tell when to come back."""

ALSO: Mapping[str, tuple[int, ...]] = {
    "revokeScript": (422,),
    "registerTenant": (403, 429),
    "listSigningKeys": (429,),
}
"""Problems that nothing in the operation tells of."""

# Standard Webhooks 1.0, "Webhook headers".
_HEADERS = {
    "webhook-id": "The event's id, the same over all attempts",
    "webhook-timestamp": "Of this attempt, in seconds",
    "webhook-signature": "`v1,…`, several while the secret is being rotated",
}
_TEXT = Schema(type=OpenAPIType.STRING)
ONLY_ASK = "/v1/policies/"  # what is posted there changes nothing
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    description="The same request under the same key is done once, and answered the same for 24 hours",
    schema=Schema(type=OpenAPIType.STRING, min_length=1, max_length=255),
    example="01a203f1-933e-7384-98d1-0e362595677e",
)


def complete(app: Litestar) -> None:
    """Adds to every operation of the application's document its possible problems and its examples."""
    document = app.openapi_schema
    strictness_api.forbid_others(app, document)
    schemas = document.to_schema()["components"]["schemas"]
    for path, item in (document.paths or {}).items():
        for method in METHODS:
            operation: Operation | None = getattr(item, method)
            if operation is not None:
                _add_problems(operation, path, method)
                if method == "post" and not path.startswith((FEEDBACK_PATH, ONLY_ASK)):
                    operation.parameters = [*(operation.parameters or []), IDEMPOTENCY_KEY]
                for media in _media(operation):
                    _add_example(media, schemas)
    strictness_api.add_csv(document)
    _add_webhooks(document)


def _add_webhooks(document: OpenAPI) -> None:
    """What endpoints are sent: a webhook for each type of event, with its schema and an example."""
    schemas: Any = document.components.schemas if document.components else {}
    schemas |= documented.schemas()
    document.webhooks = {type_: PathItem(post=_webhook(type_, schemas)) for type_ in sorted(documented.TYPES)}


def _webhook(type_: str, schemas: Mapping[str, Any]) -> Operation:
    name = documented.name_of(type_)
    data = example_of(schemas[f"{name}Event"]["properties"]["data"], schemas)
    example = {"type": type_, "timestamp": MOMENT, "data": documented.adapted(type_, data)}
    media = OpenAPIMediaType(schema=Reference(ref=f"#/components/schemas/{name}Event"), example=example)
    return Operation(
        operation_id=f"on{name}",
        summary=f"`{type_}`",
        description=documented.describe(type_),
        tags=["Webhooks"],
        parameters=[
            Parameter(name=header, param_in="header", required=True, description=text, schema=_TEXT)
            for header, text in _HEADERS.items()
        ],
        request_body=RequestBody(content={"application/json": media}, required=True),
        responses={
            "200": OpenAPIResponse(description="Any 2xx: taken. Anything else is tried again."),
            "410": OpenAPIResponse(description="Disables the endpoint."),
        },
        security=[{}],
    )


def _media(operation: Operation) -> Iterator[OpenAPIMediaType]:
    if operation.request_body is not None and not isinstance(operation.request_body, Reference):
        yield from operation.request_body.content.values()
    for status, response in (operation.responses or {}).items():
        if status.startswith("2") and isinstance(response, OpenAPIResponse):
            yield from (response.content or {}).values()


def _add_example(media: OpenAPIMediaType, schemas: Mapping[str, Any]) -> None:
    if media.example is None and media.schema is not None:
        media.example = msgspec.to_builtins(example_of(media.schema.to_schema(), schemas))


def _add_problems(operation: Operation, path: str, method: str) -> None:
    responses = operation.responses = operation.responses or {}
    described = {int(status): _text_of(answer) for status, answer in responses.items() if _is_problem(answer)}
    for status in sorted({*_possible(operation, path, method), *described}):
        slug, detail = ERRORS[status]
        example = {"type": TYPES + slug, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        responses[str(status)] = OpenAPIResponse(
            description=described.get(status) or HTTPStatus(status).phrase,
            content={PROBLEM: OpenAPIMediaType(schema=Reference(ref="#/components/schemas/Problem"), example=example)},
            headers={"Retry-After": _retry_after()} if status in PASSES else None,
        )


def _retry_after() -> OpenAPIHeader:
    return OpenAPIHeader(
        schema=Schema(type=OpenAPIType.INTEGER, minimum=1),
        description="Seconds after which to try again (RFC 9110, section 10.2.3).",
        example=2,
    )


def _is_problem(answer: OpenAPIResponse | Reference) -> bool:
    return isinstance(answer, OpenAPIResponse) and PROBLEM in (answer.content or {})


def _text_of(answer: OpenAPIResponse | Reference) -> str:
    return answer.description or ""


def _possible(operation: Operation, path: str, method: str) -> list[int]:
    """The problems an operation can answer, judged by what it takes."""
    found = [400, 503]
    names = {getattr(parameter, "name", "") for parameter in operation.parameters or []}
    if operation.security != [{}]:
        found += [401, 403, 429]
    if "{" in path or any(name.endswith("_id") for name in names):
        found.append(404)
    if operation.request_body is not None:
        found += [404, 413, 422]
    if (
        method == "post" and path != FEEDBACK_PATH
    ):  # an Idempotency-Key that is in use, or was used with another request
        found += [409, 422]
    if operation.operation_id and "{" in path and not operation.operation_id.startswith(("list", "show")):
        found.append(409)
    if "If-Match" in names:
        found += [412, 428]
    return sorted({*found, *ALSO.get(operation.operation_id or "", ())})
