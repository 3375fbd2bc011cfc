"""Linting over HTTP."""

import json
from typing import Any

import httpx
import pytest

from broker.grants.policies.api import DOCUMENT_EXAMPLE, IDENTITY_EXAMPLE, MAX_POLICIES, POLICIES_EXAMPLE
from tests.app.conftest import Register


async def test_policies_are_linted(register: Register) -> None:
    client = await register("owner")
    asked = {"identity_arn": IDENTITY_EXAMPLE, "policies": {**POLICIES_EXAMPLE, "as-text": "{"}}

    answer = await client.post("/v1/policies/lint", json=asked)

    assert 200 == answer.status_code, answer.text
    said = answer.json()
    assert (False, None) == (said["ok"], said["explanation"])
    assert [
        ("not_json", "error", "as-text", None, None),
        ("regex_pattern", "warning", "agency", "0", "StringLike ses:FromAddress"),
        ("no_end_date", "warning", "agency", "0", None),
    ] == [
        (each["code"], each["severity"], each["policy"], each["statement"], each["condition"])
        for each in said["findings"]
    ]
    assert all(each["detail"].endswith(".") and each["fix"] for each in said["findings"])


async def test_what_is_only_warned_of_is_ok(register: Register) -> None:
    client = await register("owner")
    asked = {
        "identity_arn": IDENTITY_EXAMPLE,
        "policies": {name: json.dumps(document) for name, document in POLICIES_EXAMPLE.items()},
    }

    said = (await client.post("/v1/policies/lint", json=asked)).json()

    assert said["ok"] is True
    assert [
        (
            "Account 222222222222 may use SendEmail and SendRawEmail, if From matches marketing+.*@example.com.",
            "marketing+.any@example.com",
        )
    ] == [(each["sentence"], each["example"]["from"]) for each in said["explanation"]["may"]]
    assert said["explanation"]["cannot"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"identity_arn": "example.com"}, "/identity_arn"),
        ({"policies": {}}, "/policies"),
        ({"policies": {f"p{number}": "{}" for number in range(MAX_POLICIES + 1)}}, "/policies"),
        ({"policies": {"a": 1}}, "/policies"),
    ],
)
async def test_what_cannot_be_linted_names_its_field(
    register: Register, change: dict[str, object], pointer: str
) -> None:
    client = await register("owner")
    asked = {"identity_arn": IDENTITY_EXAMPLE, "policies": POLICIES_EXAMPLE}

    answer = await client.post("/v1/policies/lint", json={**asked, **change})

    assert (422, [pointer]) == (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]])


async def test_linting_needs_a_key(anonymous: httpx.AsyncClient) -> None:
    assert 401 == (await anonymous.post("/v1/policies/lint", json={})).status_code


async def test_policies_are_compared_by_what_they_mean(register: Register) -> None:
    """A document or a list, as JSON or as text."""
    client = await register("owner")
    before: dict[str, Any] = DOCUMENT_EXAMPLE
    statement = {**before["Statement"][0], "Principal": {"AWS": ["222222222222", "333333333333"]}}
    after = json.dumps({**before, "Statement": [statement]})

    told = (await client.post("/v1/policies/diff", json={"old": before, "new": [after]})).json()
    same = (await client.post("/v1/policies/diff", json={"old": [before], "new": json.dumps(before, indent=4)})).json()

    assert "widens" == told["effect"]
    assert [("0", "widens")] == [(each["statement"], each["effect"]) for each in told["changes"]]
    assert "333333333333" in told["changes"][0]["text"]
    assert {"effect": "neither", "changes": []} == same


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"old": "{"}, "/old"), ({"new": [DOCUMENT_EXAMPLE] * (MAX_POLICIES + 1)}, "/new"), ({"new": [{}]}, "/new")],
)
async def test_what_cannot_be_compared_names_its_side(
    register: Register, change: dict[str, object], pointer: str
) -> None:
    client = await register("owner")

    answer = await client.post("/v1/policies/diff", json={"old": DOCUMENT_EXAMPLE, "new": DOCUMENT_EXAMPLE, **change})

    assert (422, [pointer]) == (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]])
