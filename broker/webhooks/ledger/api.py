"""Usage and latencies over HTTP, and the metrics for Prometheus."""

import hmac
import ipaddress
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from litestar import Controller, MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from broker.caller import Caller, Scope
from broker.clock import now
from broker.db import Database
from broker.errors import BadRequest, Unauthenticated
from broker.settings import Settings
from broker.tenants.auth import bearer
from broker.web import KEYLESS, needs
from broker.webhooks.ledger import service
from broker.webhooks.ledger.metrics import Metrics
from broker.webhooks.ledger.views import Latencies, Usage

TEXT_FORMAT = "text/plain; version=0.0.4"  # the framework adds the charset
_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

FirstDay = Annotated[date | None, QueryParameter(name="from", description="First day (UTC); 29 days before the last")]
LastDay = Annotated[date | None, QueryParameter(name="until", description="Last day (UTC); today")]
Since = Annotated[datetime | None, QueryParameter(name="from", description="With an offset; 23 hours before the end")]
Until = Annotated[datetime | None, QueryParameter(name="until", description="With an offset; now")]


class BooksController(Controller):
    """What became of one's deliveries, and how long events took."""

    tags = ("Webhooks",)

    @get(
        "/v1/usage",
        summary="Count deliveries",
        operation_id="showUsage",
        guards=[needs(Scope.READ)],
    )
    async def usage(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        first: FirstDay = None,
        last: LastDay = None,
    ) -> Usage:
        """By the day of the event, exact at the moment of the answer.

        created = delivered + pending + dead + cancelled + missing; a `missing` other than 0 is a defect of ours.
        """
        last = last or now().date()
        first = first or max(last, date.min + timedelta(days=29)) - timedelta(days=29)
        return await service.usage(db, caller, first=first, last=last)

    @get(
        "/v1/latencies",
        summary="Measure latencies",
        operation_id="showLatencies",
        guards=[needs(Scope.READ)],
    )
    async def latencies(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        since: Since = None,
        until: Until = None,
    ) -> Latencies:
        """Percentiles by stage and hour, kept for 14 days; the latest ten seconds may be lacking.

        SES's own time → received → stored for good → first attempt → accepted with a 2xx.
        """
        end = _aware(until) or now()
        begin = _aware(since) or end - timedelta(hours=23)
        return await service.latencies(db, caller, since=begin, until=end)


def _aware(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    if at.tzinfo is None or not 1 < at.year < 9999:  # nearer to the ends of time, another offset has no date
        raise BadRequest("from and until need an offset, such as Z, and a year between 2 and 9998.")
    return at.astimezone(UTC)


class MetricsController(Controller):
    """For Prometheus."""

    path = "/metrics"
    tags = ("Health",)
    opt = KEYLESS
    security = ({},)

    @get(summary="Read metrics", operation_id="metrics", media_type=MediaType.TEXT)
    async def metrics(
        self,
        request: Request[Any, Any, Any],
        settings: NamedDependency[Settings],
        metrics: NamedDependency[Metrics],
    ) -> Response[bytes]:
        """Of the whole installation, at most five seconds old. Needs the operator's metrics token, or loopback."""
        if not _may_scrape(request, settings.metrics_token):
            raise Unauthenticated("Send the metrics token: Authorization: Bearer …")
        return Response(await metrics.text(), media_type=TEXT_FORMAT)


def _may_scrape(request: Request[Any, Any, Any], token: str) -> bool:
    """By the token where there is one. Without, from loopback only; but a proxy there speaks for the whole world."""
    if token:
        given = bearer(request.headers.get("authorization")) or ""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())
    if any(header in request.headers for header in _PROXIED):
        return False
    return request.client is not None and _is_loopback(request.client.host)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
