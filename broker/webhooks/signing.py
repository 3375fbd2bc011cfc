"""Signing as in Standard Webhooks 1.0 (standardwebhooks.com, specification). Pure but for `new_secret`."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> bytes:
    """A fresh key; the specification wants 24 to 64 bytes."""
    return secrets.token_bytes(SECRET_BYTES)


def printable(secret: bytes) -> str:
    """The form that the customer gets: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secret).decode()


def headers(event_id: UUID, body: bytes, *, at: datetime, keys: Sequence[bytes]) -> dict[str, str]:
    """The three headers of one attempt: the id stays over retries, the time does not; one signature for each key."""
    signed = f"{event_id}.{int(at.timestamp())}.".encode() + body
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(_signature(key, signed) for key in keys),
    }


def _signature(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
