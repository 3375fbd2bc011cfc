"""Proves that SNS sent a message: RSA over the signed text, with certificates fetched once and kept."""

import asyncio
import base64
import binascii
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from broker.errors import Forbidden, Refused, Unavailable
from broker.feedback.envelope import Envelope, certificate_url_allowed, origin, signed_text, topic_name

T = TypeVar("T")

MOST_CERTIFICATES = 64
NEGATIVE_FOR = timedelta(seconds=10)

# SignatureVersion 1 is SHA1withRSA, 2 is SHA256withRSA (SNS Developer Guide, sns-verify-signature-of-message).
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "1": hashes.SHA1(),  # noqa: S303 — SNS's default version; its certificates are pinned to its own hosts
    "2": hashes.SHA256(),
}


class BadSignature(Forbidden):
    slug = "bad-signature"
    title = "Not signed by Amazon SNS"


class CertificateSource(Protocol):
    """Fetches a certificate; redirects are not followed, the size is capped. Raises `Unavailable` or `Refused`."""

    async def certificate(self, url: str) -> bytes: ...


class _Failure(msgspec.Struct, frozen=True):
    until: datetime
    refused: bool
    detail: str

    def error(self) -> Unavailable | BadSignature:
        return BadSignature(self.detail) if self.refused else Unavailable(self.detail)


class Certificates:
    """Public keys by URL: at most 64, each fetched once however many wait for it; a failure is remembered for 10 s."""

    def __init__(self, source: CertificateSource) -> None:
        self._source = source
        self._keys: OrderedDict[str, RSAPublicKey] = OrderedDict()
        self._failures: OrderedDict[str, _Failure] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[RSAPublicKey]] = {}

    async def key(self, url: str, *, now: datetime) -> RSAPublicKey:
        """The key at a URL that was found allowed; `BadSignature` where none can be, `Unavailable` for now."""
        if (known := self._keys.get(url)) is not None:
            self._keys.move_to_end(url)
            return known
        if (failed := self._failures.get(url)) is not None and failed.until > now:
            raise failed.error()
        task = self._fetches.get(url)
        if task is None:
            task = self._fetches[url] = asyncio.create_task(self._fetch(url, now))
            task.add_done_callback(lambda done: self._end(url, done))
        # One request that is given up must not end the fetch for the others.
        return await asyncio.shield(task)

    async def _fetch(self, url: str, now: datetime) -> RSAPublicKey:
        try:
            key = _public_key(await self._source.certificate(url))
        except (Unavailable, Refused, ValueError) as error:
            refused = not isinstance(error, Unavailable)
            failure = _Failure(now + NEGATIVE_FOR, refused, "The certificate that signed this message cannot be read.")
            _keep(self._failures, url, failure)
            raise failure.error() from error
        _keep(self._keys, url, key)
        return key

    def _end(self, url: str, done: asyncio.Task[RSAPublicKey]) -> None:
        del self._fetches[url]
        if not done.cancelled():
            done.exception()  # seen, also when everybody who waited has gone away


def _keep(kept: OrderedDict[str, T], url: str, value: T) -> None:
    kept[url] = value
    while len(kept) > MOST_CERTIFICATES:
        kept.popitem(last=False)


def _public_key(pem: bytes) -> RSAPublicKey:
    key = x509.load_pem_x509_certificate(pem).public_key()
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key")
    return key


class Verifier:
    """Checks signatures for one installation: its partition, and the URL of its AWS endpoint if that is not AWS."""

    def __init__(self, certificates: Certificates, *, partition: str, endpoint_origin: str | None) -> None:
        self._certificates = certificates
        self._partition = partition
        self._endpoint_origin = origin(endpoint_origin) if endpoint_origin else None

    async def verify(self, envelope: Envelope, *, now: datetime) -> None:
        """Returns when SNS signed this message; `BadSignature` when not, `Unavailable` when that cannot be told now."""
        digest = _HASHES.get(envelope.signature_version)
        if digest is None or not self._may_vouch(envelope):
            raise BadSignature(
                "Neither this certificate nor this version of signature is one of Amazon SNS for the topic."
            )
        try:
            signature = base64.b64decode(envelope.signature, validate=True)
            key = await self._certificates.key(envelope.signing_cert_url, now=now)
            key.verify(signature, signed_text(envelope), PKCS1v15(), digest)
        except (binascii.Error, InvalidSignature, ValueError) as error:
            raise BadSignature("The signature does not fit the message.") from error

    def _may_vouch(self, envelope: Envelope) -> bool:
        topic = topic_name(envelope.topic_arn)
        return topic is not None and certificate_url_allowed(
            envelope.signing_cert_url, topic, partition=self._partition, endpoint_origin=self._endpoint_origin
        )
