"""The OpenAPI document has every webhook."""

import re

import httpx
import msgspec

from broker.webhooks.events import EVENT_TYPES
from tests.feedback.schema import flaws


async def test_the_document_has_a_webhook_with_an_example_for_every_type(anonymous: httpx.AsyncClient) -> None:
    document = (await anonymous.get("/schema/openapi.json")).json()
    webhooks, schemas = document["webhooks"], document["components"]["schemas"]

    assert document["openapi"].startswith("3.1")
    assert EVENT_TYPES == webhooks.keys()
    for type_, item in webhooks.items():
        media = item["post"]["requestBody"]["content"]["application/json"]
        assert type_ == media["example"]["type"]
        assert [] == flaws(media["example"], media["schema"], schemas), type_
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', msgspec.json.encode(webhooks).decode()))
    assert refs <= schemas.keys()


async def test_examples_tell_what_their_kind_tells(anonymous: httpx.AsyncClient) -> None:
    webhooks = (await anonymous.get("/schema/openapi.json")).json()["webhooks"]
    examples = {
        type_: item["post"]["requestBody"]["content"]["application/json"]["example"]["data"]
        for type_, item in webhooks.items()
    }

    assert ("bounce", True, "5.1.1") == tuple(
        examples["email.bounced"].get(name) for name in ("kind", "final", "status")
    )
    assert ("delivery", None, None) == tuple(
        examples["email.delivered"].get(name) for name in ("kind", "final", "status")
    )
    assert "https://example.com/spring" == examples["email.clicked"]["link"]
    assert "link" not in examples["email.bounced"]
