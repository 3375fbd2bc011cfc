"""The suppression list of a delegate's account, against the local AWS."""

import pytest

from broker.aws_access import RoleAccess
from broker.connections.permissions import Role
from broker.connections.role_documents import role_policy, trust_policy
from broker.errors import Refused
from broker.ids import new_id
from tests.connections.aws import EXTERNAL_ID, Gateways, cloud, gateways
from tests.sandbox.aws import REGION, Account
from tests.sandbox.aws import Aws as LocalAws

__all__ = ["cloud", "gateways"]


def delegate_access(account: Account, *more: str) -> RoleAccess:
    """The role of the template in this account, with these actions added by hand."""
    policy = role_policy(Role.DELEGATE, account.id, "aws")
    policy["Statement"] += [{"Effect": "Allow", "Action": action, "Resource": "*"} for action in more]
    trust = trust_policy("999999999999", "aws", EXTERNAL_ID)
    role = account.make_role("SesDelegationBroker", trust, policy=policy)
    return RoleAccess(new_id(), account.id, role, EXTERNAL_ID, REGION)


async def test_an_address_is_put_there_and_again_with_another_reason(gateways: Gateways, cloud: LocalAws) -> None:
    account = cloud.account()
    access = delegate_access(account, "ses:PutSuppressedDestination")

    for reason in ("BOUNCE", "COMPLAINT"):
        await gateways.ses.suppress(access, "jane@example.org", reason=reason)

    held = account.client("sesv2").get_suppressed_destination(EmailAddress="jane@example.org")
    assert "COMPLAINT" == held["SuppressedDestination"]["Reason"]


async def test_the_role_of_the_template_may_not(gateways: Gateways, cloud: LocalAws) -> None:
    """Nobody's list is touched who has not given the right for it."""
    access = delegate_access(cloud.account())

    with pytest.raises(Refused, match="PutSuppressedDestination"):
        await gateways.ses.suppress(access, "jane@example.org", reason="BOUNCE")


async def test_what_is_no_address_is_refused(gateways: Gateways, cloud: LocalAws) -> None:
    access = delegate_access(cloud.account(), "ses:PutSuppressedDestination")

    with pytest.raises(Refused) as refused:
        await gateways.ses.suppress(access, "nobody", reason="BOUNCE")

    assert "BadRequestException" == refused.value.code
