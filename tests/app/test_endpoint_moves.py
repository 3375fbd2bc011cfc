"""Rotating, pausing and resuming an endpoint over HTTP."""

import httpx
import pytest

from tests.app.conftest import Register


async def make(client: httpx.AsyncClient) -> str:
    """The path of a new endpoint with a header of its own."""
    body = {"url": "http://127.0.0.1:1/", "headers": {"Authorization": "Bearer mine"}}
    answer = await client.post("/v1/endpoints", json=body)
    assert answer.status_code == 201, answer.text
    return f"/v1/endpoints/{answer.json()['id']}"


async def test_a_rotated_secret_is_shown_once_and_kept_by_no_cache(register: Register) -> None:
    client = await register()
    path = await make(client)

    made = await client.post(f"{path}/rotate", json={})

    shown = await client.get(path)
    newest, previous = shown.json()["secrets"]
    assert (201, "no-store") == (made.status_code, made.headers["cache-control"])
    assert made.json()["secret"].startswith("whsec_")
    assert "whsec_" not in shown.text
    assert (made.json()["id"], None) == (newest["id"], newest["expires_at"])
    assert made.json()["previous_until"] == previous["expires_at"] is not None


@pytest.mark.parametrize("hours", [-1, 169, 1.5, "x", None])
async def test_an_overlap_is_of_whole_hours_up_to_a_week(register: Register, hours: object) -> None:
    client = await register()

    answer = await client.post(f"{await make(client)}/rotate", json={"overlap_hours": hours})

    assert (422, ["/overlap_hours"]) == (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]])


async def test_of_headers_only_the_names_are_shown(register: Register) -> None:
    client = await register()
    path = await make(client)

    answers = [await client.get(path), await client.get("/v1/endpoints"), await client.patch(path, json={})]

    assert ["authorization"] == answers[0].json()["header_names"]
    assert not any("Bearer mine" in answer.text for answer in answers)


async def test_an_endpoint_is_paused_and_resumed_as_often_as_one_likes(register: Register) -> None:
    client = await register()
    path = await make(client)

    states = [
        (answer.status_code, answer.json()["state"])
        for move in ("pause", "pause", "enable", "resume", "resume")
        for answer in [await client.post(f"{path}/{move}")]
    ]

    assert [(202, "paused")] * 3 + [(202, "active")] * 2 == states
