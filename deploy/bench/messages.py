"""Signed SNS messages, made before a run and kept for the day: signing costs more than all that is measured.

A message is a whole HTTP request in a file; two ports in it are filled in when it is read. That is possible because
SNS signs neither the address of its certificate nor the host (SNS Developer Guide, sns-verify-signature-of-message).
"""

import base64
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from bench.payloads import payload, topic_arn, written
from broker.feedback.envelope import Envelope, MessageType, signed_text
from broker.feedback.topics import FEEDBACK_PATH
from broker.local.aws import REGION
from broker.local.directories import held_lock

CERTIFICATE_PATH = "/SimpleNotificationService-00000000000000000000000000000001.pem"
API_PORT, CERTIFICATE_PORT = b"@API@", b"@PEM@"  # as wide as a port of five digits

_KEY, _CHUNK, _LENGTH = "sns-key.pem", 500, 4


class Stock:
    """The messages of one day for one number of groups; message ``n`` belongs to group ``n % groups``."""

    def __init__(self, directory: Path, groups: int) -> None:
        """Kept in ``directory``; those of earlier days are thrown away."""
        self.directory = directory
        self.groups = groups
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = _find_key(directory / _KEY)
        day = datetime.now(UTC).date().isoformat()
        for old in directory.glob("messages-*.bin"):
            if day not in old.name:
                old.unlink(missing_ok=True)
        self.path = directory / f"messages-{day}-{groups}-{_fingerprint(self._key)}.bin"

    def certificate(self) -> bytes:
        """The certificate (PEM) of the key that signed the messages."""
        return _certificate(self._key)

    def ensure(self, count: int, say: Callable[[str], None]) -> None:
        """Sign what is missing of the first ``count`` messages, on all processors."""
        with held_lock(self.directory / "messages.lock", whose="The stock of messages", patience_s=300):
            have = sum(1 for _ in _records(self.path)) if self.path.exists() else 0
            if have < count:
                self._sign(have, count, say)

    def _sign(self, have: int, count: int, say: Callable[[str], None]) -> None:
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        make = partial(_chunk, pem, self.groups, datetime.now(UTC))
        starts = range(have, count, _CHUNK)
        with ProcessPoolExecutor(os.cpu_count()) as pool, self.path.open("ab") as file:
            for start, made in zip(starts, pool.map(make, starts), strict=True):
                file.write(made)
                if (start - have) // _CHUNK % 20 == 0:
                    say(f"signing messages: {start - have} of {count - have}")


def load(path: Path, count: int, *, api_port: int, certificate_port: int) -> list[bytes]:
    """The first ``count`` messages as requests to ``api_port``, signed by the certificate at ``certificate_port``."""
    api, certificate = f"{api_port:05d}".encode(), f"{certificate_port:05d}".encode()
    return [
        record.replace(API_PORT, api, 1).replace(CERTIFICATE_PORT, certificate, 1)
        for record in islice(_records(path), count)
    ]


def request(number: int, groups: int, at: datetime, key: rsa.RSAPrivateKey) -> bytes:
    """Message ``number`` as SNS would post it (sns-message-and-json-formats, "HTTP/HTTPS headers"), ports left open."""
    group = number % groups
    message_id = f"{number:08x}-fdea-4c2c-8f9d-bdfb0c7bf324"
    unsigned = Envelope(
        type=MessageType.NOTIFICATION,
        message_id=message_id,
        topic_arn=topic_arn(group),
        message=payload(number, group, at).decode(),
        timestamp=written(at),
        signature_version="2",
        signature="",
        signing_cert_url=f"http://127.0.0.1:{CERTIFICATE_PORT.decode()}{CERTIFICATE_PATH}",
    )
    signature = base64.b64encode(key.sign(signed_text(unsigned), padding.PKCS1v15(), hashes.SHA256())).decode()
    body = msgspec.json.encode(
        {
            "Type": "Notification",
            "MessageId": message_id,
            "TopicArn": unsigned.topic_arn,
            "Message": unsigned.message,
            "Timestamp": unsigned.timestamp,
            "SignatureVersion": "2",
            "Signature": signature,
            "SigningCertURL": unsigned.signing_cert_url,
            "UnsubscribeURL": f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe&SubscriptionArn="
            f"{unsigned.topic_arn}:2bcfbf39-05c3-41de-beaa-fcfcc21c8f55",
        }
    )
    head = (
        f"POST {FEEDBACK_PATH} HTTP/1.1\r\nx-amz-sns-message-type: Notification\r\n"
        f"x-amz-sns-message-id: {message_id}\r\nx-amz-sns-topic-arn: {unsigned.topic_arn}\r\n"
        f"Content-Length: {len(body)}\r\nContent-Type: text/plain; charset=UTF-8\r\n"
        f"Host: 127.0.0.1:{API_PORT.decode()}\r\nConnection: Keep-Alive\r\n"
        "User-Agent: Amazon Simple Notification Service Agent\r\nAccept-Encoding: gzip,deflate\r\n\r\n"
    )
    return head.encode() + body


def _chunk(pem: bytes, groups: int, at: datetime, start: int) -> bytes:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("The key that signs the messages is not an RSA key.")
    made = [request(number, groups, at, key) for number in range(start, start + _CHUNK)]
    return b"".join(len(each).to_bytes(_LENGTH, "big") + each for each in made)


def _records(path: Path) -> Iterator[bytes]:
    """The messages of a file; a last one that was cut off is left out."""
    with path.open("rb") as file:
        while len(length := file.read(_LENGTH)) == _LENGTH:
            size = int.from_bytes(length, "big")
            if len(record := file.read(size)) < size:
                return
            yield record


def _find_key(path: Path) -> rsa.RSAPrivateKey:
    """The key of this machine's benchmarks: it vouches for nothing but them."""
    with held_lock(path.with_suffix(".lock"), whose="The key of the messages"):
        if not path.exists():
            made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            path.touch(mode=0o600)
            path.write_bytes(
                made.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{path} holds no RSA key; remove it.")
    return key


def _fingerprint(key: rsa.RSAPrivateKey) -> str:
    return f"{key.public_key().public_numbers().n % 2**32:08x}"


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
    return dated.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
