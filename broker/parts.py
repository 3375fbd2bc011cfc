"""Builds everything that has a connection: the one place where gateways meet the slices that use them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from uuid import UUID

from broker import clock, collector, db, idempotency, log
from broker.audit import seal
from broker.audit.signing import Signer
from broker.bell import Bells
from broker.caller import NOBODY
from broker.connections import role_documents, verify
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.direct import Direct
from broker.fastpath import FastPath
from broker.feedback import depths, quarantine, recipients, reckoning, requests, routes, store, topics
from broker.feedback.configuration_set import ConfigurationSets
from broker.feedback.envelope import Arrival
from broker.feedback.erasures import retention
from broker.feedback.erasures import work as erasures
from broker.feedback.flusher import Flusher
from broker.feedback.foreign_topic import ForeignTopic
from broker.feedback.handling import Handler
from broker.feedback.identity_topic import IdentityTopic
from broker.feedback.ingest import Ingest, Tally
from broker.feedback.known import KnownTopics
from broker.feedback.legacy import Legacy
from broker.feedback.other_routes import OtherRoutes
from broker.feedback.owners_topics import OwnersTopics
from broker.feedback.poller import Poller, polling
from broker.feedback.receive import Receiver
from broker.feedback.reckoned import Fold
from broker.feedback.signature import Certificates, Verifier
from broker.feedback.subscribing import Subscribing
from broker.feedback.suppressions import push
from broker.feedback.usage import folding
from broker.feedback.views import RouteKind
from broker.gateways.aws import Aws
from broker.gateways.dns import DnsGateway
from broker.gateways.http import HttpFetcher, HttpSender
from broker.gateways.queue import ArqBell
from broker.gateways.ses import SesGateway
from broker.gateways.ses_notifications import NotificationsGateway
from broker.gateways.ses_sets import SesSets
from broker.gateways.shared_guesses import SharedGuesses
from broker.gateways.shared_rates import SharedRates
from broker.gateways.smtp import SmtpMailer
from broker.gateways.sns import SnsGateway
from broker.gateways.sns_tenant import TenantTopics
from broker.gateways.sqs import SqsGateway
from broker.gateways.sts import StsGateway
from broker.grants import sync
from broker.grants.alarms import sending
from broker.grants.hooks import Hooks
from broker.grants.release import release
from broker.grants.sync import Pace
from broker.identities.discover import Discovery
from broker.rates import Rates
from broker.roundtrips import ROUND_TRIPS
from broker.settings import Settings
from broker.tenants.guesses import PER_SECOND, Guesses
from broker.tenants.visits import Visits
from broker.webhooks import days, keys
from broker.webhooks.digests import work as digests
from broker.webhooks.engine import Engine
from broker.webhooks.ledger import books
from broker.webhooks.ledger.ledger import Ledger
from broker.webhooks.ledger.metrics import Metrics
from broker.webhooks.replays import work as replays

logger = log.get(__name__)
Run = Callable[[], Awaitable[int]]


class Parts:
    """One process's parts. Made without a connection; connections open when they are first needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keyring = Keyring(settings.fernet_keys, pepper=settings.api_key_pepper)
        self.signer = Signer.of(settings)
        patience = settings.database_patience.total_seconds()
        self.engine = db.connect(settings.database_url, patience=patience)
        self.aws = Aws(settings)
        self.sender = HttpSender(allow_loopback=settings.webhook_allow_loopback, own_url=settings.public_url)
        self.fetcher = HttpFetcher(trusted_url=settings.aws_endpoint_url)
        self.sts = StsGateway(self.aws, self.fetcher, settings)
        self.ses = SesGateway(self.aws, self.sts, role_documents.session_policy, partition=settings.aws_partition)
        self.notifications = NotificationsGateway(self.aws, self.sts, role_documents.session_policy)
        self.sns = SnsGateway(self.aws, self.fetcher, settings)
        self.sqs = SqsGateway(self.aws, settings)
        self.mailer = SmtpMailer(settings.smtp_url, sender=settings.mail_from) if settings.smtp_url else None
        self.resolver = DnsGateway(settings.dns_server_list)
        self.discovery = Discovery(self.ses, partition=settings.aws_partition)
        self.pace = Pace(settings.readback_gap, settings.identity_check_every, settings.deny_kept)

        self._worker_line = Direct(settings.direct_url, role=Role.WORKER)
        self.arq = ArqBell(settings.redis_url)
        self.fast_path = FastPath("identities", self._sync)
        bells = Bells(self.fast_path, self.arq)
        database = Database(db.sessions(self.engine), role=Role.API, bell=bells, quotas=settings.allowed)
        self.api = database
        self.worker = database.as_role(Role.WORKER, line=self._worker_line)
        self.pump = database.as_role(Role.PUMP)
        self.ingest = database.as_role(Role.INGEST)
        self.sets = SesSets(self.aws, self.sts, role_documents.session_policy, partition=settings.aws_partition)
        self.route_handlers = self._route_handlers()
        self.rates = Rates(
            tenant=settings.tenant_request_rate, key=settings.key_request_rate, acts=settings.allowed.a_minute()
        )
        self.guesses = Guesses()
        self.visits = Visits(settings.keyless_request_rate)
        self.ledger = Ledger()
        self.metrics = Metrics(self.pump, queue=lambda: self.flusher.waiting)
        self.deliveries = Engine(
            settings.direct_url,
            self.pump,
            self.sender,
            self.keyring,
            timeout=settings.webhook_timeout,
            ledger=self.ledger,
        )

        self.folds: Sequence[Fold] = (folding.fold, partial(recipients.fold, keyring=self.keyring))
        self.prover = self.sts
        self.release = release
        self._ingest_line = Direct(settings.direct_url, role=Role.INGEST, settings=store.AS_WRITTEN, patience=patience)
        self._ingest = Ingest(self._ingest_line, self.keyring, bell=self.arq, ledger=self.ledger)
        self.flusher = Flusher(self._store)
        self._topics_line = Direct(settings.direct_url, role=Role.INGEST, settings=store.AS_WRITTEN, patience=patience)
        self.receiver = self._receiver()

    def runs(self) -> Mapping[str, tuple[Database, Run]]:
        """The work behind each kind of due row: the database it looks in, and claim, act, settle for what is due."""
        return {
            "identities": (self.worker, partial(self._sync, None)),
            "connections": (self.worker, partial(verify.run, self.worker, self.sts, self.discovery, release=release)),
            "topics": (self.worker, partial(topics.run, self.worker, self.sns, self.settings)),
            "routes": (self.worker, partial(routes.run, self.worker, self.route_handlers, self.settings)),
            "digests": (self.worker, partial(digests.run, self.worker, retention=self.settings.event_retention)),
            "erasures": (self.worker, partial(erasures.run, self.worker, self.keyring)),
            "retentions": (self.worker, partial(retention.run, self.worker, kept=self.settings.event_retention)),
            "suppression_pushes": (self.worker, partial(push.run, self.worker, self.ses, self.keyring)),
            "alarms": (self.worker, partial(sending.run, self.worker, self.mailer)),
            "replays": (self.worker, partial(replays.run, self.worker)),
            "audit_chains": (self.worker, partial(seal.run, self.worker, self.signer)),
            "reckonings": (
                self.worker,
                partial(reckoning.run, self.worker, self.folds, pace=self.settings.reckon_every),
            ),
        }

    async def keep_house(self) -> None:
        """What has to be done now and then: days to come are made; old answers, secrets, latencies and days go."""
        await days.make(self.worker)
        async with self.worker.begin(NOBODY) as session:
            await idempotency.forget(session)
            await keys.forget_ended(session)
        await retention.plan(self.worker, kept=self.settings.event_retention)
        await books.forget(self.pump)
        await quarantine.forget(self.pump, retention=self.settings.event_retention)
        await days.drop(self.pump, retention=self.settings.event_retention)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """What the web application needs while it serves: the fast path and the group commit of feedback."""
        async with AsyncExitStack() as stack:
            stack.callback(_say_stopped)
            stack.push_async_callback(self.close)
            await self.aws.warm(self.settings.aws_region)
            await stack.enter_async_context(self.fast_path.running())
            redis_url = self.settings.redis_url
            await stack.enter_async_context(SharedRates(redis_url, self.rates).running())
            await stack.enter_async_context(SharedGuesses(redis_url, self.guesses, per_second=PER_SECOND).running())
            await stack.enter_async_context(books.kept(self.pump, self.ledger))
            await self.flusher.start()
            collector.settle()
            stack.push_async_callback(self.flusher.stop)
            yield

    async def poll(self) -> None:
        """Takes feedback out of every Region's queue until cancelled; then what is in hand is stored or let go of."""
        queues = self.settings.polled
        pollers = [
            Poller(self.sqs, queue, self.receiver, partition=self.settings.aws_partition, ledger=self.ledger)
            for queue in queues
        ]
        watching = asyncio.create_task(depths.watch(self.sqs, self.pump, queues))
        try:
            await polling(pollers, self.flusher)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def close(self) -> None:
        """Closes every connection."""
        await self.arq.close()
        await self.deliveries.close()
        await self._worker_line.close()
        await self._ingest_line.close()
        await self._topics_line.close()
        await self.sender.close()
        await self.fetcher.close()
        await self.aws.close()
        await self.engine.dispose()

    def _route_handlers(self) -> Mapping[RouteKind, Handler]:
        """What sets up, checks and removes each kind of route."""
        settings = self.settings
        subscribing = Subscribing(self.sns, self._feedback_endpoint, self._dead_letters)
        where = partial(topics.over_https, settings)
        owners = OwnersTopics(self.ses, where, subscribing, settings.queues.__contains__)
        return {
            RouteKind.identity_topic: IdentityTopic(self.ses, owners, OtherRoutes(self.worker)),
            RouteKind.foreign_topic: ForeignTopic(self.worker, self.notifications),
            RouteKind.legacy: Legacy(self.worker, self.notifications),
            RouteKind.configuration_set: ConfigurationSets(
                self.sets,
                TenantTopics(self.aws, self.sts, role_documents.session_policy),
                subscribing,
                partition=settings.aws_partition,
                broker_account=settings.aws_account_id,
            ),
        }

    def _receiver(self) -> Receiver:
        """Where feedback comes in, by HTTPS and out of queues."""
        origin = self.settings.aws_endpoint_url or None
        return Receiver(
            self.ingest,
            KnownTopics(self._topics_line),
            Verifier(Certificates(self.sns), partition=self.settings.aws_partition, endpoint_origin=origin),
            self.flusher,
            self.sns,
            body_limit=self.settings.body_limit,
            ledger=self.ledger,
        )

    async def _sync(self, only: Sequence[UUID] | None) -> int:
        hooks = Hooks(activated=requests.activated, ended=requests.ended)
        return await sync.run(self.worker, self.ses, self.pace, hooks=hooks, only=only)

    def _feedback_endpoint(self, region: str) -> str:
        """Where SNS delivers topics of delegates: our queue, else our URL; empty while neither is set."""
        queue, url = self.settings.queues.get(region), self.settings.public_url
        if queue is not None:
            return queue.arn
        return url + topics.FEEDBACK_PATH if url else ""

    def _dead_letters(self, region: str) -> str | None:
        """Where SNS puts what it could not deliver of topics of delegates."""
        queue = self.settings.queues.get(region)
        return queue.dead_arn if queue else self.settings.dead_letters.get(region)

    async def _store(self, batch: Sequence[Arrival]) -> Tally:
        return await self._ingest.take(batch, now=clock.now())


def _say_stopped() -> None:
    logger.info("api stopped", round_trips=ROUND_TRIPS.count)


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """The parts of a worker process, closed at the end."""
    parts = Parts(settings)
    try:
        await parts.aws.warm(settings.aws_region)
        async with books.kept(parts.pump, parts.ledger):
            yield parts
    finally:
        await parts.close()
