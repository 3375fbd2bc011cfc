"""API keys: how one looks, and how it is made."""

import secrets

import msgspec

PREFIX = "sdb_"  # lets secret scanners find a leaked key


class Minted(msgspec.Struct, frozen=True):
    """A fresh key: what is handed out once, and what it is recognised by."""

    secret: str
    prefix: str


def mint() -> Minted:
    """A key with 256 random bits."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return Minted(secret=secret, prefix=secret[:12])


def looks_like_one(token: str) -> bool:
    """Whether it is worth asking the database about this token."""
    return token.startswith(PREFIX) and 40 <= len(token) <= 64
