"""SNS's signature, and how its certificates are fetched and kept."""

import asyncio
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from broker.errors import Refused, Unavailable
from broker.feedback.envelope import decode
from broker.feedback.signature import MOST_CERTIFICATES, NEGATIVE_FOR, BadSignature, Certificates, Verifier
from tests.feedback import sns
from tests.feedback.sns import NOW, body, confirmation, notification, signed

MESSAGES = {
    "notification": notification("Hi ✉ \u2028 there"),
    "with subject": notification("Hi", Subject="Amazon SES Email Event Notification"),
    "with empty subject": notification("Hi", Subject=""),
    "subscription": confirmation(),
    "unsubscription": confirmation("UnsubscribeConfirmation"),
}


def verifier(source: sns.Certificates | None = None) -> Verifier:
    return Verifier(Certificates(source or sns.Certificates()), partition="aws", endpoint_origin=None)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("name", MESSAGES)
async def test_what_sns_signed_is_believed(name: str, version: str) -> None:
    await verifier().verify(decode({}, body(signed(MESSAGES[name], version=version))), now=NOW)


COMMON = ["Message", "MessageId", "Timestamp", "TopicArn"]
CHANGED = {"Timestamp": "2026-01-05T12:00:01.000Z", "TopicArn": f"{sns.TOPIC}2"}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *((name, field) for name in MESSAGES for field in COMMON),
        *((name, field) for name in ("subscription", "unsubscription") for field in ("Token", "SubscribeURL")),
        *((name, "Subject") for name in ("notification", "with subject", "with empty subject")),
    ],
)
async def test_a_changed_field_is_noticed(name: str, field: str) -> None:
    envelope = decode({}, body(signed(MESSAGES[name]) | {field: CHANGED.get(field, "changed")}))

    with pytest.raises(BadSignature):
        await verifier().verify(envelope, now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"Signature": "AAAA"}, id="too short"),
        pytest.param({"Signature": "not base64"}, id="not base64"),
        pytest.param({"SignatureVersion": "3"}, id="unknown version"),
        pytest.param({"SignatureVersion": "1"}, id="other version"),
        pytest.param({"SigningCertURL": "https://evil.org/SimpleNotificationService-0a.pem"}, id="other host"),
        pytest.param({"TopicArn": "arn:aws:sns:eu-west-1:1:x"}, id="no topic"),
    ],
)
async def test_what_is_not_signed_by_sns_is_refused(changes: dict[str, str]) -> None:
    envelope = decode({}, body(signed(notification("Hi")) | changes))

    with pytest.raises(BadSignature):
        await verifier().verify(envelope, now=NOW)


async def test_a_stranger_with_a_key_of_its_own_is_refused() -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    with pytest.raises(BadSignature):
        await verifier().verify(decode({}, body(signed(notification("Hi"), key=stranger))), now=NOW)


async def test_a_certificate_is_never_fetched_from_a_host_that_is_not_allowed() -> None:
    source = sns.Certificates()
    envelope = decode({}, body(signed(notification("Hi")) | {"SigningCertURL": "https://169.254.169.254/a.pem"}))

    with pytest.raises(BadSignature):
        await verifier(source).verify(envelope, now=NOW)
    assert [] == source.fetched


async def test_many_messages_at_once_fetch_their_certificate_once() -> None:
    source = sns.Certificates()
    checked = verifier(source)
    envelope = decode({}, body(signed(notification("Hi"))))

    await asyncio.gather(*(checked.verify(envelope, now=NOW) for _ in range(50)))
    await checked.verify(envelope, now=NOW)

    assert [sns.CERTIFICATE_URL] == source.fetched


async def test_a_request_that_is_given_up_does_not_end_the_fetch_for_the_others() -> None:
    class Slow(sns.Certificates):
        def __init__(self) -> None:
            super().__init__()
            self.go = asyncio.Event()

        async def certificate(self, url: str) -> bytes:
            await self.go.wait()
            return await super().certificate(url)

    source = Slow()
    kept = Certificates(source)
    first = asyncio.create_task(kept.key("u", now=NOW))
    second = asyncio.create_task(kept.key("u", now=NOW))
    await asyncio.sleep(0)
    first.cancel()
    source.go.set()

    assert (await second).key_size == 2048
    assert ["u"] == source.fetched


async def test_only_so_many_certificates_are_kept() -> None:
    source = sns.Certificates()
    kept = Certificates(source)
    for number in range(MOST_CERTIFICATES + 1):
        await kept.key(f"u{number}", now=NOW)

    await kept.key("u1", now=NOW)
    await kept.key("u0", now=NOW)

    assert "u0" == source.fetched[-1]
    assert MOST_CERTIFICATES + 2 == len(source.fetched)


class Broken(sns.Certificates):
    def __init__(self, error: Exception | None, pem: bytes = b"") -> None:
        super().__init__()
        self.error = error
        self.pem = pem

    async def certificate(self, url: str) -> bytes:
        self.fetched.append(url)
        if self.error is not None:
            raise self.error
        return self.pem


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(Broken(Unavailable("time-out")), Unavailable, id="down"),
        pytest.param(Broken(Refused("404")), BadSignature, id="missing"),
        pytest.param(Broken(None, b"<html>"), BadSignature, id="no certificate"),
    ],
)
async def test_a_failed_fetch_is_remembered_for_a_short_time(source: Broken, expected: type[Exception]) -> None:
    kept = Certificates(source)
    for _ in range(3):
        with pytest.raises(expected):
            await kept.key("u", now=NOW)

    assert ["u"] == source.fetched

    with pytest.raises(expected):
        await kept.key("u", now=NOW + NEGATIVE_FOR + timedelta(seconds=1))
    assert ["u", "u"] == source.fetched
