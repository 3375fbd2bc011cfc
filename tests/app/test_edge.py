"""The HTTP edge: problems, scopes, idempotency, and what every route owes a stranger."""

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from broker.clock import now
from broker.ids import new_id
from tests.app.conftest import Register

PROBLEM = "application/problem+json"
PROOF = {"url": "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity", "headers": {}}
DESTINATION: dict[str, Any] = {"name": "own", "event_types": ["bounce"], "eventbridge": {}}
PROPOSAL: dict[str, Any] = {
    "identity_arn": "arn:aws:ses:eu-west-1:111111111111:identity/example.com",
    "terms": {"principals": ["222222222222"], "actions": ["send"], "expires_at": "2099-01-01T00:00:00Z"},
}


# What has a body and changes nothing, so that a key that only reads may call it.
ONLY_ASK = ("/v1/policies/lint", "/v1/policies/diff", "/room")


def routes_of(app: Litestar) -> list[tuple[str, str, bool]]:
    """(method, path with made-up ids, whether a key is needed) of every route of the API."""
    found: list[tuple[str, str, bool]] = []
    for route in app.routes:
        if not isinstance(route, HTTPRoute) or route.path.startswith("/schema"):
            continue
        path = "/".join(
            (f"{new_id()}.{new_id()}" if "delivery" in part else str(new_id())) if part.startswith("{") else part
            for part in route.path_format.split("/")
        )
        found += [
            (str(method), path, not handler.opt.get("public"))
            for handler in route.route_handlers
            for method in handler.http_methods
            if method != "OPTIONS"
        ]
    return found


async def test_nobody_gets_in_without_a_key(app: Litestar, anonymous: httpx.AsyncClient) -> None:
    """401 on every route that is not public, whatever the body."""
    answers = {
        (method, path): (await anonymous.request(method, path, json={})).status_code
        for method, path, guarded in routes_of(app)
        if guarded
    }

    assert len(answers) > 30
    assert {401} == set(answers.values())


async def test_an_id_that_is_not_yours_does_not_exist(app: Litestar, register: Register) -> None:
    """404 on every route with an id, before anything is said about the body."""
    client = await register()
    hour_ago = (now() - timedelta(hours=1)).isoformat()
    reason: dict[str, Any] = {
        "/destinations": DESTINATION,
        "/prove": PROOF,
        "/confirm": {"what": "applied"},
        "/replay": {"from": hour_ago},
        "/recover": {"since": hour_ago},
        "/migrate": {"to": "identity_topic"},
        "/adopt": {"delegate_id": str(new_id())},
    }
    answers = {}
    for method, path, guarded in routes_of(app):
        if not guarded or not any(len(part) >= 36 for part in path.split("/")):
            continue
        body = reason.get(
            path[path.rfind("/") :], {"terms": PROPOSAL["terms"]} if path.endswith(("counter", "amend", "room")) else {}
        )
        headers = {"if-match": f'"{new_id()}"'}
        sends = method in {"POST", "PATCH"} and not path.endswith(("decline", "withdraw", "revoke", "relinquish"))
        answer = await client.request(method, path, json=body if sends else None, headers=headers)
        answers[method, path] = answer.status_code

    assert len(answers) > 15
    assert {404} == set(answers.values()), {key: code for key, code in answers.items() if code != 404}


async def test_options_tells_every_method_of_a_path_and_so_does_a_refused_method(
    app: Litestar, register: Register
) -> None:
    """`Allow`, whichever controller a method is in (RFC 9110, sections 9.3.7 and 15.5.6)."""
    client = await register()
    there: dict[str, set[str]] = {}
    sample = {}
    for method, path, _ in routes_of(app):
        shape = re.sub(r"[0-9a-f-]{36}", "{}", path)
        there.setdefault(shape, {"OPTIONS"}).add(method)
        sample[shape] = path
    told = {shape: [await client.request(how, sample[shape]) for how in ("OPTIONS", "PUT")] for shape in there}

    assert sum(len(methods) > 2 for methods in there.values()) > 10
    assert {204, 405} == {answer.status_code for answers in told.values() for answer in answers}
    for which in (0, 1):
        assert there == {shape: set(told[shape][which].headers["allow"].split(", ")) for shape in there}


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"{", 400, None),
        (b"[]", 422, ""),
        (b"{}", 422, ""),
        (b'{"name": "", "roles": ["owner"]}', 422, "/name"),
        (b'{"name": "A", "roles": ["king"]}', 422, "/roles/0"),
        (b'{"name": "A", "roles": ["owner"], "plan": "gold"}', 422, "/plan"),
        (b'{"name": "A", "roles": ["owner"], "contact_email": "nobody"}', 422, "/contact_email"),
        (b'{"name": "' + b"A" * 1_100_000 + b'", "roles": ["owner"]}', 413, None),
    ],
)
async def test_a_bad_body_is_answered_with_a_sentence_and_the_field(
    anonymous: httpx.AsyncClient, body: bytes, status: int, pointer: str | None
) -> None:
    """RFC 9457, with a JSON pointer where a field is to blame."""
    answer = await anonymous.post("/v1/tenants", content=body, headers={"content-type": "application/json"})

    problem = answer.json()
    assert (status, PROBLEM) == (answer.status_code, answer.headers["content-type"])
    assert problem["detail"].endswith(".")
    assert [pointer] == [flaw["pointer"] for flaw in problem.get("errors", [])] or pointer is None


