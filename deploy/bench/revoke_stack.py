"""What a revoke run needs to run: the bench's stack in the local AWS, a policy worker, and grants to revoke."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.messages import CERTIFICATE_PATH, Stock
from bench.revoke_aws import READY as AWS_READY
from bench.revoke_seed import Granted, Seeder
from bench.stack import DEPLOY, Say, Stack, connection, started
from broker.local.aws import LocalAws
from broker.local.crew import Crew, Server
from broker.local.environment import BROKER_ACCOUNT, local_aws_settings, without_cloud
from broker.local.stack import WORKER_READY
from broker.local.telling import wait_for
from workers.main import GIVES_WAY

PATIENCE_S = 60.0


@contextlib.contextmanager
def running(directory: Path, stock: Stock, say: Say) -> Iterator[tuple[Stack, LocalAws]]:
    """The bench's stack, with the local AWS instead of the sink as its AWS endpoint, and a policy worker.

    Owners ask an API of their own: what takes feedback in is another process, as where it comes by SQS, and gives way.
    """
    with Crew(directory / "logs-aws") as crew:
        aws = LocalAws(_start_aws(crew, directory, stock).url)
        settings = local_aws_settings(aws.url, aws.open_account(BROKER_ACCOUNT))
        with started(directory, stock, say, settings=settings) as servers, Crew(directory / "logs-policy") as policy:
            asyncio.run(_keep_commit_times(servers))
            servers.postgres.stop()
            servers.start_postgres()
            servers.start_api("--nice", str(GIVES_WAY["feedback"]))
            servers.start_workers(1)
            words = (sys.executable, "-m", "workers.main", "policy")
            policy.serve("policy-worker", words, env=servers.environment, marker=WORKER_READY).result()
            servers.start_control()
            servers.start_owners_api(policy.reserve())
            yield servers, aws


def _start_aws(crew: Crew, directory: Path, stock: Stock) -> Server:
    certificate, port = directory / "sns.pem", crew.reserve()
    certificate.write_bytes(stock.certificate())
    words = (sys.executable, "-m", "bench.revoke_aws", str(port), str(certificate))
    clean = {**without_cloud(os.environ), "PYTHONPATH": os.pathsep.join((str(DEPLOY), str(DEPLOY.parent)))}
    return crew.serve("aws", words, env=clean, marker=AWS_READY, port=port, path=CERTIFICATE_PATH).result()


async def _keep_commit_times(servers: Stack) -> None:
    async with connection(servers.postgres.admin_url) as opened:
        await opened.execute("ALTER SYSTEM SET track_commit_timestamp = on")


def make_grants(servers: Stack, aws: LocalAws, owners: int) -> Sequence[Granted]:
    """Active grants of so many owners, once all that follows an activation is over."""
    seeder = Seeder(servers.owners_api.url, aws.url)
    try:
        grants = seeder.grants(owners)
    finally:
        seeder.close()
    # What follows an activation calls AWS in the owners' accounts, too: it has to be over.
    waiting = "SELECT count(*) FROM routes WHERE state = 'requested'"
    wait_for("every route is set up", lambda: servers.count(waiting) == 0 or None, PATIENCE_S)
    return grants
