"""Input that no client of good will sends: the right problem, a sentence, the field, and never a 500."""

import asyncio
import json
from time import process_time
from typing import Any

import httpx
import pytest
from litestar import Litestar

from broker.ids import new_id
from tests.app.conftest import Register
from tests.app.test_edge import PROBLEM, PROPOSAL, routes_of

JSON = {"content-type": "application/json"}
TERMS: dict[str, Any] = PROPOSAL["terms"]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"", 422, ""),
        (b'{"name": "\xff", "roles": ["owner"]}', 400, None),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, 400, None),
        (b"[" * 100_000, 400, None),
        (b'{"name": "a\\u0000b", "roles": ["owner"]}', 422, "/name"),
        (b'{"name": "a", "roles": ["owner"], "contact_email": "a\\\\\\u0000@b"}', 422, "/contact_email"),
        (b'{"name": "a", "roles": ["owner"], "contact_email": "a@b\\n"}', 422, "/contact_email"),
        (b'{"name": "a\\u202eb", "roles": ["owner"]}', 422, "/name"),
        (b'{"name": "a", "name": "b", "roles": ["owner"]}', 422, None),
        (b'{"name": "a", "n\\u0061me": "b", "roles": ["owner"]}', 422, None),
        (b'{"name": "  ", "roles": ["owner"]}', 422, "/name"),
    ],
)
async def test_an_unreadable_body_is_the_clients_fault(
    anonymous: httpx.AsyncClient, body: bytes, status: int, pointer: str | None
) -> None:
    """Postgres cannot hold NUL, and a name that people decide by has no invisible characters."""
    answer = await anonymous.post("/v1/tenants", content=body, headers=JSON)

    problem = answer.json()
    assert (status, PROBLEM) == (answer.status_code, answer.headers["content-type"]), answer.text
    assert problem["detail"].endswith(".")
    assert "'data'" not in problem["detail"]
    assert ([] if pointer is None else [pointer]) == [flaw["pointer"] for flaw in problem.get("errors", [])]


async def test_a_policy_with_a_key_that_stands_twice_is_refused(register: Register) -> None:
    """A simulation must not say "allowed" of a statement that another reader takes for a Deny."""
    client = await register()
    arn = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
    statement = f'{{"Effect":"Deny","Effect":"Allow","Principal":"*","Action":"ses:SendEmail","Resource":"{arn}"}}'
    pasted = f'{{"Version":"2012-10-17","Statement":[{statement}]}}'
    send = '{"call":"v2_send_email_simple","from":"a@example.com","caller":"222222222222"}'
    for path, body in (
        ("/v1/simulations", f'{{"policies":[{pasted}],"identity_arn":"{arn}","dns":false,"send":{send}}}'),
        ("/v1/policies/lint", f'{{"policies":{{"a":{pasted}}},"identity_arn":"{arn}"}}'),
        ("/v1/policies/diff", f'{{"old":{pasted},"new":{pasted}}}'),
        ("/v1/grants/revoke", '{"account_id":"222222222222","dry_run":true,"dry_run":false}'),
    ):
        answer = await client.post(path, content=body, headers=JSON)

        assert (422, True) == (answer.status_code, "stands twice" in answer.text), (path, answer.text)


async def test_finding_a_name_twice_takes_no_longer_than_reading(anonymous: httpx.AsyncClient) -> None:
    """Compared one with another, 90,000 names would hold the process up for minutes."""
    names = ",".join(f'"a{number}":1' for number in range(90_000))
    began = process_time()

    answer = await anonymous.post("/v1/tenants", content=f'{{{names},"a89999":2}}', headers=JSON)

    assert (422, True) == (answer.status_code, "'a89999' stands twice" in answer.text)
    assert process_time() - began < 10  # seconds of processor time; 0.2 are needed, and some to look for garbage


