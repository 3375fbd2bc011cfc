"""A hundred and forty grants on one identity, against a local AWS that counts policies and bytes as SES does."""

from collections.abc import Collection
from datetime import UTC, datetime

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from broker.crypto import Keyring
from broker.db import Database, Role
from broker.grants import end, sync
from broker.grants.hooks import Hooks
from broker.grants.lifecycle import State
from broker.grants.models import Grant
from broker.grants.views import GrantView, Reason
from broker.identities import service as identities
from broker.policies.compile import MAX_DOCUMENT_BYTES
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate
from broker.policies.pack import KEPT_FREE
from broker.policies.plan import MAX_POLICIES
from tests.conftest import new_tenant
from tests.connections.aws import Gateways, cloud, gateways, make_role
from tests.grants.conftest import make_parties, terms_for
from tests.grants.test_sync import PACE, Stage
from tests.sandbox.aws import Account
from tests.sandbox.aws import Aws as LocalAws

__all__ = ["cloud", "gateways"]  # the fixtures

MARKS = (21, 60, 140)


class AwsStage(Stage):
    """A committed negotiation whose identity is in the local AWS."""

    owner: Account
    gateways: Gateways

    async def sync(self) -> int:
        """One run of the worker over this identity."""

        async def nothing(session: AsyncSession, grant: Grant) -> None:
            pass

        hooks = Hooks(activated=nothing, ended=nothing)
        only = [self.parties.identity_id]
        return await sync.run(self.db.as_role(Role.WORKER), self.gateways.ses, PACE, hooks=hooks, only=only)

    def policies(self) -> dict[str, str]:
        """Everything on the identity, asked of AWS by the owner itself."""
        answer = self.owner.client("sesv2").get_email_identity_policies(EmailIdentity="example.com")
        return dict(answer["Policies"])


@pytest_asyncio.fixture
async def aws_stage(committed_db: Database, keyring: Keyring, cloud: LocalAws, gateways: Gateways) -> AwsStage:
    owner, delegate = await new_tenant(committed_db, "owner"), await new_tenant(committed_db, "delegate")
    stage = AwsStage(committed_db, await make_parties(committed_db, owner, delegate), keyring)
    stage.owner, stage.gateways = Account(cloud, stage.parties.account), gateways
    Account(cloud, stage.parties.delegate_account)
    make_role(stage.owner, "external")
    stage.owner.verify("example.com")
    return stage


def address(number: int) -> str:
    return f"news{number:03}@example.com"


def may_send(stage: AwsStage, numbers: Collection[int]) -> set[int]:
    """Whose sends the policies on the identity allow."""
    policies = list(stage.policies().values())
    account, arn = stage.parties.delegate_account, stage.parties.arn
    sends = {
        number: Send(
            action="ses:SendRawEmail",
            caller_account=account,
            from_address=address(number),
            recipients=["ann@example.org"],
            time=datetime.now(UTC),
        )
        for number in numbers
    }
    return {
        number
        for number, send in sends.items()
        if evaluate(policies, send, identity_arn=arn).decision is Decision.allow
    }


async def agree(stage: AwsStage, numbers: Collection[int]) -> list[GrantView]:
    return [await stage.agreed(terms_for(stage.parties, from_addresses=(address(each),))) for each in numbers]


async def test_the_140th_grant_works_and_one_of_them_ends_alone(aws_stage: AwsStage) -> None:
    """Account principal, two actions, one From address, an end date; AWS takes 20 policies of 4 KB."""
    stage, grants = aws_stage, list[GrantView]()
    held: dict[int, tuple[int, set[int]]] = {}
    for mark in MARKS:
        grants += await agree(stage, range(len(grants), mark))
        await stage.until(grants[-1], State.ACTIVE)
        held[mark] = len(stage.policies()), may_send(stage, range(mark))
    before = stage.policies()

    await end.revoke(stage.db, stage.parties.owner, grants[70].id, Reason())
    await stage.until(grants[70], State.REVOKED)

    most = MAX_POLICIES - KEPT_FREE
    assert {mark: (most, set(range(mark))) for mark in MARKS} == held
    assert set(range(140)) - {70} == may_send(stage, range(140))
    after = stage.policies()
    assert most - 1 == len(before.items() & after.items())
    view = await identities.one(stage.db, stage.parties.owner, stage.parties.identity_id)
    assert view.room is not None
    assert (0, 139) == (view.room.policies, len(view.room.taken))
    assert 18 * 11 - 139 == view.room.small_grants


async def test_a_grant_for_somebody_who_does_not_exist_fails_alone(aws_stage: AwsStage) -> None:
    """AWS refuses the whole document for one principal (InvalidPolicy); the neighbours are in it all the same."""
    stage = aws_stage
    statement = '{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"ses:SendEmail","Resource":"%s"}'
    foreign = '{"Version":"2012-10-17","Statement":[' + statement % (stage.parties.account, stage.parties.arn) + "]}"
    for number in range(17):
        stage.owner.client("sesv2").create_email_identity_policy(
            EmailIdentity="example.com", PolicyName=f"foreign{number}", Policy=foreign
        )
    await stage.wake()
    await stage.sync()
    user = f"arn:aws:iam::{stage.parties.delegate_account}:user/nobody"

    good = await agree(stage, [0])
    bad = await stage.agreed(terms_for(stage.parties, principals=(user,)))
    good += await agree(stage, [1])
    failed = await stage.until(bad, State.ACTIVATION_FAILED)

    for grant in good:
        await stage.until(grant, State.ACTIVE)
    assert failed.error is not None
    assert user in failed.error
    assert {0, 1} == may_send(stage, range(2))
    assert max(len(text.encode()) for text in stage.policies().values()) <= MAX_DOCUMENT_BYTES
