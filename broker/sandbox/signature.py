"""Checks AWS Signature Version 4, in the Authorization header and in presigned query strings.

Sources: IAM User Guide, "Create a signed AWS API request" and "Authenticating requests: using query parameters".
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import msgspec

from broker.sandbox.errors import AwsError

SKEW = timedelta(minutes=5)
"""How far the clock of a caller may be off (IAM User Guide, troubleshooting of signed requests)."""

_LONGEST = timedelta(days=7)
"""How long a presigned request may live."""

_FORMAT = "%Y%m%dT%H%M%SZ"


class Signed(msgspec.Struct, frozen=True):
    """What a request says about its own signature."""

    access_key_id: str
    region: str
    service: str
    scope: str
    signed_at: datetime
    expires: timedelta | None
    """Only presigned requests say how long they live."""
    headers: tuple[str, ...]
    signature: str
    token: str | None


class Message(msgspec.Struct, frozen=True):
    """The parts of an HTTP request that a signature covers; header names are in lower case, path and query raw."""

    method: str
    raw_path: str
    raw_query: str
    headers: Mapping[str, str]
    body: bytes


def read(message: Message) -> Signed | None:
    """The signature of a request, None when it carries none. Raises AwsError when it is malformed."""
    query = dict(_pairs(message.raw_query))
    authorization = message.headers.get("authorization", "")
    try:
        if authorization.startswith("AWS4-HMAC-SHA256 "):
            parts = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
            date = message.headers["x-amz-date"]
            token = message.headers.get("x-amz-security-token")
            return _signed((parts["Credential"], parts["SignedHeaders"], parts["Signature"]), date, token, None)
        if "X-Amz-Signature" in query:
            plain = {key: unquote(value) for key, value in query.items()}
            named = (plain["X-Amz-Credential"], plain["X-Amz-SignedHeaders"], plain["X-Amz-Signature"])
            lifetime = timedelta(seconds=int(plain["X-Amz-Expires"]))
            return _signed(named, plain["X-Amz-Date"], plain.get("X-Amz-Security-Token"), lifetime)
    except (KeyError, ValueError) as error:
        raise AwsError("IncompleteSignature", "The request signature does not conform to AWS standards", 400) from error
    return None


def _signed(named: tuple[str, str, str], date: str, token: str | None, expires: timedelta | None) -> Signed:
    credential, headers, signature = named
    key, scope = credential.split("/", 1)
    _, region, service, terminal = scope.split("/")
    if terminal != "aws4_request":
        raise ValueError(scope)
    if expires is not None and not timedelta(0) < expires <= _LONGEST:
        raise ValueError(expires)
    at = datetime.strptime(date, _FORMAT).replace(tzinfo=UTC)
    return Signed(key, region, service, scope, at, expires, tuple(headers.split(";")), signature, token)


def verify(message: Message, signed: Signed, secret: str, *, now: datetime) -> None:
    """Raises AwsError SignatureDoesNotMatch for a wrong signature and for one out of its time."""
    missing = [name for name in signed.headers if name not in message.headers]
    expected = hmac.new(_key(secret, signed.scope), _text(message, signed).encode(), hashlib.sha256).hexdigest()
    if missing or not hmac.compare_digest(expected, signed.signature):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
        )
    ends = signed.signed_at + (signed.expires or SKEW)
    if now > ends:
        raise _mismatch(f"Signature expired: {signed.signed_at:{_FORMAT}} is now earlier than {now:{_FORMAT}}")
    if now < signed.signed_at - SKEW:
        raise _mismatch(f"Signature not yet current: {signed.signed_at:{_FORMAT}} is still later than {now:{_FORMAT}}")


def _mismatch(sentence: str) -> AwsError:
    return AwsError("SignatureDoesNotMatch", sentence, 403)


def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _text(message: Message, signed: Signed) -> str:
    canonical = hashlib.sha256(_canonical(message, signed).encode()).hexdigest()
    return f"AWS4-HMAC-SHA256\n{signed.signed_at:{_FORMAT}}\n{signed.scope}\n{canonical}"


def _canonical(message: Message, signed: Signed) -> str:
    query = "&".join(f"{key}={value}" for key, value in sorted(_pairs(message.raw_query)) if key != "X-Amz-Signature")
    headers = "".join(f"{name}:{' '.join(message.headers.get(name, '').split())}\n" for name in signed.headers)
    payload = hashlib.sha256(message.body).hexdigest()
    path = quote(message.raw_path, safe="/~")
    return "\n".join((message.method, path, query, headers, ";".join(signed.headers), payload))


def _pairs(raw_query: str) -> list[tuple[str, str]]:
    """Query parameters still percent-encoded, the way AWS canonicalises them."""
    pairs = (part.partition("=") for part in raw_query.split("&") if part)
    return [(quote(unquote(key), safe="-_.~"), quote(unquote(value), safe="-_.~")) for key, _, value in pairs]
