"""What counts as a message of SNS, which text is signed, and whose certificates are believed."""

import pytest

from broker.errors import BadRequest
from broker.feedback.envelope import certificate_url_allowed, decode, signed_text, topic_name
from tests.feedback.sns import CERTIFICATE_URL, TOPIC, body, confirmation, notification, signed


def test_a_notification_is_signed_over_its_fields_in_byte_order() -> None:
    envelope = decode({}, body(signed(notification("Hi", Subject="S", UnsubscribeURL="https://x", New={"a": 1}))))

    assert (
        f"Message\nHi\nMessageId\n{envelope.message_id}\nSubject\nS\n"
        f"Timestamp\n2026-01-05T12:00:00.000Z\nTopicArn\n{TOPIC}\nType\nNotification\n"
    ).encode() == signed_text(envelope)


def test_a_missing_subject_is_not_signed() -> None:
    assert b"Subject" not in signed_text(decode({}, body(signed(notification("Hi")))))


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_a_confirmation_is_signed_with_its_token_and_address(kind: str) -> None:
    fields = confirmation(kind)
    envelope = decode({"x-amz-sns-message-type": kind}, body(signed(fields)))

    assert (
        f"Message\n{fields['Message']}\nMessageId\n{fields['MessageId']}\nSubscribeURL\n{fields['SubscribeURL']}\n"
        f"Timestamp\n{fields['Timestamp']}\nToken\n{fields['Token']}\nTopicArn\n{TOPIC}\nType\n{kind}\n"
    ).encode() == signed_text(envelope)


def test_an_envelope_shows_no_secret() -> None:
    envelope = decode({}, body(signed(confirmation())))

    assert "canary-token" not in repr(envelope)
    assert envelope.signature not in repr(envelope)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        pytest.param({"x-amz-sns-rawdelivery": "true"}, body(signed(notification("Hi"))), id="raw delivery"),
        pytest.param({}, b"", id="empty"),
        pytest.param({}, b"\xff\xfe", id="not UTF-8"),
        pytest.param({}, b"[]", id="a list"),
        pytest.param({}, b"[" * 100_000, id="deeply nested"),
        pytest.param({}, b'{"Type": "Notification", "New": ' + b"[" * 100_000, id="nested in an unknown field"),
        pytest.param({}, body({"Type": "Notification"}), id="fields missing"),
        pytest.param({}, body(signed(notification("Hi")) | {"Type": "Other"}), id="unknown type"),
        pytest.param({}, body(signed(notification("Hi")) | {"Message": {"a": 1}}), id="message is an object"),
        pytest.param({}, body(signed(notification("Hi", Timestamp="yesterday"))), id="no time"),
        pytest.param({}, body(signed(notification("Hi", Timestamp="0001-01-01T00:00:00+14:00"))), id="before time"),
        pytest.param({}, body(signed(confirmation()) | {"Token": None}), id="no token"),
        pytest.param({"x-amz-sns-message-type": "Notification"}, body(signed(confirmation())), id="header differs"),
    ],
)
def test_what_is_no_signed_message_is_refused(headers: dict[str, str], text: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(headers, text)


CHINA = "arn:aws-cn:sns:cn-north-1:999999999999:topic"


@pytest.mark.parametrize(
    ("url", "topic", "partition", "allowed"),
    [
        pytest.param(CERTIFICATE_URL, TOPIC, "aws", True, id="as SNS sends it"),
        pytest.param(CERTIFICATE_URL.replace("https", "http"), TOPIC, "aws", False, id="http"),
        pytest.param(CERTIFICATE_URL.replace("eu-west-1", "us-east-1"), TOPIC, "aws", False, id="another Region"),
        pytest.param(CERTIFICATE_URL.replace(".com/", ".com.cn/"), TOPIC, "aws", False, id="another partition"),
        pytest.param(CERTIFICATE_URL.replace("/Sim", "/x/Sim"), TOPIC, "aws", False, id="another path"),
        pytest.param(CERTIFICATE_URL.replace(".pem", ".txt"), TOPIC, "aws", False, id="another ending"),
        pytest.param(CERTIFICATE_URL + "?a=.pem", TOPIC, "aws", False, id="query"),
        pytest.param(CERTIFICATE_URL + "#a", TOPIC, "aws", False, id="fragment"),
        pytest.param(CERTIFICATE_URL.replace(".com/", ".com:8443/"), TOPIC, "aws", False, id="another port"),
        pytest.param(CERTIFICATE_URL.replace(".com/", ".com:x/"), TOPIC, "aws", False, id="no port"),
        pytest.param(CERTIFICATE_URL.replace("//sns", "//a@sns"), TOPIC, "aws", False, id="user name"),
        pytest.param(
            CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com.evil.org"), TOPIC, "aws", False, id="suffix"
        ),
        pytest.param(CERTIFICATE_URL.replace("//sns", "//evil.org\\sns"), TOPIC, "aws", False, id="backslash"),
        pytest.param("https://[", TOPIC, "aws", False, id="not a URL"),
        pytest.param(
            CERTIFICATE_URL.replace("eu-west-1", "cn-north-1"), CHINA, "aws-cn", False, id="China without .cn"
        ),
        pytest.param(
            CERTIFICATE_URL.replace("eu-west-1.amazonaws.com", "cn-north-1.amazonaws.com.cn"),
            CHINA,
            "aws-cn",
            True,
            id="China",
        ),
        pytest.param(
            CERTIFICATE_URL.replace("eu-west-1.amazonaws.com", "cn-north-1.amazonaws.com.cn"),
            CHINA,
            "aws",
            False,
            id="not ours",
        ),
    ],
)
def test_only_the_topics_own_sns_may_vouch_for_it(url: str, topic: str, partition: str, *, allowed: bool) -> None:
    name = topic_name(topic)
    assert name is not None

    assert allowed == certificate_url_allowed(url, name, partition=partition)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:4566/SimpleNotificationService-0a.pem", True),
        ("http://127.0.0.1:4567/SimpleNotificationService-0a.pem", False),
        ("http://127.0.0.1:4566/other.pem", False),
        ("http://127.0.0.1:4566@evil.org/SimpleNotificationService-0a.pem", False),
        (CERTIFICATE_URL, True),
    ],
)
def test_another_endpoint_may_vouch_from_its_own_origin(url: str, *, allowed: bool) -> None:
    name = topic_name(TOPIC)
    assert name is not None

    assert allowed == certificate_url_allowed(url, name, partition="aws", endpoint_origin="http://127.0.0.1:4566")


@pytest.mark.parametrize(
    "arn", ["", "arn:aws:sns:eu-west-1:99999:t", "arn:aws:sqs:eu-west-1:999999999999:t", TOPIC + "\n"]
)
def test_what_names_no_topic_is_none(arn: str) -> None:
    assert topic_name(arn) is None
