"""Step 4: sending under a grant, and what SES refuses beside it."""

from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from broker.local.aws_account import AwsAccount
from broker.local.story_agree import BILLING, BOUNCES, NEWSLETTER, SHOWN_AS
from broker.local.telling import Teller, Untrue
from broker.local.world import DOMAIN, World
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate

READER = "reader@customer.example"
CEO = f"ceo@{DOMAIN}"


class Mail(msgspec.Struct, frozen=True):
    """One mail as its sender wants it."""

    address: str
    name: str | None = None
    return_path: str | None = None
    to: str = READER

    @property
    def sender(self) -> str:
        """The From header."""
        return f"{self.name} <{self.address}>" if self.name else self.address


AGREED = Mail(NEWSLETTER, SHOWN_AS, BOUNCES)
BILL = Mail(BILLING)


def play(world: World, tell: Teller) -> None:
    """As agreed: accepted. In any other way, or from elsewhere: refused by the policies, in SES's own words."""
    first = world.first.aws
    tell.claim(
        f"SendEmail from {AGREED.sender}, Return-Path {BOUNCES}: accepted",
        bool(send(world, first, AGREED)),
    )
    tell.claim("SendRawEmail of the same: accepted", bool(_send_raw(world, first, AGREED)))
    claim_refused(world, tell, f"As {CEO}", first, msgspec.structs.replace(AGREED, address=CEO))
    claim_refused(world, tell, "Without the Return-Path", first, msgspec.structs.replace(AGREED, return_path=None))
    claim_refused(world, tell, f"From account {world.second.aws.account_id}", world.second.aws, AGREED)
    claim_refused(world, tell, f"From account {world.stranger.aws.account_id}", world.stranger.aws, AGREED)
    tell.claim(f"{world.second.name} sends as {BILLING}: accepted", bool(send(world, world.second.aws, BILL)))


def send(world: World, account: AwsAccount, mail: Mail, *, delegated: bool = True) -> str:
    """The message id of SES; botocore's ClientError where it refuses. Not ``delegated``: the identity is one's own."""
    given: dict[str, Any] = {"FromEmailAddressIdentityArn": world.identity_arn} if delegated else {}
    if mail.return_path:
        given["FeedbackForwardingEmailAddress"] = mail.return_path
        given["FeedbackForwardingEmailAddressIdentityArn"] = world.identity_arn
    answer = account.client("sesv2").send_email(
        FromEmailAddress=mail.sender,
        Destination={"ToAddresses": [mail.to]},
        Content={"Simple": {"Subject": {"Data": "News"}, "Body": {"Text": {"Data": "Hello."}}}},
        **given,
    )
    return str(answer["MessageId"])


def _send_raw(world: World, account: AwsAccount, mail: Mail) -> str:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = mail.sender, mail.to, "News"
    message.set_content("Hello.")
    answer = account.client("ses").send_raw_email(
        Source=mail.return_path,
        Destinations=[mail.to],
        RawMessage={"Data": message.as_bytes()},
        FromArn=world.identity_arn,
        SourceArn=world.identity_arn,
        ReturnPathArn=world.identity_arn,
    )
    return str(answer["MessageId"])


def claim_refused(world: World, tell: Teller, how: str, account: AwsAccount, mail: Mail) -> None:
    """SES refuses with its code and its text, and the policies that it holds say why."""
    expected = f"User `{account.arn}' is not authorized to perform `ses:SendEmail' on resource `{world.identity_arn}'"
    code, text = _refusal(world, account, mail)
    tell.claim(
        f"{how}: refused. {_why(world, account, mail)}",
        (code, text) == ("AccessDeniedException", expected),
        f"{code}: {text}",
    )
    tell.note(f"{code}: {text}")


def _refusal(world: World, account: AwsAccount, mail: Mail) -> tuple[str, str]:
    try:
        return "accepted", send(world, account, mail)
    except ClientError as error:
        told = error.response["Error"]
        return str(told["Code"]), str(told["Message"])


def _why(world: World, account: AwsAccount, mail: Mail) -> str:
    """The reason, from the policies as the owner reads them."""
    asked = Send(
        action="ses:SendEmail",
        caller_account=account.account_id,
        caller_arn=account.arn,
        from_address=mail.address,
        from_display_name=mail.name,
        feedback_address=mail.return_path,
        recipients=[mail.to],
        time=datetime.now(UTC),
        source_ip="127.0.0.1",
        secure_transport=True,
    )
    verdict = evaluate(list(world.policies().values()), asked, identity_arn=world.identity_arn)
    if verdict.decision is Decision.allow:
        raise Untrue(f"The policies allow it: {verdict.reason}")
    return verdict.reason
