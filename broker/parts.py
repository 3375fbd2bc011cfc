"""Builds everything that has a connection: the one place where gateways meet the slices that use them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from uuid import UUID

from broker import clock, db, idempotency
from broker.bell import Bells
from broker.caller import NOBODY
from broker.connections import permissions, verify
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.fastpath import FastPath
from broker.feedback import requests, routes, topics
from broker.feedback.envelope import Envelope
from broker.feedback.flusher import Flusher
from broker.feedback.ingest import Tally, ingest
from broker.feedback.receive import Receiver
from broker.feedback.signature import Certificates, Verifier
from broker.gateways.aws import Aws
from broker.gateways.http import HttpFetcher, HttpSender
from broker.gateways.queue import ArqBell
from broker.gateways.ses import SesGateway
from broker.gateways.sns import SnsGateway
from broker.gateways.sts import StsGateway
from broker.grants import sync
from broker.grants.release import release
from broker.grants.sync import Pace
from broker.identities.discover import Discovery
from broker.settings import Settings
from broker.webhooks import days, engine

Run = Callable[[], Awaitable[int]]


class Parts:
    """One process's parts. Made without a connection; connections open when they are first needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keyring = Keyring(settings.fernet_keys, pepper=settings.api_key_pepper)
        self.engine = db.connect(settings.database_url)
        self.aws = Aws(settings)
        self.sender = HttpSender(allow_loopback=settings.webhook_allow_loopback)
        self.fetcher = HttpFetcher(trusted_url=settings.aws_endpoint_url)
        self.sts = StsGateway(self.aws, self.fetcher, settings)
        self.ses = SesGateway(self.aws, self.sts, permissions.session_policy, partition=settings.aws_partition)
        self.sns = SnsGateway(self.aws, self.fetcher, settings)
        self.discovery = Discovery(self.ses, partition=settings.aws_partition)
        self.pace = Pace(settings.readback_gap, settings.identity_check_every)

        self.arq = ArqBell(settings.redis_url)
        self.fast_path = FastPath("identities", self._sync)
        database = Database(db.sessions(self.engine), role=Role.API, bell=Bells(self.fast_path, self.arq))
        self.api = database
        self.worker = database.as_role(Role.WORKER)
        self.pump = database.as_role(Role.PUMP)
        self.ingest = database.as_role(Role.INGEST)

        self.prover = self.sts
        self.release = release
        self.flusher = Flusher(self._store)
        self.receiver = Receiver(
            self.ingest,
            Verifier(
                Certificates(self.sns),
                partition=settings.aws_partition,
                endpoint_origin=settings.aws_endpoint_url or None,
            ),
            self.flusher,
            self.sns,
            body_limit=settings.body_limit,
        )

    def runs(self) -> Mapping[str, tuple[Database, Run]]:
        """The work behind each kind of due row: the database it looks in, and claim, act, settle for what is due."""
        return {
            "identities": (self.worker, partial(self._sync, None)),
            "connections": (self.worker, partial(verify.run, self.worker, self.sts, self.discovery)),
            "topics": (self.worker, partial(topics.run, self.worker, self.sns, self.settings)),
            "routes": (self.worker, partial(routes.run, self.worker, self.ses, self.settings)),
            "lanes": (
                self.pump,
                partial(engine.run, self.pump, self.sender, self.keyring, timeout=self.settings.webhook_timeout),
            ),
        }

    async def keep_house(self) -> None:
        """What has to be done now and then: partitions of the days to come; old answers are forgotten."""
        await days.make(self.worker)
        async with self.worker.begin(NOBODY) as session:
            await idempotency.forget(session)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """What the web application needs while it serves: the fast path and the group commit of feedback."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.close)
            await self.aws.warm(self.settings.aws_region)
            await stack.enter_async_context(self.fast_path.running())
            await self.flusher.start()
            stack.push_async_callback(self.flusher.stop)
            yield

    async def close(self) -> None:
        """Closes every connection."""
        await self.arq.close()
        await self.sender.close()
        await self.fetcher.close()
        await self.aws.close()
        await self.engine.dispose()

    async def _sync(self, only: Sequence[UUID] | None) -> int:
        return await sync.run(self.worker, self.ses, self.pace, activated=requests.activated, only=only)

    async def _store(self, batch: Sequence[Envelope]) -> Tally:
        return await ingest(self.ingest, batch, self.keyring, now=clock.now())


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """The parts of a worker process, closed at the end."""
    parts = Parts(settings)
    try:
        await parts.aws.warm(settings.aws_region)
        yield parts
    finally:
        await parts.close()
