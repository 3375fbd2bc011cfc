"""Builds the web application."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, Contact, License, SecurityScheme, Tag
from litestar.static_files import create_static_files_router
from litestar.types import Message, Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from broker import headers, log, openapi, problems, web
from broker.audit.api import AuditController, KeyController
from broker.configuration import load
from broker.connections.api import ConnectionController
from broker.errors import BrokerError
from broker.feedback.api import QuarantineController, RouteController, SnsController
from broker.feedback.destinations.api import DestinationController
from broker.feedback.door import Door
from broker.feedback.erasures.api import ErasureController
from broker.feedback.foreign_api import ForeignRouteController
from broker.feedback.own_set import own_set
from broker.feedback.suppressions.api import SuppressionController, SuppressionExport
from broker.feedback.topics import FEEDBACK_PATH
from broker.feedback.usage.api import UsageController
from broker.feedback.usage.last import last_used
from broker.grants.adopting.api import AdoptionController
from broker.grants.api import GrantController, NegotiationController
from broker.grants.ending_api import EndingController
from broker.grants.policies.api import PolicyController
from broker.grants.revoking_api import RevocationController
from broker.grants.room_api import RoomController
from broker.grants.sending.api import ByHandController, KitController, SimulationController
from broker.health import HealthController, Readiness
from broker.idempotency import Replayed
from broker.identities.api import IdentityController
from broker.parts import Parts
from broker.tenants.api import ApiKeyController, TenantController
from broker.tenants.auth import STANDING, KeyAuthentication
from broker.tenants.porch import Porch
from broker.tenants.together import Together, find
from broker.webhooks.api import EndpointController
from broker.webhooks.deliveries_api import DeliveryController, EventController
from broker.webhooks.digests.api import DigestController
from broker.webhooks.ledger.api import BooksController, MetricsController
from broker.webhooks.ledger.ledger import Count, Ledger
from broker.webhooks.replays.api import ReplayController, ReplayMoves

ASSETS = "/schema/assets"
LOOPBACK = "127.0.0.1"
UNCOUNTED = (FEEDBACK_PATH, "/health/live", "/health/ready", "/metrics")  # by nobody who has a key
CONTROLLERS = (
    TenantController,
    ApiKeyController,
    ConnectionController,
    IdentityController,
    NegotiationController,
    EndingController,
    GrantController,
    PolicyController,
    RevocationController,
    AdoptionController,
    RoomController,
    KitController,
    ByHandController,
    SimulationController,
    UsageController,
    RouteController,
    DestinationController,
    QuarantineController,
    ForeignRouteController,
    SuppressionController,
    SuppressionExport,
    ErasureController,
    EndpointController,
    ReplayMoves,
    ReplayController,
    DeliveryController,
    EventController,
    DigestController,
    BooksController,
    AuditController,
    KeyController,
    SnsController,
    HealthController,
    MetricsController,
)
TAGS = (
    Tag("Tenants", "Registering, and oneself."),
    Tag("API keys", "Scoped keys, shown once."),
    Tag("Connections", "AWS accounts: by a role, or proven without any rights."),
    Tag("Identities", "Verified domains and addresses in an owner's account."),
    Tag("Negotiation", "Proposing, approving, countering, declining, amending, suspending, revoking."),
    Tag("Grants", "The contracts, and what SES holds of them."),
    Tag("Policies", "SES sending-authorization policies, whoever wrote them."),
    Tag("Simulations", "Would this send be allowed, and why was that one refused?"),
    Tag("Webhooks", "Endpoints, their deliveries and events."),
    Tag("Audit", "Who did what, sealed; and the keys that check it."),
    Tag("Feedback", "How SES feedback reaches us: routes, and where SNS delivers."),
    Tag("Recipients", "Who must not be mailed again, and who is to be forgotten."),
    Tag("Health", "For load balancers, and for Prometheus."),
)


def build(parts: Parts) -> Litestar:
    """The application over these parts; `parts` is opened and closed by whoever made it."""

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with parts.serving():
            yield

    app = Litestar(
        route_handlers=[*CONTROLLERS, _assets()],
        lifespan=[lifespan],
        middleware=[
            DefineMiddleware(
                KeyAuthentication,
                db=parts.api,
                keyring=parts.keyring,
                rates=parts.rates,
                guesses=parts.guesses,
                together=Together(partial(find, parts.api)),
                visits=parts.visits,
            ),
        ],
        dependencies={
            "db": _given(parts.api),
            "caller": Provide(web.provide_caller),
            "keyring": _given(parts.keyring),
            "signer": _given(parts.signer),
            "settings": _given(parts.settings),
            "prover": _given(parts.prover),
            "metrics": _given(parts.metrics),
            "receiver": _given(parts.receiver),
            "release": _given(parts.release),
            "sets": _given(parts.sets),
            "resolver": _given(parts.resolver),
            "last_used": _given(last_used),
            "own_set": _given(own_set),
            "readiness": _given(Readiness(parts.api, parts.arq.ping)),
        },
        exception_handlers={
            BrokerError: problems.answer_broker_error,
            Replayed: problems.answer_replay(parts.keyring),
            HTTPException: problems.answer_http_error,
            RecursionError: problems.answer_unreadable,
            UnicodeDecodeError: problems.answer_unreadable,
            Exception: problems.answer_crash,
        },
        before_request=web.begin,
        before_send=[headers.add, _before_send(parts.ledger), _name_all_methods],
        request_max_body_size=parts.settings.body_limit,
        openapi_config=_openapi(),
        logging_config=None,
        state=State({"settings": parts.settings}),
    )
    openapi.complete(app)
    return app


def create() -> Door:
    """What `uvicorn --factory` calls: reads the environment; connections open when the first request comes."""
    settings = load(os.environ)
    log.configure(log_format=settings.log_format, level=settings.log_level, secrets=settings.secrets)
    return front(Parts(settings))


def front(parts: Parts) -> Door:
    """The application behind the door for SNS, the headers of proxies, and the porch for who has no key."""
    # Who asked is of interest to the API alone; uvicorn would look at the headers of every SNS message, too.
    application: Any = build(parts)  # ASGI as Litestar and as uvicorn type it differ
    porch: Any = Porch(application, parts.visits, free=UNCOUNTED, open_to_all=headers.DOCUMENTS)
    behind_proxies: Any = ProxyHeadersMiddleware(porch, os.environ.get("FORWARDED_ALLOW_IPS", LOOPBACK))
    return Door(behind_proxies, parts.receiver, body_limit=parts.settings.body_limit, ledger=parts.ledger)


def _before_send(ledger: Ledger) -> Callable[[Message, Scope], Awaitable[None]]:
    """Tells where the caller stands with its rates, and counts answers that ask it to come back, for the metrics."""

    async def before(message: Message, scope: Scope) -> None:
        if message["type"] != "http.response.start":
            return
        if message["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
            ledger.count(Count.REFUSED, "api")
        standing = scope["state"].get(STANDING)
        if standing is not None:
            message["headers"] = [*message["headers"], *standing.headers()]

    return before


async def _name_all_methods(message: Message, scope: Scope) -> None:
    """Lets OPTIONS tell every method of its path (RFC 9110, 9.3.7): the framework names those of one controller."""
    if message["type"] != "http.response.start" or scope.get("method") != "OPTIONS" or "path_template" not in scope:
        return
    routes = scope["litestar_app"].routes
    there = {method for each in routes if each.path_format == scope["path_template"] for method in each.methods}
    others = [header for header in message["headers"] if header[0] != b"allow"]
    message["headers"] = [*others, (b"allow", ", ".join(sorted(there)).encode())]


def _given(value: object) -> Provide:
    def provide() -> Any:
        return value

    return Provide(provide, sync_to_thread=False)


def _assets() -> Router:
    """The browsable page's files from a package, so that it works without anybody else's servers."""
    package = find_spec("swagger_ui")
    if package is None or package.origin is None:
        raise RuntimeError("The package swagger-ui-py is not installed.")
    static = Path(package.origin).parent / "static"
    return create_static_files_router(path=ASSETS, directories=[static], include_in_schema=False, opt=web.PUBLIC)


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="SES delegation broker",
        version="1",
        summary="Let an agency send from your verified Amazon SES domain, under negotiated terms.",
        description="Errors are problem details (RFC 9457). Every POST takes an `Idempotency-Key`."
        " A query parameter that an operation does not have is refused with 400.",
        contact=Contact(name="SES delegation broker"),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        tags=list(TAGS),
        security=[{"apiKey": []}],
        components=Components(
            security_schemes={"apiKey": SecurityScheme(type="http", scheme="bearer", description="An API key: sdb_…")}
        ),
        path=headers.DOCUMENTS,
        render_plugins=[
            headers.DocumentsPage(
                js_url=f"{ASSETS}/swagger-ui-bundle.js",
                css_url=f"{ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
                favicon=f'<link rel="icon" type="image/png" href="{ASSETS}/favicon-32x32.png">',
                path="/",
            )
        ],
        use_handler_docstrings=True,
    )
