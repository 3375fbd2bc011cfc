"""Mail about access that cannot be taken back: to both parties, tried until a mail server takes it, in nobody's way."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text

from broker.caller import Caller
from broker.configuration import load
from broker.crypto import Keyring
from broker.db import Role
from broker.errors import Refused, Unavailable
from broker.gateways.smtp import SmtpMailer
from broker.grants import end
from broker.grants.alarms import sending, wording
from broker.grants.alarms.sending import Mailer
from broker.grants.alarms.wording import Stuck
from broker.grants.lifecycle import Paper, Party, State
from broker.grants.views import GrantView, Reason
from broker.ids import new_id
from broker.settings import SettingsError
from broker.tenants import service as tenants
from broker.tenants.views import TenantChange
from tests.gateways.mail_server import MailServer, mail_server
from tests.grants.test_published_failures import deny_deletes, works
from tests.grants.test_sync import Stage, stage

__all__ = ["stage"]  # the fixture

SENDER = "alarms@broker.example"


@pytest_asyncio.fixture
async def mail() -> AsyncIterator[MailServer]:
    """A mail server."""
    async with mail_server() as server:
        yield server


async def address(stage: Stage, caller: Caller, to: str | None) -> str | None:
    """A party names where alarms go."""
    changed = await tenants.change(stage.db, caller, TenantChange(alarm_address=to))
    return changed.alarm_address


async def stuck(stage: Stage) -> GrantView:
    """A revoked grant that SES does not let us take away."""
    grant = await stage.agreed()
    await stage.until(grant, State.ACTIVE)
    stage.ses.before = deny_deletes
    await end.revoke(stage.db, stage.parties.owner, grant.id, Reason())
    await stage.sync()
    return grant


async def send(stage: Stage, mailer: Mailer | None) -> None:
    """One run over what is due, of this owner; others' alarms are left alone."""
    async with stage.db.as_role(Role.WORKER).begin(stage.parties.owner) as session:
        ids = list(
            await session.scalars(text("UPDATE alarms SET due_at = now() WHERE due_at IS NOT NULL RETURNING id"))
        )
    await sending.run(stage.db.as_role(Role.WORKER), mailer, only=ids)


async def fates(stage: Stage) -> list[tuple[str, str | None]]:
    """What became of each mail."""
    async with stage.db.as_role(Role.WORKER).begin(stage.parties.owner) as session:
        rows = await session.execute(text("SELECT party, outcome FROM alarms ORDER BY party DESC"))
        return [(row.party, row.outcome) for row in rows]


async def test_both_parties_are_told_and_the_owner_alone_reads_the_command(stage: Stage, mail: MailServer) -> None:
    await address(stage, stage.parties.owner, "owner@example.com")
    await address(stage, stage.parties.delegate, "agency@example.net")
    grant = await stuck(stage)
    (name,) = [each for each in stage.ours() if "-deny-" not in each]

    await send(stage, SmtpMailer(mail.url, sender=SENDER))
    await send(stage, SmtpMailer(mail.url, sender=SENDER))

    mails = dict(mail.mails)
    told = {to: str(each.get_content()) for to, each in mails.items()}
    assert (["agency@example.net", "owner@example.com"], 2) == (sorted(told), len(mail.mails))
    assert (
        f"aws sesv2 delete-email-identity-policy --region eu-west-1 --email-identity example.com --policy-name {name}"
        in (told["owner@example.com"])
    )
    assert "aws" not in told["agency@example.net"].replace(stage.parties.arn, "")
    for body in told.values():
        assert str(grant.id) in body
        assert "User is not authorized to perform ses:DeleteEmailIdentityPolicy" in body
    letter = mails["owner@example.com"]
    assert (SENDER, "auto-generated") == (letter["From"], letter["Auto-Submitted"])
    assert "Access to example.com could not be taken back from" in letter["Subject"]
    assert [b"\0us@er\0pass/word"] * 2 == mail.logins
    assert [("owner", "sent"), ("delegate", "sent")] == await fates(stage)


async def test_a_mail_is_tried_until_a_server_takes_it_and_nobody_waits_for_it(stage: Stage, mail: MailServer) -> None:
    """No server, then one that is busy; the access goes on being taken away meanwhile."""
    await address(stage, stage.parties.owner, "owner@example.com")
    await stuck(stage)
    mail.answers["RCPT"] = ["451 later"]

    await send(stage, SmtpMailer("smtp://127.0.0.1:9", sender=SENDER))
    await send(stage, SmtpMailer(mail.url, sender=SENDER))
    before = (await fates(stage), len(mail.mails))
    await send(stage, SmtpMailer(mail.url, sender=SENDER))

    assert ([("owner", None), ("delegate", "unaddressed")], 0) == before
    assert ([("owner", "sent"), ("delegate", "unaddressed")], 1) == (await fates(stage), len(mail.mails))


