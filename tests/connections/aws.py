"""What tests with a local AWS share: the gateways against it, owners with roles, and signed proofs."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections import challenge, role_documents, service
from broker.connections.models import Kind
from broker.connections.permissions import Role
from broker.connections.role_documents import role_policy, trust_policy
from broker.connections.views import ConnectionView, Installation, NewConnection
from broker.db import Database
from broker.gateways.aws import Aws, Credentials
from broker.gateways.http import HttpFetcher
from broker.gateways.ses import SesGateway
from broker.gateways.sns import SnsGateway
from broker.gateways.sts import StsGateway
from broker.ids import new_id
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Settings
from tests.sandbox.aws import REGION, Account, Keys
from tests.sandbox.aws import Aws as LocalAws

EXTERNAL_ID = "e" * 48


class Gateways(msgspec.Struct, frozen=True):
    """The gateways of a broker whose AWS is the local one."""

    settings: Settings
    aws: Aws
    fetcher: HttpFetcher
    sts: StsGateway
    ses: SesGateway
    sns: SnsGateway

    @property
    def here(self) -> Installation:
        return Installation(self.settings, self.sts.endpoint)


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalAws]:
    """One local AWS; each test opens accounts of its own."""
    with start_in_thread(dialect=Dialect(sns_retry_seconds=0.02)) as running:
        yield LocalAws(running.url)


@pytest_asyncio.fixture(scope="module")
async def gateways(cloud: LocalAws, settings: Settings) -> AsyncIterator[Gateways]:
    # The local AWS is in this very process: where that stands still for a while, no call is too late for it.
    patient = {"aws_call_timeout": timedelta(minutes=1)}
    here = msgspec.structs.replace(settings, aws_endpoint_url=cloud.url, aws_region=REGION, **patient)
    made = cloud.control("POST", "accounts", {"account_id": here.aws_account_id})
    aws = Aws(here, own=Credentials(made["access_key_id"], made["secret_access_key"]))
    fetcher = HttpFetcher(trusted_url=cloud.url)
    sts = StsGateway(aws, fetcher, here)
    ses = SesGateway(aws, sts, role_documents.session_policy, partition="aws")
    yield Gateways(here, aws, fetcher, sts, ses, SnsGateway(aws, fetcher, here))
    await fetcher.close()
    await aws.close()


def make_role(
    account: Account, external_id: str, *, name: str = "SesDelegationBroker", without: tuple[str, ...] = ()
) -> str:
    """The role of the template in this account; `without` leaves actions out of its policy. Returns its ARN."""
    policy = role_policy(Role.OWNER, account.id, "aws")
    for statement in policy["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action not in without]
    return account.make_role(name, trust_policy("999999999999", "aws", external_id), policy=policy)


def owner_access(account: Account, *, external_id: str = EXTERNAL_ID) -> RoleAccess:
    """A role in the account, and how to act through it."""
    return RoleAccess(new_id(), account.id, make_role(account, external_id), external_id, REGION)


def foreign_policy(arn: str, principal: str) -> str:
    """A policy that the owner has made by itself."""
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "ses:SendEmail", "Resource": arn}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def connected(db: Database, caller: Caller, gateways: Gateways, account_id: str, kind: Kind) -> ConnectionView:
    """A new connection of this kind."""
    asked = NewConnection(kind=kind, account_id=account_id, regions=(REGION,))
    return await service.create(db, caller, asked, here=gateways.here)


def presigned(cloud: LocalAws, keys: Keys, nonce: str, *, method: str = "GET") -> str:
    """A presigned GetCallerIdentity with our header in the signature, made with boto3 as a delegate would."""
    sts: Any = cloud.client("sts", keys)
    sts.meta.events.register(
        "before-sign.sts.GetCallerIdentity",
        lambda request, **_: request.headers.add_header(challenge.HEADER, nonce),
    )
    return str(sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod=method))
