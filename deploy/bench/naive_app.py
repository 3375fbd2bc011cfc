"""The naive system's API: a Litestar route for SNS, one ORM session per message, one arq job per delivery.

`python -m bench.naive_app PORT`, configured by the broker's own BROKER_* variables. Signature, parsing and attribution
are the broker's own functions; what differs is how the work is stored and handed on.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import uvicorn
from arq.connections import ArqRedis
from litestar import Litestar, Request, Response, get, post
from sqlalchemy import make_url, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from bench.naive_models import DeliveryRow, EndpointRow, EventRow, GrantRow, TopicRow, pool, prepare
from bench.own_time import sampled
from broker import clock, db
from broker.configuration import load
from broker.crypto import Keyring
from broker.errors import BrokerError
from broker.feedback.attribution import Candidate, Source, Standing
from broker.feedback.envelope import Arrival, Envelope, decode
from broker.feedback.events import NewEvent
from broker.feedback.payloads import Feedback, parse
from broker.feedback.signature import Certificates, Verifier
from broker.feedback.sort import Known, Read, sort
from broker.feedback.topics import FEEDBACK_PATH
from broker.gateways.aws import Aws
from broker.gateways.http import HttpFetcher
from broker.gateways.queue import connect, disconnect
from broker.gateways.sns import SnsGateway
from broker.ids import new_id
from broker.policies.terms import FeedbackTerms
from broker.problems import answer_broker_error
from broker.roundtrips import ROUND_TRIPS
from broker.settings import Settings

QUEUE = "naive"


class Intake:
    """Takes one message: verify, parse, attribute, store, enqueue."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], verifier: Verifier, keyring: Keyring, redis: ArqRedis
    ) -> None:
        self._sessions = sessions
        self._verifier = verifier
        self._keyring = keyring
        self._redis = redis

    async def take(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """Returns when event and deliveries are committed and each delivery has its job."""
        envelope = decode(headers, body)
        await self._verifier.verify(envelope, now=now)
        async with self._sessions() as session:
            jobs = await self._store(session, envelope, now=now)
        await asyncio.gather(*(self._redis.enqueue_job("deliver", str(delivery_id)) for delivery_id in jobs))

    async def _store(self, session: AsyncSession, envelope: Envelope, *, now: datetime) -> list[UUID]:
        """The deliveries made; none where the same message was stored before."""
        read = Read(Arrival(envelope, now, time.monotonic()), parse(envelope.message))
        found = sort([read], await _known(session, read), self._keyring, now=now)
        jobs = []
        for event in found.events:
            session.add(_event(event))
            deliveries = [
                DeliveryRow(id=new_id(), event_id=event.id, endpoint_id=endpoint.id, attempts=0)
                for endpoint in await _hearers(session, event)
            ]
            session.add_all(deliveries)
            jobs += [delivery.id for delivery in deliveries]
        try:
            await session.commit()
        except IntegrityError:
            return []
        return jobs


async def _known(session: AsyncSession, read: Read) -> Known:
    """The message's topic and the grants on its identity, in one query."""
    identity = read.parsed.mail.source_arn if isinstance(read.parsed, Feedback) else None
    query = (
        select(TopicRow, GrantRow)
        .outerjoin(GrantRow, GrantRow.identity_arn == identity)
        .where(TopicRow.arn == read.envelope.topic_arn)
    )
    rows = (await session.execute(query)).all()
    sources = {topic.arn: _source(topic) for topic, _ in rows}
    grants: list[GrantRow] = [grant for _, grant in rows if grant is not None]
    return Known(sources, {identity: Standing([_candidate(grant) for grant in grants])} if identity else {})


def _source(topic: TopicRow) -> Source:
    accounts = tuple(topic.accounts)
    return Source(topic_arn=topic.arn, tenant_id=topic.tenant_id, accounts=accounts, source=topic.source)


def _candidate(grant: GrantRow) -> Candidate:
    return Candidate(
        grant_id=grant.id,
        owner_id=grant.owner_id,
        delegate_id=grant.delegate_id,
        identity_arn=grant.identity_arn,
        accounts=tuple(grant.accounts),
        feedback=msgspec.convert(grant.feedback, FeedbackTerms),
        activated_at=grant.activated_at,
        ended_at=grant.ended_at,
        verified_at=grant.verified_at,
    )


def _event(event: NewEvent) -> EventRow:
    return EventRow(
        **msgspec.structs.asdict(event) | {"key": event.key.digest, "data": msgspec.to_builtins(event.data)}
    )


async def _hearers(session: AsyncSession, event: NewEvent) -> list[EndpointRow]:
    """Endpoints of the parties that may hear of the event and want it."""
    parties = [
        tenant
        for tenant, view in ((event.owner_id, event.owner_view), (event.delegate_id, event.delegate_view))
        if view is not None
    ]
    found = await session.scalars(select(EndpointRow).where(EndpointRow.tenant_id.in_(parties)))
    return [endpoint for endpoint in found if wants(endpoint, event)]


def wants(endpoint: EndpointRow, event: NewEvent) -> bool:
    """Whether an endpoint's filters let an event through; an empty filter lets all of them."""
    family = event.type.partition(".")[0] + ".*"
    return (
        (endpoint.event_types is None or event.type in endpoint.event_types or family in endpoint.event_types)
        and (endpoint.grant_ids is None or event.grant_id in endpoint.grant_ids)
        and (endpoint.identity_arns is None or event.data.identity in endpoint.identity_arns)
    )


@post(FEEDBACK_PATH, status_code=200)
async def receive(request: Request[Any, Any, Any]) -> Response[bytes]:
    """One message of SNS."""
    intake: Intake = request.app.state.intake
    await intake.take(request.headers, await request.body(), now=clock.now())
    return Response(b"")


@get("/health/ready")
async def ready() -> None:
    """Answers as soon as it serves."""


def create() -> Litestar:
    """The application, over tables that are made when it starts."""
    settings = load(os.environ)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        keyring = Keyring(settings.fernet_keys, pepper=settings.api_key_pepper)
        await _prepare(settings, keyring)
        aws, fetcher = Aws(settings), HttpFetcher(trusted_url=settings.aws_endpoint_url)
        engine = pool(settings)
        redis = connect(settings.redis_url, QUEUE)
        app.state.intake = Intake(
            async_sessionmaker(engine, expire_on_commit=False, autoflush=False),
            Verifier(
                Certificates(SnsGateway(aws, fetcher, settings)),
                partition=settings.aws_partition,
                endpoint_origin=settings.aws_endpoint_url or None,
            ),
            keyring,
            redis,
        )
        try:
            yield
        finally:
            await disconnect(redis)
            await engine.dispose()
            await fetcher.close()
            await aws.close()

    return Litestar(
        route_handlers=[receive, ready],
        lifespan=[lifespan],
        exception_handlers={BrokerError: answer_broker_error},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=settings.body_limit,
    )


async def _prepare(settings: Settings, keyring: Keyring) -> None:
    engine = db.connect(settings.owner_database_url, pool_size=1)
    login = make_url(settings.database_url).username or ""
    async with engine.begin() as connection:
        await prepare(connection, keyring, login=login)
    await engine.dispose()


def tell_round_trips() -> None:
    """Logs the process's SQL round trips as the broker's programs do, for `bench.stack`."""
    print(json.dumps({"round_trips": ROUND_TRIPS.count}), flush=True)  # noqa: T201 — the log is this program's output


def main(port: int) -> None:
    """Serves until SIGTERM, as the broker's own API is served."""
    # uvicorn sends itself the signal again once it has ended, so that the program dies of it; here there is more to do.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with sampled("api"):
        uvicorn.run(
            create,
            factory=True,
            host="127.0.0.1",
            port=port,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            log_level="info",
            access_log=False,
            server_header=False,
        )
    tell_round_trips()


if __name__ == "__main__":
    main(int(sys.argv[1]))
