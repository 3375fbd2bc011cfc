"""How SNS signs a message and carries it to an HTTP endpoint.

Sources: SNS Developer Guide, "Verifying the signatures of Amazon SNS messages", "HTTP/HTTPS headers and JSON formats",
"Amazon SNS message delivery retries".
"""

import base64
import hashlib
import http.client
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from threading import Event, Lock, Thread, Timer
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

TIMEOUT_SECONDS = 15
RETRIES = 3

_WORKERS = 8

_SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


class Certificate(msgspec.Struct, frozen=True):
    """The signing key of one Region and the certificate that receivers fetch."""

    key: rsa.RSAPrivateKey
    pem: bytes
    path: str
    """`/SimpleNotificationService-<hash>.pem`, below the server's URL."""


def make_certificate(region: str) -> Certificate:
    """A fresh self-signed certificate; real ones are issued by Amazon for `sns.amazonaws.com`."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
    pem = dated.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    digest = hashlib.sha256(region.encode() + pem).hexdigest()[:32]
    return Certificate(key, pem, f"/SimpleNotificationService-{digest}.pem")


def string_to_sign(body: Mapping[str, str]) -> str:
    """Each signed field that is present as `name\\nvalue\\n`, in byte order of the names."""
    return "".join(f"{name}\n{body[name]}\n" for name in _SIGNED_FIELDS[body["Type"]] if name in body)


class Parcel(msgspec.Struct, frozen=True):
    """One message on its way to one endpoint."""

    endpoint: str
    headers: dict[str, str]
    body: bytes
    retries: int
    pause: float
    """Seconds between tries."""
    lost: Callable[[], None]
    """Called when the last try failed."""


class Courier:
    """Signs with one certificate per Region and posts in the background, retrying as SNS does."""

    def __init__(self, url: str, closing: Event) -> None:
        self._url = url
        self._closing = closing
        self._lock = Lock()
        self._certificates: dict[str, Certificate] = {}
        self._waiting: SimpleQueue[tuple[Parcel, int] | None] = SimpleQueue()
        self._timers: set[Timer] = set()
        # Daemons: an endpoint that never answers must not hold up the end of the process.
        for number in range(_WORKERS):
            Thread(target=self._work, name=f"sns-{number}", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            timers = list(self._timers)
        for timer in timers:
            timer.cancel()
        for _ in range(_WORKERS):
            self._waiting.put(None)

    def certificate(self, region: str) -> Certificate:
        with self._lock:
            if region not in self._certificates:
                self._certificates[region] = make_certificate(region)
            return self._certificates[region]

    def certificate_at(self, path: str) -> bytes | None:
        """The PEM text served at a path, None when there is none."""
        with self._lock:
            return next((each.pem for each in self._certificates.values() if each.path == path), None)

    def sign(self, body: Mapping[str, str], *, region: str, version: str) -> dict[str, str]:
        """The body with its signature: SHA1 with RSA for version 1, SHA256 with RSA for version 2."""
        certificate = self.certificate(region)
        digest: hashes.HashAlgorithm = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303 — what version 1 is
        signature = certificate.key.sign(string_to_sign(body).encode(), padding.PKCS1v15(), digest)
        return dict(body) | {
            "SignatureVersion": version,
            "Signature": base64.b64encode(signature).decode(),
            "SigningCertURL": f"{self._url}{certificate.path}",
        }

    def send(self, parcel: Parcel, tries: int = 0) -> None:
        """Posts soon; nothing is sent once the server is closing."""
        if not self._closing.is_set():
            self._waiting.put((parcel, tries))

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if not self._closing.is_set():
                self._try(*item)

    def _try(self, parcel: Parcel, tries: int) -> None:
        status = _post(parcel)
        if status is not None and status < 500 and status != 429:
            return
        if tries >= parcel.retries:
            parcel.lost()
            return
        timer = Timer(parcel.pause, self.send, (parcel, tries + 1))
        timer.daemon = True
        with self._lock:
            self._timers = {each for each in self._timers if each.is_alive()} | {timer}
            timer.start()


def _post(parcel: Parcel) -> int | None:
    """The status of the answer, None when there was none. Redirects are not followed."""
    url = urlsplit(parcel.endpoint)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(
            "POST", (url.path or "/") + (f"?{url.query}" if url.query else ""), parcel.body, parcel.headers
        )
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def encoded(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, indent=2, ensure_ascii=False).encode()
