"""Which presigned requests are let through to STS."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from broker.connections.challenge import HEADER, check
from broker.errors import Invalid

ENDPOINT, REGION = "https://sts.eu-west-1.amazonaws.com", "eu-west-1"
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NONCE = "nonce-of-the-challenge"
QUERY = {
    "Action": "GetCallerIdentity",
    "Version": "2011-06-15",
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": "AKIAEXAMPLE/20260504/eu-west-1/sts/aws4_request",
    "X-Amz-Date": "20260504T115930Z",
    "X-Amz-Expires": "60",
    "X-Amz-SignedHeaders": f"host;{HEADER}",
    "X-Amz-Signature": "ab" * 32,
}


def presigned(endpoint: str = ENDPOINT, **changed: str | None) -> str:
    query = QUERY | {name.replace("_", "-"): value for name, value in changed.items()}
    return f"{endpoint}/?" + urlencode({name: value for name, value in query.items() if value is not None})


def let_through(url: str, headers: dict[str, str] | None = None) -> None:
    check(url, headers or {HEADER: NONCE}, NONCE, endpoint=ENDPOINT, region=REGION, now=NOW)


@pytest.mark.parametrize(
    "url", [presigned(), presigned(X_Amz_Security_Token="token/of+session="), presigned().replace("/?", "?")]
)
def test_the_request_that_was_asked_for_is_let_through(url: str) -> None:
    let_through(url)


def test_header_names_match_without_case_and_host_may_be_told() -> None:
    let_through(presigned(), {"X-Broker-Challenge": NONCE, "Host": "sts.eu-west-1.amazonaws.com"})


@pytest.mark.parametrize(
    "url",
    [
        presigned("https://sts.amazonaws.com"),
        presigned("https://sts.eu-west-2.amazonaws.com"),
        presigned("http://sts.eu-west-1.amazonaws.com"),
        presigned("https://sts.eu-west-1.amazonaws.com.evil.example"),
        presigned("https://sts.eu-west-1.amazonaws.com@evil.example"),
        presigned("https://sts.eu-west-1.amazonaws.com:8443"),
        presigned("https://evil.example"),
        presigned().replace("/?", "/other?"),
        presigned() + "#fragment",
        presigned() + "&X-Extra=1",
        presigned() + "&Action=AssumeRole",
        presigned() + "\r\nHost: evil.example",
        presigned() + "&x",
        presigned(X_Amz_SignedHeaders="host"),
        presigned(X_Amz_SignedHeaders=f"accept;host;{HEADER}"),
        presigned(X_Amz_SignedHeaders=HEADER),
        presigned(X_Amz_Credential="AKIAEXAMPLE/20260504/us-east-1/sts/aws4_request"),
        presigned(X_Amz_Credential="AKIAEXAMPLE/20260504/eu-west-1/s3/aws4_request"),
        presigned(X_Amz_Algorithm="AWS4-ECDSA-P256-SHA256"),
        presigned(X_Amz_Date="20260504T115459Z"),
        presigned(X_Amz_Date="20260504T120101Z"),
        presigned(X_Amz_Date="yesterday"),
        presigned(X_Amz_Signature=None),
        presigned(Version="2099-01-01"),
        "",
        "https://sts.eu-west-1.amazonaws.com/?" + "a" * 9000,
    ],
)
def test_any_other_request_is_refused_at_its_url(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        let_through(url)

    assert ["/url"] == [flaw.pointer for flaw in refused.value.flaws]


@pytest.mark.parametrize("action", ["GetSessionToken", "AssumeRole", "getcalleridentity"])
def test_no_other_action_is_ever_called_for_a_tenant(action: str) -> None:
    with pytest.raises(Invalid):
        let_through(presigned(Action=action))


@pytest.mark.parametrize(
    "headers", [{HEADER: "another"}, {"other": NONCE}, {HEADER: NONCE, "authorization": "x"}, {HEADER: NONCE + " "}]
)
def test_only_our_nonce_may_go_along(headers: dict[str, str]) -> None:
    with pytest.raises(Invalid) as refused:
        let_through(presigned(), headers)

    assert ["/headers"] == [flaw.pointer for flaw in refused.value.flaws]


def test_a_signature_is_good_for_five_minutes() -> None:
    signed = presigned(X_Amz_Date="20260504T115500Z")
    let_through(signed)

    with pytest.raises(Invalid):
        check(signed, {HEADER: NONCE}, NONCE, endpoint=ENDPOINT, region=REGION, now=NOW + timedelta(seconds=1))