async def test_a_mail_sent_twice_has_one_message_id(mail: MailServer) -> None:
    """A worker may end between sending and writing that down."""
    mailer, message_id = SmtpMailer(mail.url, sender=SENDER), new_id()

    for _ in range(2):
        await mailer.send(message_id, to="owner@example.com", subject="S", body="B")

    assert {f"<{message_id}@broker.example>"} == {str(each["Message-ID"]) for _, each in mail.mails}


async def test_what_a_server_refuses_for_good_is_not_tried_again(stage: Stage, mail: MailServer) -> None:
    await address(stage, stage.parties.owner, "owner@example.com")
    await stuck(stage)
    mail.answers["RCPT"] = ["550 no such user"]

    await send(stage, SmtpMailer(mail.url, sender=SENDER))

    assert ("owner", "refused") in await fates(stage)


async def test_without_a_mail_server_the_rest_goes_on(stage: Stage) -> None:
    """Webhooks have told both; the access is taken away as soon as SES lets us."""
    await address(stage, stage.parties.owner, "owner@example.com")
    grant = await stuck(stage)
    await send(stage, None)
    stage.ses.before = works

    await stage.until(grant, State.REVOKED)

    assert [("owner", "off"), ("delegate", "unaddressed")] == await fates(stage)


async def test_nobody_is_alarmed_of_what_is_gone_already(stage: Stage, mail: MailServer) -> None:
    await address(stage, stage.parties.owner, "owner@example.com")
    grant = await stuck(stage)
    stage.ses.before = works
    await stage.until(grant, State.REVOKED)

    await send(stage, SmtpMailer(mail.url, sender=SENDER))

    assert ([("owner", "over"), ("delegate", "over")], []) == (await fates(stage), mail.mails)


async def test_a_server_elsewhere_without_tls_gets_nothing(mail: MailServer) -> None:
    """Not the mail, and not the password (RFC 3207)."""
    mailer = SmtpMailer(mail.url, sender=SENDER, in_clear=())

    with pytest.raises(Unavailable):
        await mailer.send(new_id(), to="a@example.com", subject="S", body="B")

    assert ([], []) == (mail.logins, mail.mails)


async def test_a_subject_cannot_carry_another_header(mail: MailServer) -> None:
    with pytest.raises(Refused):
        await SmtpMailer(mail.url, sender=SENDER).send(new_id(), to="a@b.example", subject="S\r\nBcc: x@y.z", body="B")

    assert [] == mail.mails


async def test_the_alarm_address_is_shown_and_can_be_taken_back(stage: Stage) -> None:
    shown = await address(stage, stage.parties.owner, "alarm@example.com")
    kept = (await tenants.show(stage.db, stage.parties.owner)).alarm_address
    gone = await address(stage, stage.parties.owner, None)

    assert ("alarm@example.com", "alarm@example.com", None) == (shown, kept, gone)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "a",
        "a@",
        "@b.example",
        "a b@c.example",
        "a@b.example\n",
        "a@b.example,c@d.example",
        "<a@b.example>",
        "ä@b.de",
    ],
)
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="alarm_address"):
        msgspec.convert({"alarm_address": wrong}, TenantChange)


@pytest.mark.parametrize("party", Party)
@pytest.mark.parametrize("paper", [Paper.REVOKED, Paper.RELINQUISHED, Paper.EXPIRED, Paper.PAUSED, Paper.AGREED])
def test_each_ending_has_words_for_each_party(party: Party, paper: Paper) -> None:
    told = Stuck(new_id(), "arn:aws:ses:eu-west-1:1:identity/example.com", paper, "Owner", "Agency", "No.", ["aws x"])

    said = wording.body(told, party)

    assert (party is Party.OWNER) is ("aws x" in said)
    assert said.isascii()


@pytest.mark.parametrize(
    ("url", "sender", "good"),
    [
        ("", "", True),
        ("smtp://user:pass@mail.example:587", SENDER, True),
        ("smtps://mail.example", SENDER, True),
        ("smtp://mail.example", "", False),
        ("", SENDER, False),
        ("http://mail.example", SENDER, False),
        ("smtp://mail.example", "Alarms", False),
    ],
)
def test_a_mail_server_and_a_sender_go_together(url: str, sender: str, good: bool, environment: dict[str, Any]) -> None:
    given = {**environment, "BROKER_SMTP_URL": url, "BROKER_MAIL_FROM": sender}

    if good:
        assert url == load(given).smtp_url
    else:
        with pytest.raises(SettingsError, match="BROKER_SMTP_URL"):
            load(given)


@pytest.fixture
def environment(keyring: Keyring) -> dict[str, str]:
    """What every installation needs."""
    return {
        "BROKER_DATABASE_URL": "postgresql+asyncpg://x@127.0.0.1/x",
        "BROKER_SECRET_KEYS": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "BROKER_API_KEY_PEPPER": "pepper-for-tests-only-0123456789abcdef",
        "BROKER_REGISTRATION": "open",
    }
