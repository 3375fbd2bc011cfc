"""Parameters of the query: what a route does not have is refused, and what is wrong is named as it was written."""

from typing import Any

import httpx
import pytest
from litestar import Litestar

from broker import queries
from broker.ids import new_id
from tests.app.conftest import Register
from tests.app.test_edge import PROBLEM, PROPOSAL, routes_of

KEYLESS = {"/health/live", "/health/ready", "/metrics", "/v1/feedback/sns"}
WRONG = "not-valid"
KINDS = ("integer", "boolean", "uuid", "date", "date-time", "enum")


def documented(app: Litestar) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(method, path with made-up ids, parameters) of every operation that the document tells of."""
    schema = app.openapi_schema.to_schema()
    return [
        (method.upper(), path.format_map(_MadeUp()), told.get("parameters", []))
        for path, item in schema["paths"].items()
        for method, told in item.items()
        if method in {"get", "post", "patch", "delete"}
    ]


class _MadeUp(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return f"{new_id()}.{new_id()}" if name == "delivery_id" else str(new_id())


def kinds(schema: Any, schemas: dict[str, Any]) -> set[str]:
    """What a value may be, over all alternatives; null left out."""
    if "$ref" in schema:
        return kinds(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return {kind for each in schema[several] for kind in kinds(each, schemas)}
    if "enum" in schema:
        return {"enum"}
    told = schema.get("type", "string")
    types = set(told if isinstance(told, list) else [told]) - {"null"}
    return {schema.get("format", "string") if kind == "string" else kind for kind in types}


async def test_every_route_refuses_a_parameter_that_it_does_not_have(app: Litestar, register: Register) -> None:
    """400 that names it; only what machines of others call takes everything."""
    client = await register()
    routes = [each for each in routes_of(app) if each[1] not in KEYLESS]
    answers = {
        (method, path): await client.request(method, f"{path}?zz=1", json=None if method == "GET" else {})
        for method, path, _ in routes
    }

    assert len(answers) > 90
    assert {(400, PROBLEM)} == {(each.status_code, each.headers["content-type"]) for each in answers.values()}
    assert {"/zz"} == {flaw["pointer"] for each in answers.values() for flaw in each.json()["errors"]}
    assert {True} == {"has no parameter zz" in each.json()["detail"] for each in answers.values()}


@pytest.mark.parametrize("path", sorted(KEYLESS))
async def test_a_probe_is_not_refused_for_its_address(anonymous: httpx.AsyncClient, path: str) -> None:
    """A load balancer that adds a parameter would take a healthy server out of service."""
    method = "POST" if path.endswith("/sns") else "GET"

    plain, more = [(await anonymous.request(method, f"{path}{query}")).status_code for query in ("", "?nocache=1")]

    assert plain == more


@pytest.mark.parametrize("path", ["/schema/openapi.json", "/schema/assets/favicon-32x32.png", "/schema"])
async def test_the_documents_may_be_asked_for_with_anything(anonymous: httpx.AsyncClient, path: str) -> None:
    """A browser's way around its cache."""
    answer = await anonymous.get(f"{path}?v=2", follow_redirects=True)

    assert 200 == answer.status_code


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("identity_arm=a", "parameter identity_arm; did you mean identity_arn?"),
        ("Page_Size=5", "parameter Page_Size; did you mean page_size?"),
        ("status=active", "parameter status."),
        ("page_size=5&status", "parameter status."),
        ("status=", "parameter status."),
        ("=a", "parameter without a name."),
        ("page%5Fsizes=5", "parameter page_sizes; did you mean page_size?"),
        ("page_size=5;status=active&x%00%0Ay=1", "NUL"),
        ("x%0Ay=1", "parameter x\ufffdy."),
        ("%ff=1", "parameter \ufffd."),
        ("a=1&b=2", "parameter b."),
        ("x" * 5_000 + "=1", f"parameter {'x' * queries.LONGEST}…."),
        ("&".join(f"a{number}=1" for number in range(500)), "It takes identity_arn, page_size, page_token."),
    ],
)
async def test_a_slip_of_the_pen_is_named_with_what_was_meant(register: Register, query: str, said: str) -> None:
    """The closest name where one is close, and all that the route takes; a flood of names is not said again."""
    client = await register()

    answer = await client.get(f"/v1/grants?{query}")

    problem = answer.json()
    assert (400, True) == (answer.status_code, said in problem["detail"]), answer.text
    assert len(answer.content) < 2_000
    assert len(problem.get("errors", [])) <= queries.MOST