async def test_a_key_can_do_what_its_scopes_say_and_no_more(app: Litestar, register: Register) -> None:
    """A key that only reads is refused by every route that changes something, and by none that reads."""
    admin = await register()
    made = await admin.post("/v1/api-keys", json={"name": "reader", "scopes": ["read"]})
    reader = {"authorization": f"Bearer {made.json()['secret']}"}
    refused: set[str] = set()
    allowed: set[str] = set()

    for method, path, guarded in routes_of(app):
        if guarded and not path.endswith(ONLY_ASK):
            answer = await admin.request(method, path, json={} if method != "GET" else None, headers=reader)
            (refused if answer.status_code == 403 else allowed).add(method)

    assert ({"POST", "PATCH", "DELETE"}, {"GET"}) == (refused, allowed)


async def test_an_answer_with_a_secret_is_not_kept_by_caches(register: Register) -> None:
    """API keys and signing secrets are shown once."""
    client = await register()
    key = await client.post("/v1/api-keys", json={"name": "ci", "scopes": ["read"]})
    endpoint = await client.post("/v1/endpoints", json={"url": "https://hooks.example.com/"})

    assert ("no-store", "no-store") == (key.headers["cache-control"], endpoint.headers["cache-control"])


async def test_a_key_cannot_make_a_wider_one(register: Register) -> None:
    """Scopes never grow."""
    admin = await register()
    made = await admin.post("/v1/api-keys", json={"name": "half", "scopes": ["admin", "read"]})

    answer = await admin.post(
        "/v1/api-keys",
        json={"name": "whole", "scopes": ["decide"]},
        headers={"authorization": f"Bearer {made.json()['secret']}"},
    )

    assert 403 == answer.status_code


async def test_a_revoked_key_is_refused_at_once_and_the_last_one_cannot_be(register: Register) -> None:
    """Nobody locks itself out."""
    admin = await register()
    made = (await admin.post("/v1/api-keys", json={"name": "second", "scopes": ["admin"]})).json()
    second = {"authorization": f"Bearer {made['secret']}"}
    first = (await admin.get("/v1/api-keys")).json()["items"][0]

    gone = await admin.delete(f"/v1/api-keys/{first['id']}", headers=second)
    refused = await admin.get("/v1/tenant")
    last = await admin.delete(f"/v1/api-keys/{made['key']['id']}", headers=second)

    assert (204, 401, 409) == (gone.status_code, refused.status_code, last.status_code)


async def test_the_same_idempotency_key_answers_the_same_and_works_once(register: Register) -> None:
    """Also where the answer holds a secret: it is stored encrypted and comes back."""
    client = await register()
    asked = {"name": "ci", "scopes": ["read"]}
    headers = {"idempotency-key": str(new_id())}

    first = await client.post("/v1/api-keys", json=asked, headers=headers)
    again = await client.post("/v1/api-keys", json=asked, headers=headers)
    other = await client.post("/v1/api-keys", json={**asked, "name": "cd"}, headers=headers)

    assert (201, 201, 422) == (first.status_code, again.status_code, other.status_code)
    assert first.json() == again.json()
    assert "true" == again.headers["idempotent-replayed"]
    assert 2 == len((await client.get("/v1/api-keys")).json()["items"])


async def test_an_idempotency_key_belongs_to_its_api_key(register: Register) -> None:
    """Two tenants may use the same one."""
    headers = {"idempotency-key": str(new_id())}
    asked = {"name": "ci", "scopes": ["read"]}

    answers = [await (await register()).post("/v1/api-keys", json=asked, headers=headers) for _ in range(2)]

    assert answers[0].json()["key"]["id"] != answers[1].json()["key"]["id"]


