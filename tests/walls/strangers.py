"""Walks every route of the application as somebody who is no party, with the ids of those who are.

The routes come from the application and the bodies from its OpenAPI document, so that a new route cannot escape: an id
of a kind that the walk has none of ends it.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx
import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from broker.ids import new_id

PUBLIC = frozenset({"registerTenant", "receiveSns", "live", "ready", "metrics"})
_ONE_TIME = re.compile(r'"(instance|request_id)":"[^"]*",?')
_FIELDS = {"delegate_ids": "delegate_id", "grant_ids": "grant_id", "replaces": "grant_id"}


class Route(msgspec.Struct, frozen=True):
    """One operation: what it takes from the path and the query, and an example of its body."""

    name: str
    method: str
    path: str
    query: tuple[str, ...]
    body: dict[str, Any] | None

    @property
    def kinds(self) -> list[str]:
        """What the path names, such as `grant_id`."""
        return re.findall(r"{(\w+)}", self.path)


class Walked(msgspec.Struct, frozen=True):
    """How many routes were tried with how many requests, and a sentence for each that told something."""

    routes: int
    tried: int
    leaks: Sequence[str]


def routes_of(app: Litestar) -> Iterator[Route]:
    """Every operation that needs a key; an operation that no document describes is an error."""
    document = app.openapi_schema.to_schema()["paths"]
    for route in app.routes:
        if not isinstance(route, HTTPRoute) or route.path.startswith("/schema"):
            continue
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                told = document[route.path_format][method.lower()]
                if told["operationId"] in PUBLIC:
                    continue
                content = told.get("requestBody", {}).get("content", {})
                yield Route(
                    told["operationId"],
                    method,
                    route.path_format,
                    tuple(each["name"] for each in told.get("parameters", []) if each["in"] == "query"),
                    next((media["example"] for media in content.values()), None),
                )


class Stranger:
    """One who asks for what is not theirs. `theirs`: real ids by kind; `secrets`: texts that no answer may hold.

    `bodies`: for operations whose example would be refused too early; `by_arn`: those open to whoever knows an ARN.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        theirs: Mapping[str, str],
        secrets: Sequence[str],
        bodies: Mapping[str, Any],
        by_arn: Collection[str],
    ) -> None:
        self._client = client
        self._theirs = theirs
        self._secrets = secrets
        self._bodies = bodies
        self._by_arn = by_arn
        self._tried = 0

    async def walk(self, routes: Sequence[Route]) -> Walked:
        """Asks each route for what is real, and for what is made up: the answers must not differ, nor tell of it."""
        leaks: list[str] = []
        for route in routes:
            for query in ({}, *({name: self._theirs[name]} for name in route.query if self._is_secret(name))):
                leaks += [
                    f"{route.method} {route.path} {query or ''}: {leak}" for leak in await self._try(route, query)
                ]
        return Walked(len(routes), self._tried, leaks)

    def _is_secret(self, name: str) -> bool:
        return self._theirs.get(name, "") in self._secrets

    async def _try(self, route: Route, query: Mapping[str, str]) -> list[str]:
        made_up = {name: invented(value) for name, value in self._theirs.items()}
        real = await self._ask(route, self._theirs, query)
        fake = await self._ask(route, made_up, {name: made_up[name] for name in query})
        told = _ONE_TIME.sub("", real.text) + str(real.headers)
        sent = str(real.request.url) + real.request.content.decode()
        found = [f"it holds {secret}" for secret in self._secrets if secret in told and secret not in sent]
        if route.kinds and real.status_code != 404:
            found.append(f"{real.status_code} and not 404: {real.text[:200]}")
        if route.name not in self._by_arn and (real.status_code, shape_of(real)) != (fake.status_code, shape_of(fake)):
            found.append(f"{real.status_code} {real.text[:200]}, for made-up ids {fake.status_code} {fake.text[:200]}")
        return found

    async def _ask(self, route: Route, ids: Mapping[str, str], query: Mapping[str, str]) -> httpx.Response:
        self._tried += 1
        path = route.path.format(**ids)
        body = None if route.body is None else placed({**route.body, **self._bodies.get(route.name, {})}, ids)
        headers = {"if-match": f'"{new_id()}"'}
        return await self._client.request(route.method, path, params=query, json=body, headers=headers)


def placed(value: Any, ids: Mapping[str, str]) -> Any:
    """The body with these ids wherever a field asks for one of their kind."""
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for name, inner in value.items():
        kind = _FIELDS.get(str(name), str(name))
        if kind in ids and inner is not None:
            made[name] = [ids[kind]] if isinstance(inner, list) else ids[kind]
        else:
            made[name] = placed(inner, ids)
    return made


def shape_of(answer: httpx.Response) -> str:
    """What it says, without the ids and dates in it."""
    text = re.sub(r'"signature":\{[^}]*\}', "", _ONE_TIME.sub("", answer.text))
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)
    return re.sub(r"\d{4}-\d\d-\d\d(T[\d:.]+Z?)?|d[0-9a-f]{32}\.example\.com|sdb_[\w-]+|whsec_\S+", "…", text)


def invented(value: str) -> str:
    """One of the same form that nobody has."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value) or not any(each.isdigit() for each in value):
        return value
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=identity/d)[0-9a-f]{32}", lambda match: _fresh(match[0]), value)


def _fresh(text: str) -> str:
    made: UUID = new_id()
    return made.hex if len(text) == 32 else str(made)