async def test_a_misspelt_dry_run_revokes_nothing(register: Register) -> None:
    """What belongs in the body is not looked for in the query, and not passed over there either."""
    client = await register()

    answer = await client.post("/v1/grants/revoke?dry_run=true", json={"account_id": "222222222222"})
    audit = (await client.get("/v1/audit")).json()["items"]

    assert (400, True) == (answer.status_code, "It takes none." in answer.json()["detail"])
    assert not [entry for entry in audit if "revo" in entry["action"]]


async def test_options_are_told_whatever_the_query(register: Register) -> None:
    """They say what a path can do."""
    client = await register()

    assert 204 == (await client.options("/v1/grants?zz=1")).status_code


def test_what_is_taken_is_what_the_document_tells(app: Litestar) -> None:
    """Name by name, of every operation."""
    told = {
        (told["operationId"], frozenset(each["name"] for each in told.get("parameters", []) if each["in"] == "query"))
        for item in app.openapi_schema.to_schema()["paths"].values()
        for told in item.values()
        if isinstance(told, dict)
    }
    read = {
        (handler.operation_id, queries.taken(handler).query)
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if getattr(handler, "operation_id", None) and handler.resolve_include_in_schema()
    }

    assert len(told) > 90
    assert told == read


async def test_a_wrong_parameter_is_named_as_it_was_written(app: Litestar, register: Register) -> None:
    """On every route, every parameter of the query that is not free text; also where the code has another name."""
    client = await register()
    schemas = app.openapi_schema.to_schema()["components"]["schemas"]
    tried, wrong = set(), []
    for method, path, parameters in documented(app):
        for each in parameters:
            if each["in"] != "query" or not kinds(each["schema"], schemas) & set(KINDS):
                continue
            name = each["name"]
            tried.add(name)
            answer = await client.request(method, path, params={name: WRONG}, json=None if method == "GET" else {})
            named = [flaw["pointer"] for flaw in answer.json().get("errors", [])]
            if (400, [f"/{name}"]) != (answer.status_code, named) or name not in answer.json()["detail"]:
                wrong.append((method, path, name, answer.text))

    assert [] == wrong
    assert tried >= {"from", "until", "state", "page_size", "since", "format", "grant_id"}


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/latencies", "from"), ("/v1/latencies", "until"), ("/v1/audit", "since"), ("/v1/events", "since")],
)
async def test_a_time_is_no_number_whatever_the_code_calls_it(register: Register, path: str, name: str) -> None:
    """Nobody means seconds since 1970."""
    client = await register()

    answer = await client.get(path, params={name: "1767225600"})

    assert (400, True) == (answer.status_code, answer.json()["detail"].startswith(f"{name} must be a time"))


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (
            "/v1/simulations",
            {"send": {"call": "smtp", "from": 1}, "identity_arn": PROPOSAL["identity_arn"]},
            "/send/from",
        ),
        ("/v1/endpoints/{endpoint}/replay", {"from": "yesterday"}, "/from"),
    ],
)
async def test_a_field_of_another_name_in_the_code_is_named_as_written(
    register: Register, path: str, body: dict[str, Any], pointer: str
) -> None:
    """`from` is a word of Python."""
    client = await register()
    made = await client.post("/v1/endpoints", json={"url": "https://hooks.example.com/"})

    answer = await client.post(path.format(endpoint=made.json()["id"]), json=body)

    assert (422, [pointer]) == (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]])
