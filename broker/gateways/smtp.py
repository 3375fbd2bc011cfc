"""Hands mail to an SMTP server, such as SES's own (email-smtp.<Region>.amazonaws.com, port 587)."""

import asyncio
import smtplib
import ssl
from collections.abc import Collection
from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import unquote, urlsplit
from uuid import UUID

from broker.errors import Refused, Unavailable

TIMEOUT = 20.0  # seconds, of each answer of the server
PORTS = {"smtp": 587, "smtps": 465}  # RFC 6409, section 3.1; RFC 8314, section 3.3
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class SmtpMailer:
    """One connection for each mail: alarms are rare. TLS always, but to a server on this machine.

    Raises `Refused` where the server will never take the mail for this address, and `Unavailable` for everything else,
    wrong credentials included: those are the operator's, who will mend them.
    """

    def __init__(self, url: str, *, sender: str, in_clear: Collection[str] = LOOPBACK) -> None:
        self._server = urlsplit(url)
        self._sender = sender
        self._in_clear = in_clear

    async def send(self, message_id: UUID, *, to: str, subject: str, body: str) -> None:
        """Sends plain text; a mail that is sent again has the same Message-ID."""
        message = EmailMessage()
        try:
            message["From"], message["To"], message["Subject"] = self._sender, to, subject
        except ValueError as error:
            raise Refused("The mail cannot be addressed.", code="BadHeader") from error
        message["Message-ID"] = f"<{message_id}@{self._sender.rpartition('@')[2].rstrip('>')}>"
        message["Date"] = formatdate()
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834, section 5: nobody on holiday answers
        message.set_content(body)
        try:
            await asyncio.to_thread(self._deliver, message, to)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = error.recipients[to]
            raise _refusal(code, said) from error
        except smtplib.SMTPDataError as error:
            raise _refusal(error.smtp_code, error.smtp_error) from error
        except (smtplib.SMTPException, OSError) as error:
            raise Unavailable(f"The mail server does not take mail now: {type(error).__name__}.") from error

    def _deliver(self, message: EmailMessage, to: str) -> None:
        """Runs in a thread of its own."""
        server = self._server
        host, port = server.hostname or "", server.port or PORTS[server.scheme]
        context = ssl.create_default_context()
        if server.scheme == "smtps":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=context)
        else:
            connection = smtplib.SMTP(host, port, timeout=TIMEOUT)
        with connection:
            if server.scheme == "smtp" and host not in self._in_clear:
                connection.starttls(context=context)  # raises where the server has none: nothing goes in the clear
            if server.username:
                connection.login(unquote(server.username), unquote(server.password or ""))
            connection.send_message(message, to_addrs=[to])


def _refusal(code: int, said: bytes | str) -> Refused | Unavailable:
    """5yz is for good, 4yz for now (RFC 5321, section 4.2.1)."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    detail = f"The mail server answered {code} {text}"[:500]
    return Refused(detail, code=str(code)) if code >= 500 else Unavailable(detail)
