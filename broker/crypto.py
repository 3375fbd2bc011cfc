"""Secrets at rest and digests of API keys."""

import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from broker.errors import BrokerError


class Keyring:
    """Encrypts with the first key and decrypts with any (MultiFernet), so that keys can be rotated.

    `pepper` keys the HMAC under which API keys are stored: a stolen table alone does not allow guessing.
    """

    def __init__(self, keys: tuple[str, ...], *, pepper: str) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._pepper = pepper.encode()

    def seal(self, secret: bytes) -> bytes:
        """Encrypted form, safe to store."""
        return self._fernet.encrypt(secret)

    def open(self, sealed: bytes) -> bytes:
        """The secret again; `BrokerError` when no key of the ring fits."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise BrokerError("A stored secret cannot be decrypted with the configured keys.") from error

    def digest(self, token: str) -> bytes:
        """HMAC-SHA-256 of a token under the pepper, for look-up by equality."""
        return hmac.new(self._pepper, token.encode(), hashlib.sha256).digest()

    def derive(self, label: str, context: str) -> bytes:
        """A 32-byte key of its own for one use (`label`) and one thing (`context`); the same again each time."""
        return hmac.new(self._pepper, f"{label}\n{context}".encode(), hashlib.sha256).digest()
