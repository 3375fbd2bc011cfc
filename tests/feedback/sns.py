"""Signs SNS messages with keys of our own, by code that shares nothing with what is tested."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
TOPIC = "arn:aws:sns:eu-west-1:999999999999:ses-delegation-broker-1"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)

# The order in which SNS's guide lists the fields that it signs.
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def certificate(key: rsa.RSAPrivateKey = _KEY) -> bytes:
    """A self-signed certificate in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=365))
    return dated.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Certificates:
    """A source that counts what is fetched from it."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    async def certificate(self, url: str) -> bytes:
        self.fetched.append(url)
        return certificate()


def signed(fields: dict[str, Any], *, version: str = "2", key: rsa.RSAPrivateKey = _KEY) -> dict[str, Any]:
    """The fields with a signature over them."""
    names = _NOTIFICATION if fields["Type"] == "Notification" else _CONFIRMATION
    text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
    digest: hashes.HashAlgorithm = hashes.SHA1() if version == "1" else hashes.SHA256()  # noqa: S303 — version 1
    made = key.sign(text.encode(), padding.PKCS1v15(), digest)
    return {
        **fields,
        "SignatureVersion": version,
        "Signature": base64.b64encode(made).decode(),
        "SigningCertURL": CERTIFICATE_URL,
    }


def notification(message: object, **changes: Any) -> dict[str, Any]:
    """The fields of a notification, unsigned; `message` is text or is written as JSON."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2026-01-05T12:00:00.000Z",
        **changes,
    }


def confirmation(kind: str = "SubscriptionConfirmation", **changes: Any) -> dict[str, Any]:
    """The fields of one of the two confirmation messages, unsigned."""
    return {
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "canary-token-2336412f37",
        "TopicArn": TOPIC,
        "Message": "You have chosen to subscribe to the topic.",
        "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=canary-token-2336412f37",
        "Timestamp": "2026-01-05T12:00:00.000Z",
        **changes,
    }


def body(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()
