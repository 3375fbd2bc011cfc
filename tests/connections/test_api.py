"""Connections and identities over HTTP."""

from typing import Any

import pytest

from broker.ids import new_id
from tests.app.conftest import Register, anonymous, app, register

__all__ = ["anonymous", "app", "register"]

ROLE: dict[str, Any] = {"kind": "role", "account_id": "111111111111", "regions": ["eu-west-1"]}
PROOF: dict[str, Any] = {"kind": "proof", "account_id": "222222222222"}


def account() -> str:
    """A twelve-digit id that no other test has; the application really commits."""
    return str(new_id().int)[-12:]


async def test_a_role_connection_is_made_shown_and_listed(register: Register) -> None:
    client = await register("owner")

    made = await client.post("/v1/connections", json=ROLE)

    assert made.status_code == 201, made.text
    shown = await client.get(f"/v1/connections/{made.json()['id']}")
    listed = await client.get("/v1/connections")
    assert made.json() == shown.json()
    assert {"items": [made.json()], "next_page_token": None} == listed.json()
    assert (made.json()["state"], made.json()["proof"]) == ("pending", None)


async def test_the_same_request_twice_makes_one_connection(register: Register) -> None:
    client = await register("owner")

    answers = [await client.post("/v1/connections", json=ROLE, headers={"idempotency-key": "once"}) for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    assert len((await client.get("/v1/connections")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({**ROLE, "account_id": "1111"}, "/account_id"),
        ({**ROLE, "kind": "key"}, "/kind"),
        ({**ROLE, "regions": ["Europe"]}, "/regions"),
        ({**ROLE, "external_id": "mine"}, "/external_id"),
        ({**ROLE, "regions": []}, "/regions"),
    ],
)
async def test_a_bad_body_is_told_with_its_field(register: Register, body: dict[str, Any], pointer: str) -> None:
    """An ExternalId of the tenant's own choice is no field at all."""
    client = await register("owner")

    answer = await client.post("/v1/connections", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert (await client.get("/v1/connections")).json()["items"] == []


async def test_a_second_connection_to_one_account_is_a_conflict(register: Register) -> None:
    client = await register("owner")
    await client.post("/v1/connections", json=ROLE)

    answer = await client.post("/v1/connections", json=ROLE)

    assert answer.status_code == 409


async def test_verification_is_asked_for_and_answers_at_once(register: Register) -> None:
    client = await register("owner")
    made = await client.post("/v1/connections", json={**ROLE, "account_id": account()})

    answer = await client.post(f"/v1/connections/{made.json()['id']}/verify")

    assert (answer.status_code, answer.json()["state"]) == (202, "pending")


@pytest.mark.parametrize(
    ("form", "first"), [("yaml", "# The role SesDelegationBroker"), ("tf", "# The role"), ("sh", "#!/bin/sh")]
)
async def test_the_template_is_plain_text_in_three_forms(register: Register, form: str, first: str) -> None:
    client = await register("owner")
    made = await client.post("/v1/connections", json=ROLE)

    answer = await client.get(f"/v1/connections/{made.json()['id']}/template", params={"format": form})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith(first)
    assert made.json()["external_id"] in answer.text


async def test_an_unknown_template_form_is_a_bad_request(register: Register) -> None:
    client = await register("owner")
    made = await client.post("/v1/connections", json=ROLE)

    answer = await client.get(f"/v1/connections/{made.json()['id']}/template", params={"format": "pdf"})

    assert answer.status_code == 400


async def test_another_request_than_the_one_asked_for_is_told_with_its_field(register: Register) -> None:
    client = await register("delegate")
    made = await client.post("/v1/connections", json=PROOF)
    sent = {"url": "https://evil.example/?Action=GetCallerIdentity", "headers": made.json()["proof"]["headers"]}

    answer = await client.post(f"/v1/connections/{made.json()['id']}/prove", json=sent)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/url")


async def test_a_stranger_gets_nothing(register: Register) -> None:
    owner, stranger = await register("owner"), await register("owner")
    made = (await owner.post("/v1/connections", json=ROLE)).json()["id"]

    answers = [
        await stranger.get(f"/v1/connections/{made}"),
        await stranger.get(f"/v1/connections/{made}/template"),
        await stranger.post(f"/v1/connections/{made}/verify"),
        await stranger.post(f"/v1/connections/{made}/prove", json={"url": "https://x.example/", "headers": {}}),
        await stranger.delete(f"/v1/connections/{made}"),
    ]

    assert [404] * 5 == [answer.status_code for answer in answers]


async def test_a_removed_connection_is_gone(register: Register) -> None:
    client = await register("owner")
    made = (await client.post("/v1/connections", json=ROLE)).json()["id"]

    answer = await client.delete(f"/v1/connections/{made}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get(f"/v1/connections/{made}")).status_code == 404


async def test_a_tenant_without_identities_sees_an_empty_page(register: Register) -> None:
    client = await register("owner")

    answer = await client.get("/v1/identities")

    assert {"items": [], "next_page_token": None} == answer.json()