@pytest.mark.parametrize(
    ("if_match", "status"),
    [(None, 428), ("*", 412), ('W/"0190c2a0-0000-7000-8000-000000000000"', 412), ("nonsense", 412)],
)
async def test_approving_needs_the_one_strong_tag(register: Register, if_match: str | None, status: int) -> None:
    """428 without If-Match, 412 for what cannot match."""
    client = await register()
    headers = {} if if_match is None else {"if-match": if_match}

    answer = await client.post(f"/v1/grants/{new_id()}/approve", headers=headers)

    assert (status, PROBLEM) == (answer.status_code, answer.headers["content-type"])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"identity_arn": "arn:aws:ses:eu-west-1:111111111111:identity/nobody.example"}, "/identity_arn"),
        ({"terms": {**PROPOSAL["terms"], "actions": ["send_everything"]}}, "/terms/actions/0"),
        ({"terms": {**PROPOSAL["terms"], "colour": "red"}}, "/terms/colour"),
        ({"terms": {"principals": [], "actions": []}}, "/terms"),
    ],
)
async def test_a_bad_proposal_names_its_field(register: Register, change: dict[str, Any], pointer: str) -> None:
    """422 with the pointer, and nothing is stored."""
    client = await register()

    answer = await client.post("/v1/grants", json={**PROPOSAL, **change})

    assert (422, [pointer]) == (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]])
    assert [] == (await client.get("/v1/grants")).json()["items"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("account_id", each) for each in ("", "12", "1111-1111-1111", "111111111111\n", "\uff11" * 12)),
        *(
            ("identity_arn", each)
            for each in ("", "example.com", "arn:aws:ses:eu-west-1:11111111111:identity/a.example")
        ),
    ],
)
async def test_revoking_for_what_is_no_account_or_identity_is_refused(
    register: Register, field: str, value: str
) -> None:
    """In an emergency nobody must be told 202 for a slip of the pen, or for a name where the ARN belongs."""
    client = await register()

    asked = await client.post("/v1/grants/revoke", json={field: value})
    script = await client.get("/v1/grants/revoke-script", params={field: value})

    assert (422, 422) == (asked.status_code, script.status_code)
    assert [f"/{field}"] == [flaw["pointer"] for flaw in asked.json()["errors"]]


@pytest.mark.parametrize("query", ["page_size=0", "page_size=101", "page_size=many", "page_token=%00", "page_token=x"])
async def test_bad_pages_are_refused(register: Register, query: str) -> None:
    """400, never a crash."""
    client = await register()

    answer = await client.get(f"/v1/grants?{query}")

    assert (400, PROBLEM) == (answer.status_code, answer.headers["content-type"])


async def test_pages_follow_each_other(register: Register) -> None:
    """Keyset pages: all entries, each once, in order."""
    client = await register()
    for number in range(5):
        await client.post("/v1/api-keys", json={"name": f"key {number}", "scopes": ["read"]})
    seen, token = [], None
    while True:
        page = (
            await client.get("/v1/audit", params={"page_size": 2, **({"page_token": token} if token else {})})
        ).json()
        seen += [entry["id"] for entry in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break

    assert 6 == len(seen)
    assert sorted(set(seen)) == seen


async def test_every_operation_is_documented(anonymous: httpx.AsyncClient) -> None:
    """A summary, tags, a description and a unique id each; bodies with an example."""
    schema = (await anonymous.get("/schema/openapi.json")).json()
    operations = [
        operation
        for item in schema["paths"].values()
        for method, operation in item.items()
        if method in {"get", "post", "patch", "delete"}
    ]

    assert len(operations) > 40
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    lacking = [
        operation["operationId"]
        for operation in operations
        if not (operation.get("summary") and operation.get("tags") and operation.get("description"))
    ]
    without_example = [
        (operation["operationId"], status)
        for operation in operations
        for status, answer in [("body", operation.get("requestBody", {})), *operation["responses"].items()]
        for media in answer.get("content", {}).values()
        if media.get("example") is None and status != "204"
    ]
    assert [] == lacking
    assert [] == without_example


async def test_readiness_tells_the_truth(anonymous: httpx.AsyncClient) -> None:
    """With the database there, the process can serve."""
    answer = await anonymous.get("/health/ready")

    assert (200, "ok") == (answer.status_code, answer.json()["database"]["status"])