async def test_a_backslash_before_u0000_is_ordinary_text(anonymous: httpx.AsyncClient) -> None:
    r"""`\\u0000` in JSON is a backslash and five characters."""
    answer = await anonymous.post("/v1/tenants", content=rb'{"name": "a\\u0000", "roles": ["owner"]}', headers=JSON)

    assert (201, r"a\u0000") == (answer.status_code, answer.json()["tenant"]["name"])


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/api-keys", {"name": "k\0", "scopes": ["read"]}, "/name"),
        (
            "/v1/api-keys",
            {"name": "k", "scopes": ["read"], "expires_at": "9999-12-31T23:59:59-14:00"},
            "/expires_at",
        ),
        ("/v1/connections", {"kind": "proof", "account_id": "111111111111\n"}, "/account_id"),
        ("/v1/connections", {"kind": "role", "account_id": "111111111111", "regions": ["eu-west-1\n"]}, "/regions/0"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/\0"}, "/url"),
        ("/v1/endpoints", {"url": "http://127.0.0\x01.1/"}, "/url"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/", "description": "\0"}, "/description"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/", "grant_ids": ["x"]}, "/grant_ids/0"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/", "identity_arns": ["arn:aws:x\n"]}, "/identity_arns/0"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/", "headers": {"Host": "a"}}, "/headers/Host"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/", "headers": {"a/b": "c"}}, "/headers/a~1b"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/", "headers": {"a": "c\r\nx: y"}}, "/headers/a"),
        ("/v1/endpoints", {"url": "http://127.0.0.1/", "headers": {f"a{n}": "c" for n in range(11)}}, "/headers"),
        ("/v1/grants", {**PROPOSAL, "note": "\0"}, "/note"),
        ("/v1/grants", {**PROPOSAL, "terms": {**TERMS, "from_addresses": ["a", "\0"]}}, "/terms/from_addresses/1"),
    ],
)
async def test_a_value_that_cannot_be_kept_is_named(
    register: Register, path: str, body: dict[str, Any], pointer: str
) -> None:
    """NUL, a line end behind a pattern, a time that no calendar has in UTC."""
    client = await register()

    answer = await client.post(path, json=body)

    assert (422, [pointer]) == (answer.status_code, [flaw["pointer"] for flaw in answer.json().get("errors", [])])


@pytest.mark.parametrize("path", ["/v1/identities?name=a%00", "/v1/grants?identity_arn=%00"])
async def test_a_query_with_nul_is_refused(register: Register, path: str) -> None:
    """400, with a sentence."""
    client = await register()

    answer = await client.get(path)

    assert (400, PROBLEM) == (answer.status_code, answer.headers["content-type"])


async def test_a_tag_that_is_no_id_cannot_match(register: Register) -> None:
    """36 characters of the right alphabet do not make an id."""
    client = await register()

    answers = [
        (await client.post(f"/v1/grants/{new_id()}/approve", headers={"if-match": f'"{tag}"'})).status_code
        for tag in ("a" * 36, "-" * 36, "0" * 36)
    ]

    assert [412, 412, 412] == answers


async def test_asking_for_the_methods_of_a_path_is_no_crash(app: Litestar, register: Register) -> None:
    """OPTIONS on every route, with a key and without."""
    client = await register()
    paths = {path for _, path, _ in routes_of(app)}

    with_key = {(await client.options(path)).status_code for path in paths}
    without = {(await client.options(path, headers={"authorization": ""})).status_code for path in paths}

    assert {204} == with_key
    assert without <= {204, 401}


async def test_an_idempotency_key_covers_the_tag_that_was_decided_on(register: Register) -> None:
    """Another If-Match is another request: else a replay would pretend that the newer offer was approved."""
    client = await register()
    path, key = "/v1/endpoints", {"idempotency-key": str(new_id())}
    body = {"url": "http://127.0.0.1:1/"}

    first = await client.post(path, json=body, headers={**key, "if-match": f'"{new_id()}"'})
    other = await client.post(path, json=body, headers={**key, "if-match": f'"{new_id()}"'})

    assert (201, 422) == (first.status_code, other.status_code)


async def test_a_tenant_may_register_another_one_once(register: Register) -> None:
    """Registration with a key in hand is remembered under that key."""
    client = await register()
    headers = {"idempotency-key": str(new_id())}
    body = {"name": "A daughter", "roles": ["owner"]}

    first = await client.post("/v1/tenants", json=body, headers=headers)
    again = await client.post("/v1/tenants", json=body, headers=headers)

    assert (201, 201) == (first.status_code, again.status_code)
    assert first.json() == again.json()


async def test_two_requests_at_once_with_one_idempotency_key_work_once(register: Register) -> None:
    """The others are told that it is still running, or get its answer."""
    client = await register()
    headers = {"idempotency-key": str(new_id())}
    body = {"name": "ci", "scopes": ["read"]}

    answers = await asyncio.gather(*(client.post("/v1/api-keys", json=body, headers=headers) for _ in range(6)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert 1 == len({answer.json()["secret"] for answer in answers if answer.status_code == 201})
    assert 2 == len((await client.get("/v1/api-keys")).json()["items"])


def test_json_escapes_are_what_the_tests_mean() -> None:
    """Three backslashes before `u0000` are one backslash and a NUL."""
    assert "a\\\0" == json.loads(r'"a\\\u0000"')
