"""What the steps of the story share."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.local.aws import LocalAws
from broker.local.aws_account import AwsAccount
from broker.local.customer import Party
from broker.local.stack import Stack
from broker.local.telling import Untrue, wait_for

OWNER_ACCOUNT, FIRST_ACCOUNT, SECOND_ACCOUNT = "111111111111", "222222222222", "333333333333"
STRANGER_ACCOUNT, PAYROLL_ACCOUNT = "444444444444", "555555555555"
DOMAIN = "example.com"
OURS = "delegation-broker-"
DENY = "delegation-broker-deny-"
PAYROLL = "PayrollProvider"


class World:
    """The accounts in the local AWS, the parties once they have registered, and what the steps find out."""

    owner: Party
    first: Party
    second: Party
    stranger: Party
    newsletter: str  # id of the first delegate's grant
    billing: str  # id of the second delegate's grant

    def __init__(self, stack: Stack) -> None:
        """Prepare AWS: accounts that may send to anybody, a verified domain, and a policy on it that is not ours."""
        self.stack = stack
        self.aws = LocalAws(stack.aws_url)
        self.identity_arn = self.aws.verify_identity(OWNER_ACCOUNT, DOMAIN)
        self._accounts: list[AwsAccount] = []
        self.foreign_policy = ""  # as SES shows it before the broker comes
        self.aws.open_account(PAYROLL_ACCOUNT)  # SES takes no principal that does not exist
        self.revoke_ms: int | None = None
        self.removed_ms: int | None = None
        self.event_to_webhook_ms: int | None = None
        for account in (OWNER_ACCOUNT, FIRST_ACCOUNT, SECOND_ACCOUNT, STRANGER_ACCOUNT):
            self.aws.leave_ses_sandbox(account)

    @property
    def parties(self) -> list[Party]:
        """Those who have registered so far."""
        named = (getattr(self, name, None) for name in ("owner", "first", "second", "stranger"))
        return [party for party in named if party is not None]

    def account(self, account_id: str) -> AwsAccount:
        """One account of the local AWS."""
        account = AwsAccount(self.stack.aws_url, account_id, self.aws.open_account(account_id))
        self._accounts.append(account)
        return account

    def party(self, name: str, account_id: str, *roles: str) -> Party:
        """A tenant that has just registered."""
        return Party(name, api_url=self.stack.api_url, roles=list(roles), aws=self.account(account_id))

    def close(self) -> None:
        """Close every connection."""
        for party in self.parties:
            party.close()
        for account in self._accounts:
            account.close()

    def policies(self) -> dict[str, str]:
        """What SES holds on the identity, asked by its owner."""
        ses = self.owner.aws.client("sesv2")
        found: dict[str, str] = ses.get_email_identity_policies(EmailIdentity=DOMAIN)["Policies"]
        return found

    def ours(self) -> list[str]:
        """The broker's policies among them that let somebody send, as text."""
        policies = sorted(self.policies().items())
        return [text for name, text in policies if name.startswith(OURS) and not name.startswith(DENY)]


def write_foreign_policy(world: World) -> str:
    """Somebody else's policy, in a form that we would not write, as SES shows it once it is there."""
    ses = world.owner.aws.client("sesv2")
    ses.create_email_identity_policy(
        EmailIdentity=DOMAIN, PolicyName=PAYROLL, Policy=_foreign_policy(world.identity_arn)
    )
    return wait_for(f"SES shows the policy {PAYROLL}", lambda: world.policies().get(PAYROLL))


def _foreign_policy(identity_arn: str) -> str:
    principal, address = f"arn:aws:iam::{PAYROLL_ACCOUNT}:root", f"payroll@{DOMAIN}"
    return (
        '{ "Version" : "2012-10-17",\n\t"Statement" : [ { "Effect":"Allow", "Sid" : "PayrollMayWrite",\n'
        f'\t\t"Principal": {{"AWS": {json.dumps(principal)} }},\n\t\t"Action" : [ "ses:SendEmail" ],\n'
        f'\t\t"Resource": {json.dumps(identity_arn)},\n'
        f'\t\t"Condition" : {{ "StringLike": {{ "ses:FromAddress" : [ {json.dumps(address)} ] }} }} }} ] }}'
    )


def terms(account_id: str, address: str, *, days: int, **more: Any) -> dict[str, Any]:
    """Terms that let an account send as one address for some days."""
    return {
        "principals": [account_id],
        "actions": ["send", "send_raw"],
        "from_addresses": [address],
        "expires_at": (datetime.now(UTC) + timedelta(days=days)).isoformat(),
        **more,
    }


def the_one(items: list[Any], what: str) -> Any:
    """The only one of a list."""
    if len(items) != 1:
        raise Untrue(f"There is not one {what} but {len(items)}.")
    return items[0]
