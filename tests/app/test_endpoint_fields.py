"""What an endpoint may be told: limit, shape and filters, and what is refused with its field."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.ids import new_id
from tests.app.conftest import Register
from tests.app.test_endpoint_moves import make

ARN = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"


async def test_an_endpoint_has_a_rate_limit_and_a_shape(register: Register) -> None:
    client = await register()
    plain = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})
    path = f"/v1/endpoints/{plain.json()['id']}"

    changed = await client.patch(path, json={"rate_limit": 50, "shape": "cloudevents"})
    kept = await client.patch(path, json={"description": "x"})
    lifted = await client.patch(path, json={"rate_limit": None, "shape": "standard"})
    both = await client.post(
        "/v1/endpoints", json={"url": "http://127.0.0.1:1/", "rate_limit": 1000, "shape": "cloudevents"}
    )

    answers = [plain, changed, kept, lifted, both]
    assert [
        (None, "standard"),
        (50, "cloudevents"),
        (50, "cloudevents"),
        (None, "standard"),
        (1000, "cloudevents"),
    ] == [(answer.json()["rate_limit"], answer.json()["shape"]) for answer in answers]
    audit = (await client.get("/v1/audit")).json()["items"]
    assert ["rate_limit", "shape"] in [one["details"].get("fields") for one in audit]


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate_limit", 0), ("rate_limit", 1001), ("rate_limit", 1.5), ("rate_limit", "fast"), ("rate_limit", -1),
     ("shape", "xml"), ("shape", None), ("shape", "CloudEvents")],
)  # fmt: skip
async def test_a_bad_limit_or_shape_is_named(register: Register, field: str, value: object) -> None:
    client = await register()
    path = await make(client)

    answers = [
        await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/", field: value}),
        await client.patch(path, json={field: value}),
    ]

    assert [(422, [f"/{field}"])] * 2 == [
        (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]]) for answer in answers
    ]


async def test_filters_are_set_changed_and_taken_away(register: Register) -> None:
    client = await register()
    filters: dict[str, Any] = {"event_types": ["email.*"], "grant_ids": [str(new_id())], "identity_arns": [ARN]}
    made = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/", **filters})
    path = f"/v1/endpoints/{made.json()['id']}"

    kept = await client.patch(path, json={"description": "x"})
    gone = await client.patch(path, json=dict.fromkeys(filters))

    assert [filters, filters, dict.fromkeys(filters)] == [
        {name: answer.json()[name] for name in filters} for answer in (made, kept, gone)
    ]


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ({"event_types": []}, "/event_types"),
        ({"event_types": ["email.*"] * 101}, "/event_types"),
        ({"event_types": ["*"]}, "/event_types"),
        ({"event_types": ["email.b*"]}, "/event_types"),
        ({"event_types": ["*.bounced"]}, "/event_types"),
        ({"event_types": ["EMAIL.BOUNCED"]}, "/event_types"),
        ({"grant_ids": []}, "/grant_ids"),
        ({"grant_ids": ["x"]}, "/grant_ids/0"),
        ({"grant_ids": [str(new_id())] * 101}, "/grant_ids"),
        ({"identity_arns": []}, "/identity_arns"),
        ({"identity_arns": [ARN, "example.com"]}, "/identity_arns/1"),
        ({"identity_arns": [ARN] * 101}, "/identity_arns"),
    ],
)
async def test_a_bad_filter_is_named(register: Register, filters: dict[str, object], pointer: str) -> None:
    client = await register()
    path = await make(client)

    answers = [
        await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/", **filters}),
        await client.patch(path, json=filters),
    ]

    assert [(422, [pointer])] * 2 == [
        (answer.status_code, [flaw["pointer"] for flaw in answer.json()["errors"]]) for answer in answers
    ]


@pytest.mark.parametrize("hours", [0, 1, 168])
async def test_an_overlap_lasts_as_long_as_was_asked_for(register: Register, hours: int) -> None:
    client = await register()
    path = await make(client)

    rotated = (await client.post(f"{path}/rotate", json={"overlap_hours": hours})).json()

    secrets = (await client.get(path)).json()["secrets"]
    assert [None] * len(secrets) == [secret["last_used_at"] for secret in secrets]
    assert (2 if hours else 1) == len(secrets)
    if hours:
        made, until = (datetime.fromisoformat(rotated[name]) for name in ("created_at", "previous_until"))
        assert timedelta(hours=hours) == until - made
