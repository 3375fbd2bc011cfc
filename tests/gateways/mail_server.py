"""A mail server on loopback: SMTP as far as a client needs it that only hands mail in (RFC 5321, section 4.5.1)."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage


class MailServer:
    """Keeps what it takes. `answers` are what it says instead of 250 to a command, first come first served."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []
        self.answers: dict[str, list[str]] = {}
        self.logins: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        """With a user and a password that have to be escaped."""
        return f"smtp://us%40er:pass%2Fword@127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One session."""
        to = ""
        writer.write(b"220 mail.test ESMTP\r\n")
        while line := (await reader.readline()).decode().strip():
            verb = line.partition(" ")[0].upper()
            said = self.answers[verb].pop(0) if self.answers.get(verb) else None
            if verb == "RCPT":
                to = line.partition("<")[2].partition(">")[0]
            if verb == "AUTH":
                self.logins.append(base64.b64decode(line.rpartition(" ")[2]))
            if verb == "DATA" and said is None:
                writer.write(b"354 go on\r\n")
                raw = await reader.readuntil(b"\r\n.\r\n")
                self.mails.append((to, message_from_bytes(raw[:-5], policy=policy.default)))
            usual = {"EHLO": "250-mail.test\r\n250 AUTH PLAIN", "AUTH": "235 welcome", "QUIT": "221 bye"}
            writer.write(f"{said or usual.get(verb, '250 well')}\r\n".encode())
            if verb == "QUIT":
                break
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """One that listens while inside."""
    mail = MailServer()
    server = await asyncio.start_server(mail.talk, "127.0.0.1", 0)
    mail.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mail
