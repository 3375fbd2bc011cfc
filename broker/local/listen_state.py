"""What `broker listen` keeps between runs, where only its user can read it: the secret, and how far it got."""

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
from datetime import datetime
from pathlib import Path

import msgspec

from broker.local.child import StartError
from broker.webhooks.signing import PREFIX, new_secret, printable

SHORTEST, LONGEST = 24, 64  # bytes of a secret (Standard Webhooks 1.0, "Signature scheme")


def key_of(secret: str) -> bytes:
    """The key in a secret as it is printed.

    Raises:
        StartError: it is none.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        raise StartError(f"A secret is {PREFIX} and base64 of {SHORTEST} to {LONGEST} bytes.")
    return key


def find_secret(directory: Path) -> str:
    """The secret of this user, made at the first time: the same in every run, whatever broker is listened to."""
    path = directory / "listen-secret"
    with contextlib.suppress(OSError):  # what cannot be read cannot be written either, which is told then
        kept = path.read_text().strip()
        key_of(kept)
        return kept
    made = printable(new_secret())
    _write(path, made.encode())
    return made


class Progress(msgspec.Struct):
    """How far the feed was forwarded: everything up to `cursor`, and after it the events in `done`.

    No cursor: it begins at the first event of all. What happened before `since` is left out.
    """

    cursor: str | None = None
    since: datetime | None = None
    done: list[str] = msgspec.field(default_factory=list)


class Bookmark:
    """Keeps the progress of one tenant's events to one URL in a file.

    The feed has a cursor for each stretch and none for each event, so what was forwarded of the stretch under way is
    kept by id. Killed between an answer and the note of it, one event is forwarded twice, under the same webhook-id.
    """

    def __init__(self, directory: Path, *, api: str, tenant: str, target: str) -> None:
        """Where the others do not disturb: a file for each API, tenant and target."""
        name = hashlib.sha256(f"{api}\n{tenant}\n{target}".encode()).hexdigest()[:24]
        self._path = directory / f"listen-{name}.json"
        found = self._read()
        self.known = found is not None
        self.progress = found or Progress()

    def begin(self, cursor: str | None, *, since: datetime | None = None) -> None:
        """Forget what was, and go on from here."""
        self.progress = Progress(cursor, since)
        self._save()

    def handled(self, event_id: str) -> None:
        """This event of the stretch under way was forwarded."""
        self.progress.done.append(event_id)
        self._save()

    def turn(self, cursor: str | None) -> None:
        """Everything up to the cursor was forwarded or is not wanted."""
        if cursor != self.progress.cursor or self.progress.done:
            self.begin(cursor, since=self.progress.since)

    def _read(self) -> Progress | None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self._path.read_bytes(), type=Progress)
        return None

    def _save(self) -> None:
        _write(self._path, msgspec.json.encode(self.progress))


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, readable by its user alone."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        fresh.replace(path)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}.") from error
