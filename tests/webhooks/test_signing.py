"""Signatures, checked as a customer does, with the library of Standard Webhooks."""

import base64
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from broker.clock import now
from broker.webhooks import signing

EVENT = UUID("01961e2d-1b2c-7d4e-8f6a-7b8c9d0e1f2a")
BODY = b'{"type":"endpoint.test","timestamp":"2026-03-01T12:00:00Z","data":{"n":1}}'


def test_a_customer_can_verify_what_we_sign() -> None:
    key = signing.new_secret()
    headers = signing.headers(EVENT, BODY, at=now(), keys=[key])

    assert {"n": 1} == Webhook(signing.printable(key)).verify(BODY, headers)["data"]


def test_every_key_signs_while_secrets_are_rotated() -> None:
    keys = [signing.new_secret(), signing.new_secret()]
    headers = signing.headers(EVENT, BODY, at=now(), keys=keys)

    verified = [Webhook(signing.printable(key)).verify(BODY, headers)["data"] for key in keys]

    assert [{"n": 1}, {"n": 1}] == verified


def test_another_key_or_another_body_does_not_verify() -> None:
    key = signing.new_secret()
    headers = signing.headers(EVENT, BODY, at=now(), keys=[key])

    with pytest.raises(WebhookVerificationError):
        Webhook(signing.printable(signing.new_secret())).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.printable(key)).verify(BODY + b" ", headers)


def test_the_signature_is_the_one_of_the_specification() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = now()

    expected = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").sign(str(EVENT), at, BODY.decode())

    assert expected == signing.headers(EVENT, BODY, at=at, keys=[key])["webhook-signature"]


def test_a_secret_has_as_many_bytes_as_the_specification_wants() -> None:
    printed = signing.printable(signing.new_secret())

    assert 24 <= len(base64.b64decode(printed.removeprefix("whsec_"))) <= 64
