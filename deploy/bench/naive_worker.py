"""The naive system's worker: one arq job and one ORM session per delivery, posted with a pooled httpx client.

`python -m bench.naive_worker`, configured by the broker's own BROKER_* variables. What is sent and how it is signed are
the broker's own functions.
"""

import asyncio
import os
import signal
import time
from typing import Any
from uuid import UUID

import httpx
import uvloop
from arq import Retry
from arq.worker import Worker
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import joinedload

from bench.naive_app import QUEUE, tell_round_trips
from bench.naive_models import AttemptRow, DeliveryRow, EndpointRow, EventRow, pool
from bench.own_time import sampled
from broker import clock, db
from broker.configuration import load
from broker.gateways.queue import connect, decode, disconnect, encode
from broker.ids import new_id
from broker.webhooks import signing
from broker.webhooks.events import Event
from broker.webhooks.render import party_of, render

JOBS = 100
POLL = 0.01  # seconds
MOST_TRIES = 5
READY = "naive worker ready"

_FIELDS = tuple(name for name in Event.__struct_fields__ if name in EventRow.__mapper__.columns)
_WHOLE = (joinedload(DeliveryRow.event, innerjoin=True), joinedload(DeliveryRow.endpoint, innerjoin=True))


async def deliver(ctx: dict[str, Any], delivery_id: str) -> None:
    """Loads, renders, signs, posts, and writes what came of it. Its connection is free while the receiver works."""
    sessions: async_sessionmaker[AsyncSession] = ctx["sessions"]
    async with sessions() as session:
        query = select(DeliveryRow).where(DeliveryRow.id == UUID(delivery_id)).options(*_WHOLE)
        delivery = (await session.scalars(query)).one_or_none()
        if delivery is None:
            return
        await session.commit()
        attempt = await _post(ctx["client"], delivery)
        session.add(attempt)
        if attempt.status is not None and 200 <= attempt.status < 300:
            await session.delete(delivery)
        else:
            delivery.attempts += 1
        await session.commit()
    if attempt.error is not None and ctx["job_try"] < MOST_TRIES:
        raise Retry(defer=ctx["job_try"] ** 2)


async def _post(client: httpx.AsyncClient, delivery: DeliveryRow) -> AttemptRow:
    at, began = clock.now(), time.monotonic()
    body, headers = request_of(delivery.event, delivery.endpoint)
    status, error = None, None
    try:
        answer = await client.post(delivery.endpoint.url, content=body, headers=headers)
        status = answer.status_code
        error = None if answer.is_success else f"The receiver answered {status}."
    except httpx.HTTPError as failed:
        error = type(failed).__name__
    return AttemptRow(
        id=new_id(),
        at=at,
        event_id=delivery.event_id,
        endpoint_id=delivery.endpoint_id,
        number=delivery.attempts + 1,
        status=status,
        latency_ms=round((time.monotonic() - began) * 1000),
        error=error,
    )


def request_of(row: EventRow, endpoint: EndpointRow) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the webhook, as the broker makes them."""
    event = Event(**{name: getattr(row, name) for name in _FIELDS})
    party = party_of(event, endpoint.tenant_id)
    if party is None:
        raise ValueError(f"The tenant of endpoint {endpoint.id} does not hear of event {event.id}.")
    body = render(event, party)
    signed = signing.headers(event.id, body, at=clock.now(), keys=[endpoint.secret])
    return body, {"content-type": "application/json", **signed}


async def main() -> None:
    """Works until SIGTERM."""
    settings = load(os.environ)
    engine = pool(settings)
    redis = connect(settings.redis_url, QUEUE)
    limits = httpx.Limits(max_connections=2 * JOBS, max_keepalive_connections=2 * JOBS)
    timeout = settings.webhook_timeout.total_seconds()
    async with httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as client:
        worker = Worker(
            functions=[deliver],
            queue_name=QUEUE,
            redis_pool=redis,
            job_serializer=encode,
            job_deserializer=decode,
            ctx={"sessions": db.sessions(engine), "client": client},
            poll_delay=POLL,
            max_jobs=JOBS,
            keep_result=0,
            max_tries=MOST_TRIES,
            handle_signals=False,
        )
        running = asyncio.create_task(worker.async_run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        print(READY, flush=True)  # noqa: T201 — what the bench waits for
        await asyncio.gather(running, return_exceptions=True)
    await disconnect(redis)
    await engine.dispose()


if __name__ == "__main__":
    with sampled("worker"):
        uvloop.run(main())
    tell_round_trips()
