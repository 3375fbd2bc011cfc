"""Replays over HTTP: making, watching and cancelling them."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.app.conftest import Register


def ago(**amount: float) -> str:
    """A moment in the past as the API takes it."""
    return (datetime.now(UTC) - timedelta(**amount)).isoformat()


async def make(client: httpx.AsyncClient) -> str:
    """The path of a new endpoint."""
    answer = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})
    assert answer.status_code == 201, answer.text
    return f"/v1/endpoints/{answer.json()['id']}"


async def test_a_replay_is_made_watched_and_cancelled(register: Register) -> None:
    client = await register()
    path = await make(client)

    made = await client.post(f"{path}/replay", json={"from": ago(hours=2), "until": ago(hours=1), "rate": 20})
    job = f"/v1/replays/{made.json()['id']}"
    shown = await client.get(job)
    second = await client.post(f"{path}/recover", json={"since": ago(days=1)})
    cancelled = await client.post(f"{job}/cancel")
    listed = await client.get("/v1/replays", params={"endpoint_id": made.json()["endpoint_id"], "state": "cancelled"})

    assert (202, "range", "running", 20) == (
        made.status_code,
        *(made.json()[name] for name in ("kind", "state", "rate")),
    )
    assert (None, 0, 0, 0, 0) == tuple(
        shown.json()[name] for name in ("total", "queued", "pending", "dead", "delivered")
    )
    assert 409 == second.status_code
    assert made.json()["id"] in second.json()["detail"]
    assert (202, "cancelled") == (cancelled.status_code, cancelled.json()["state"])
    assert [made.json()["id"]] == [one["id"] for one in listed.json()["items"]]


async def test_the_same_key_makes_one_job(register: Register) -> None:
    client = await register()
    path = await make(client)
    body = {"since": ago(days=1)}

    answers = [
        await client.post(f"{path}/recover", json=body, headers={"idempotency-key": "recover-1"}) for _ in range(2)
    ]

    assert [202, 202] == [answer.status_code for answer in answers]
    assert answers[0].json() == answers[1].json()
    assert "true" == answers[1].headers["idempotent-replayed"]


@pytest.mark.parametrize(
    ("move", "body", "pointers"),
    [
        ("replay", {"from": ago(hours=1), "until": ago(hours=-1)}, ["/until"]),
        ("replay", {"from": ago(hours=1), "until": ago(hours=2)}, ["/from"]),
        ("replay", {"from": ago(days=40)}, ["/from"]),
        ("replay", {"from": "2026-11-01T00:00:00"}, ["/from"]),
        ("replay", {"from": ago(hours=1), "rate": 501}, ["/rate"]),
        ("replay", {"from": ago(hours=1), "rate": 0}, ["/rate"]),
        ("recover", {"since": ago(hours=-1)}, ["/since"]),
        ("recover", {"since": ago(hours=1), "from": ago(hours=1)}, ["/from"]),
    ],
)
async def test_what_is_wrong_is_said_field_by_field(
    register: Register, move: str, body: dict[str, object], pointers: list[str]
) -> None:
    client = await register()

    answer = await client.post(f"{await make(client)}/{move}", json=body)

    assert (422, pointers) == (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]])


async def test_a_stranger_finds_no_replay(register: Register) -> None:
    client, stranger = await register(), await register()
    path = await make(client)
    made = await client.post(f"{path}/recover", json={"since": ago(days=1)})
    job = f"/v1/replays/{made.json()['id']}"

    answers = [
        await stranger.get(job),
        await stranger.post(f"{job}/cancel"),
        await stranger.post(f"{path}/recover", json={"since": ago(days=1)}),
        await stranger.post(f"{path}/replay", json={"from": ago(days=1)}),
    ]

    assert [404] * 4 == [answer.status_code for answer in answers]
    assert [] == (await stranger.get("/v1/replays")).json()["items"]
