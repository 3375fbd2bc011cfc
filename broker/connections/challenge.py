"""The proof of an account: a presigned GetCallerIdentity request with our nonce in a signed header. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

from broker.errors import Flaw, Invalid

HEADER = "x-broker-challenge"
LIFETIME = timedelta(minutes=10)
OLDEST = timedelta(minutes=5)
"""Oldest signature that is taken; a clock may be ahead by `AHEAD`."""

AHEAD = timedelta(minutes=1)
LONGEST_URL = 8192
QUERY = "Action=GetCallerIdentity&Version=2011-06-15"

_FIXED = {"Action": "GetCallerIdentity", "Version": "2011-06-15", "X-Amz-Algorithm": "AWS4-HMAC-SHA256"}
_NEEDED = {*_FIXED, "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"}
_ALLOWED = _NEEDED | {"X-Amz-Security-Token"}


def unsigned_url(endpoint: str) -> str:
    """The address that the tenant signs, for the method GET."""
    return f"{endpoint}/?{QUERY}"


def host_of(endpoint: str) -> str:
    """Host (and port) of an endpoint, as it goes into the signed `host` header."""
    return urlsplit(endpoint).netloc


def check(url: str, headers: Mapping[str, str], nonce: str, *, endpoint: str, region: str, now: datetime) -> None:
    """Raises Invalid unless this is nothing but our request: GetCallerIdentity, at our endpoint, for our nonce, now.

    The form is that of "Authenticating requests: using query parameters" (IAM User Guide, signing of requests). Whether
    the signature is right only STS can tell.
    """
    flaw = _flaw_of_url(url, endpoint, region, now)
    if flaw:
        raise Invalid(f"The presigned URL is not the one asked for: {flaw}", flaws=(Flaw("/url", flaw),))
    given = {name.lower(): value for name, value in headers.items()}
    if set(given) - {"host"} != {HEADER} or given[HEADER] != nonce:
        flaw = f"The headers must be {HEADER} with the nonce of the open challenge, and nothing else."
        raise Invalid(flaw, flaws=(Flaw("/headers", flaw),))


def _flaw_of_url(url: str, endpoint: str, region: str, now: datetime) -> str | None:
    if len(url) > LONGEST_URL or not re.fullmatch(r"[!-~]+", url) or "#" in url:
        return "It must be a plain URL of visible ASCII characters."
    if not url.startswith((f"{endpoint}/?", f"{endpoint}?")):
        return f"It must begin with {endpoint}/?, the endpoint that was asked for."
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        return "Its query string cannot be read."
    query = dict(pairs)
    if len(query) != len(pairs):
        return "It has a parameter twice."
    if not _NEEDED <= query.keys() <= _ALLOWED:
        odd = ", ".join(sorted((_NEEDED - query.keys()) | (query.keys() - _ALLOWED)))
        return f"These parameters are missing or not allowed: {odd}."
    return _flaw_of_query(query, region, now)


def _flaw_of_query(query: Mapping[str, str], region: str, now: datetime) -> str | None:
    for name, value in _FIXED.items():
        if query[name] != value:
            return f"{name} must be {value}."
    if not re.fullmatch(rf"[A-Z0-9]+/[0-9]{{8}}/{re.escape(region)}/sts/aws4_request", query["X-Amz-Credential"]):
        return f"It must be signed for the service sts in {region}."
    if set(query["X-Amz-SignedHeaders"].split(";")) != {"host", HEADER}:
        return f"The signed headers must be host and {HEADER}."
    try:
        signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "X-Amz-Date cannot be read."
    if now - signed_at > OLDEST:
        return "It was signed more than five minutes ago; sign it again."
    if signed_at - now > AHEAD:
        return "It was signed in the future; check the clock."
    return None
