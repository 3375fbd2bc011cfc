"""Security headers: on every answer, whoever makes it."""

import base64
import hashlib
import re
from typing import Any

from litestar import Request
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.types import Message, Scope

DOCUMENTS = "/schema"
_POLICY = "page_policy"  # in the state of a request: what the page that answers it may do

# OWASP, REST Security Cheat Sheet, "Security Headers": what an API answers is never a page, and never in a frame.
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_PAGE = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NOT_KEPT = (b"cache-control", b"no-store")
BARE = (*ALWAYS, _NO_PAGE, _NOT_KEPT)
"""For what is answered without the framework."""

# Not over plain HTTP, where it must not be sent (RFC 6797, section 7.2).
_HTTPS_ONLY = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")

_SCRIPT = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


class DocumentsPage(SwaggerRenderPlugin):
    """The browsable page, which may run its own scripts and no others."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page; names its inline scripts by their hashes (CSP Level 3, section 2.3.1)."""
        page = super().render(request, openapi_schema)
        hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _SCRIPT.findall(page)]
        scripts = " ".join(("script-src 'self'", *(f"'sha256-{each}'" for each in hashes)))
        # Swagger UI sets the styles of its elements, and draws with data: images.
        rest = "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'"
        request.scope["state"][_POLICY] = f"default-src 'none'; {scripts}; {rest}; frame-ancestors 'none'".encode()
        return page


async def add(message: Message, scope: Scope) -> None:
    """A hook before each answer is sent; what a route has set itself stays."""
    if message["type"] != "http.response.start":
        return
    policy = scope["state"].get(_POLICY)
    wanted = [*ALWAYS, (_NO_PAGE[0], policy) if policy else _NO_PAGE]
    if not scope["path"].startswith(DOCUMENTS):
        wanted.append(_NOT_KEPT)
    if scope.get("scheme") == "https":
        wanted.append(_HTTPS_ONLY)
    there = {name.lower() for name, _ in message["headers"]}
    message["headers"] = [*message["headers"], *(each for each in wanted if each[0] not in there)]
