"""One event on its way from the feed to a developer's server, and who is told what became of it."""

from typing import Protocol
from uuid import UUID

import msgspec


class Told(msgspec.Struct, frozen=True):
    """One event in the feed; what is signed is put together from the very bytes of the answer."""

    id: UUID
    type: str
    timestamp: msgspec.Raw
    data: msgspec.Raw

    def body(self) -> bytes:
        """The body that a webhook gets, byte for byte (`broker.webhooks.render`)."""
        kind = msgspec.json.encode(self.type)
        return b'{"type":%b,"timestamp":%b,"data":%b}' % (kind, bytes(self.timestamp), bytes(self.data))


class About(msgspec.Struct, frozen=True):
    """Whom or what an event is about."""

    recipient: str | None = None
    recipient_hash: str | None = None
    grant_id: str | None = None


class Forwarded(msgspec.Struct, frozen=True, kw_only=True):
    """One event with what the developer's server answered; no `status`: there was no answer, and `error` says why."""

    id: str
    type: str
    about: About
    status: int | None
    ms: int
    error: str | None

    @property
    def accepted(self) -> bool:
        """As a webhook would be."""
        return self.status is not None and 200 <= self.status < 300


class Screen(Protocol):
    """Who is told how it goes."""

    def say(self, sentence: str) -> None:
        """Something for the developer."""
        ...

    def show(self, forwarded: Forwarded) -> None:
        """One event was forwarded."""
        ...
