"""Nothing of the API is for other sites' pages: no CORS, and headers that say so on every answer."""

import base64
import hashlib
import re

import httpx
import pytest
from litestar import Litestar

from broker.errors import BadRequest
from broker.feedback.door import Door
from broker.parts import Parts
from broker.settings import Settings
from tests.app.conftest import Register, transport_to
from tests.app.test_edge import routes_of

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
CLOSED = ALWAYS | {"cache-control": "no-store", "content-security-policy": "default-src 'none'; frame-ancestors 'none'"}


def lacking(answer: httpx.Response, wanted: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if answer.headers.get(name) != value}


async def test_every_route_answers_with_them_good_or_bad(
    app: Litestar, register: Register, anonymous: httpx.AsyncClient
) -> None:
    """Answers, refusals, what is not there, and methods that are not."""
    client = await register()
    bad: dict[tuple[object, ...], dict[str, str]] = {}
    seen = set()
    for method, path, _ in routes_of(app):
        for asking in (client, anonymous):
            answer = await asking.request(method, path, json={} if method in {"POST", "PATCH"} else None)
            seen.add(answer.status_code)
            if lacking(answer, CLOSED):
                bad[method, path, answer.status_code] = lacking(answer, CLOSED)
    for method, path in (
        ("GET", "/nothing"),
        ("PUT", "/v1/tenant"),
        ("TRACE", "/v1/tenant"),
        ("GET", "/v1/grants?a=%00"),
    ):
        answer = await client.request(method, path)
        bad |= {(method, path): lacking(answer, CLOSED)} if lacking(answer, CLOSED) else {}

    assert {} == bad
    assert {200, 401, 404, 422} <= seen


async def test_no_other_site_may_ask(app: Litestar, register: Register, anonymous: httpx.AsyncClient) -> None:
    """No route says `Access-Control-Allow-…`, neither beforehand nor with its answer (Fetch Standard, 3.3)."""
    client = await register()
    told = set()
    for method, path, _ in routes_of(app):
        origin = {"origin": "https://evil.example"}
        asked = origin | {"access-control-request-method": method, "access-control-request-headers": "authorization"}
        for asking in (client, anonymous):
            answers = [await asking.options(path, headers=asked), await asking.get(path, headers=origin)]
            told |= {name for answer in answers for name in answer.headers if name.startswith("access-control")}

    assert set() == told


async def test_only_over_https_is_it_told_to_stay_with_https(app: Litestar) -> None:
    """RFC 6797, section 7.2."""
    seen = {}
    for scheme in ("http", "https"):
        async with httpx.AsyncClient(transport=transport_to(app), base_url=f"{scheme}://broker") as client:
            seen[scheme] = (await client.get("/health/live")).headers.get("strict-transport-security")

    assert {"http": None, "https": "max-age=63072000; includeSubDomains"} == seen


async def test_the_documents_page_runs_its_own_scripts_and_no_others(anonymous: httpx.AsyncClient) -> None:
    """All that it loads is from here, and its inline script has the hash that the policy names."""
    page = await anonymous.get("/schema")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    inline = re.findall(r"<script(?![^>]*src=)[^>]*>(.*?)</script>", page.text, re.DOTALL)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    answers = [await anonymous.get(each) for each in loaded]

    allowed = [
        "'self'",
        *(f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in inline),
    ]
    assert 1 == len(inline)
    assert allowed == policy["script-src"].split()
    assert ("'none'", "'none'") == (policy["default-src"], policy["frame-ancestors"])
    assert {} == lacking(page, ALWAYS)
    assert [200] * len(loaded) == [answer.status_code for answer in answers]
    assert all(path.startswith("/schema/assets/") for path in loaded)
    assert not any(lacking(answer, ALWAYS) for answer in answers)


@pytest.mark.parametrize("body", [b"{", b"x" * 2_000_000])
async def test_the_bare_way_in_for_sns_has_them_too(app: Litestar, settings: Settings, body: bytes) -> None:
    """It answers without the framework (`feedback/door.py`)."""
    parts = Parts(settings)
    door = Door(transport_to(app).app, parts.receiver, body_limit=settings.body_limit, ledger=parts.ledger)
    async with httpx.AsyncClient(transport=transport_to(door), base_url="http://broker") as client:
        answer = await client.post("/v1/feedback/sns", content=body)
    await parts.close()

    assert answer.status_code in {BadRequest.status, 403, 413}, answer.text
    assert {} == lacking(answer, CLOSED)
