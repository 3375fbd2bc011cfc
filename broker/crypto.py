"""Secrets at rest and digests of API keys."""

import hashlib
import hmac
from datetime import timedelta

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from broker.errors import Unavailable

MOST_DERIVED = 10_000  # kept at a time
UNTIL_RESTARTED = timedelta(seconds=30)


class Keyring:
    """Encrypts with the first key and decrypts with any (MultiFernet), so that keys can be rotated.

    `pepper` keys the HMAC under which API keys are stored: a stolen table alone does not allow guessing.
    """

    def __init__(self, keys: tuple[str, ...], *, pepper: str) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._pepper = pepper.encode()
        self._derived: dict[tuple[str, str], bytes] = {}

    def seal(self, secret: bytes) -> bytes:
        """Encrypted form, safe to store."""
        return self._fernet.encrypt(secret)

    def open(self, sealed: bytes) -> bytes:
        """The secret again; `Unavailable` when no key of the ring fits: the process was not restarted with the new."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise Unavailable(
                "A stored secret cannot be decrypted with the configured keys.", retry_after=UNTIL_RESTARTED
            ) from error

    def digest(self, token: str) -> bytes:
        """HMAC-SHA-256 of a token under the pepper, for look-up by equality."""
        return hmac.new(self._pepper, token.encode(), hashlib.sha256).digest()

    def derive(self, label: str, context: str) -> bytes:
        """A 32-byte key of its own for one use (`label`) and one thing (`context`); the same again each time."""
        key = self._derived.get((label, context))
        if key is None:
            if len(self._derived) >= MOST_DERIVED:
                self._derived.clear()
            key = hmac.digest(self._pepper, f"{label}\n{context}".encode(), hashlib.sha256)
            self._derived[label, context] = key
        return key
