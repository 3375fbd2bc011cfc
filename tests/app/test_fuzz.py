"""Nothing that a client may send makes the API fail: every wrong value in every field of every body."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from broker.ids import new_id
from tests.app.conftest import Register
from tests.app.test_edge import PROBLEM, PROOF, PROPOSAL

WRONG: tuple[Any, ...] = (
    "", " ", "\0", "a\0b", "\u202e", "x" * 3000, "${aws:username}", "'; DROP TABLE tenants; --", "1" * 12 + "\n",
    "arn:aws:ses:eu-west-1:111111111111:identity/example.com\n", "https://a.example.com/\0", "2030-01-01T00:00:00",
    "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", 0, -1, 10**40, 1.5, True, None, [], [None], ["\0"], {},
    {"a": "\0"},
)  # fmt: skip
UNKNOWN = "0198c5b0-7c3e-7d21-9a4f-2b6d8e1f3a57"  # nobody's id
GRANT = f"/v1/grants/{UNKNOWN}"
FILTERS: dict[str, Any] = {
    "grant_ids": [str(new_id())],
    "identity_arns": [PROPOSAL["identity_arn"]],
    "headers": {"x-token": "t"},
}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/tenants"): {"name": "A", "roles": ["owner"], "contact_email": "a@example.com"},
    ("PATCH", "/v1/tenant"): {"name": "A", "contact_email": "a@example.com"},
    ("POST", "/v1/api-keys"): {"name": "k", "scopes": ["read"], "expires_at": "2099-01-01T00:00:00Z"},
    ("POST", "/v1/connections"): {"kind": "role", "account_id": "123456789012", "regions": ["eu-west-1"]},
    ("POST", f"/v1/connections/{UNKNOWN}/prove"): PROOF,
    ("POST", "/v1/grants"): {**PROPOSAL, "delegate_id": str(new_id()), "note": "n"},
    ("POST", f"/v1/identities/{UNKNOWN}/room"): {"terms": PROPOSAL["terms"]},
    ("POST", f"{GRANT}/counter"): {"terms": PROPOSAL["terms"], "note": "n"},
    ("POST", f"{GRANT}/amend"): {"terms": PROPOSAL["terms"], "note": "n"},
    ("POST", f"{GRANT}/decline"): {"note": "n"},
    ("POST", f"{GRANT}/revoke"): {"note": "n"},
    ("POST", f"/v1/routes/{UNKNOWN}/destinations"): {
        "name": "own",
        "event_types": ["bounce"],
        "enabled": True,
        "cloudwatch": {"dimensions": [{"name": "a", "source": "message_tag", "default": "b"}]},
    },
    ("PATCH", f"/v1/routes/{UNKNOWN}/destinations/own"): {
        "event_types": ["bounce"],
        "eventbridge": {"bus_arn": "arn"},
    },
    ("POST", "/v1/simulations"): {
        "send": {
            "call": "smtp",
            "from": "a@example.com",
            "caller": "222222222222",
            "at": "2030-01-01T00:00:00Z",
            "source_ip": "203.0.113.7",
            "arns": ["FromArn"],
            "recipients": ["b@example.com"],
        },
        "policies": [{"Version": "2012-10-17", "Statement": []}],
        "identity_arn": PROPOSAL["identity_arn"],
        "dns": False,
    },
    ("POST", "/v1/identities"): {"connection_id": str(new_id()), "region": "eu-west-1", "name": "example.com"},
    ("POST", f"{GRANT}/confirm"): {"what": "applied", "note": "n"},
    ("POST", "/v1/explanations"): {"text": "Email address is not verified."},
    ("POST", "/v1/endpoints"): {
        "url": "http://127.0.0.1:1/",
        "description": "d",
        "event_types": ["email.*"],
        **FILTERS,
    },
    ("PATCH", "/v1/endpoints/{endpoint}"): {
        "url": "http://127.0.0.1:1/",
        "description": "d",
        "event_types": None,
        **FILTERS,
    },
    ("POST", "/v1/endpoints/{endpoint}/rotate"): {"overlap_hours": 24},
}


def mutations(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The body with each field wrong, missing, or one too many; inner objects too."""
    for name, value in body.items():
        for wrong in WRONG:
            yield {**body, name: wrong}
        if isinstance(value, dict):
            for inner in mutations(value):
                yield {**body, name: inner}
        yield {other: kept for other, kept in body.items() if other != name}
    yield {**body, "zz": 1}


@pytest.mark.parametrize(("method", "path"), list(BODIES))
async def test_no_body_makes_it_fail(register: Register, method: str, path: str) -> None:
    """Below 500, as problem details with a sentence, and with the field where the body is to blame."""
    client = await register()
    made = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})
    headers = {"content-type": "application/json", "if-match": f'"{new_id()}"'}
    bad = []

    for body in mutations(BODIES[method, path]):
        answer = await client.request(
            method, path.format(endpoint=made.json()["id"]), content=json.dumps(body), headers=headers
        )
        if answer.status_code < 400:
            continue
        problem = answer.json()
        named = answer.status_code != 422 or problem.get("errors")
        fine = answer.headers["content-type"] == PROBLEM and problem["detail"].endswith(".") and named
        if answer.status_code >= 500 or not fine:
            bad.append((answer.status_code, problem.get("detail"), json.dumps(body)[:200]))

    assert [] == bad
