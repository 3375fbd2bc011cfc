"""Every call is signed, and the signature decides who calls."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from broker.sandbox.errors import AwsError
from broker.sandbox.signature import Message, read, verify
from tests.sandbox.aws import REGION, Aws, Keys, allow, fetch, refusal


def presigned(aws: Aws, keys: Keys, *, expires: int = 60, headers: dict[str, str] | None = None) -> str:
    """A presigned GetCallerIdentity request, as a delegate makes it to prove its account."""
    url = f"{aws.url}/?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("GET", url, headers=headers)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.token)
    SigV4QueryAuth(credentials, "sts", REGION, expires=expires).add_auth(request)
    return str(request.url)


def test_an_account_s_administrator_is_told_its_arn(aws: Aws) -> None:
    account = aws.account()

    found = account.client("sts").get_caller_identity()

    assert (account.id, account.arn) == (found["Account"], found["Arn"])


def test_opening_an_account_twice_gives_the_same_key(aws: Aws) -> None:
    account = aws.account()

    again = aws.control("POST", "accounts", {"account_id": account.id})

    assert account.keys == Keys(again["access_key_id"], again["secret_access_key"])


def test_an_unknown_key_is_refused(aws: Aws) -> None:
    sts = aws.client("sts", Keys("AKIAUNKNOWNUNKNOWN12", "secret"))

    code, message = refusal(sts.get_caller_identity)

    assert (code, message) == ("InvalidClientTokenId", "The security token included in the request is invalid.")


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("sts", "get_caller_identity", "SignatureDoesNotMatch"),
        ("ses", "list_identities", "SignatureDoesNotMatch"),
        ("sesv2", "get_account", "InvalidSignatureException"),
        ("sns", "list_topics", "SignatureDoesNotMatch"),
        ("sqs", "list_queues", "SignatureDoesNotMatch"),
        ("iam", "list_users", "SignatureDoesNotMatch"),
    ],
)
def test_a_wrong_secret_is_refused_by_every_service(aws: Aws, service: str, operation: str, code: str) -> None:
    account = aws.account()
    client = account.client(service, keys=Keys(account.keys.access_key_id, "wrong"))

    assert code == refusal(getattr(client, operation))[0]


def test_paths_with_escaped_characters_verify(aws: Aws) -> None:
    account = aws.account()
    account.verify("some+one@example.com")

    found = account.client("sesv2").get_email_identity(EmailIdentity="some+one@example.com")

    assert found["IdentityType"] == "EMAIL_ADDRESS"


def test_an_unsigned_call_is_refused(aws: Aws) -> None:
    status, text = fetch(f"{aws.url}/?Action=GetCallerIdentity&Version=2011-06-15")

    assert status == 403
    assert "<Code>MissingAuthenticationToken</Code>" in text


def test_a_presigned_call_names_the_caller(aws: Aws) -> None:
    account = aws.account()

    status, text = fetch(presigned(aws, account.keys))

    assert status == 200
    assert f"<Account>{account.id}</Account>" in text


def test_a_presigned_call_of_a_session_names_the_session(aws: Aws) -> None:
    account = aws.account()
    role = account.make_role("sender", allow("sts:AssumeRole", principal={"AWS": account.id}))

    _, text = fetch(presigned(aws, account.assume(role)))

    assert f"<Arn>arn:aws:sts::{account.id}:assumed-role/sender/test-session</Arn>" in text


@pytest.mark.parametrize(("sent", "status"), [("the-nonce", 200), ("another", 403), (None, 403)])
def test_a_signed_header_must_come_along_with_its_signed_value(aws: Aws, sent: str | None, status: int) -> None:
    account = aws.account()
    url = presigned(aws, account.keys, headers={"x-broker-challenge": "the-nonce"})

    found, _ = fetch(url, headers={"x-broker-challenge": sent} if sent else {})

    assert status == found


def test_a_changed_presigned_call_is_refused(aws: Aws) -> None:
    account = aws.account()
    url = presigned(aws, account.keys).replace("GetCallerIdentity", "GetSessionToken")

    status, text = fetch(url)

    assert status == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in text


@pytest.mark.parametrize(("after", "refused"), [(59, False), (61, True), (-299, False), (-301, True)])
def test_a_presigned_call_lives_as_long_as_it_says(aws: Aws, after: int, *, refused: bool) -> None:
    keys = aws.account().keys
    url = urlsplit(presigned(aws, keys, expires=60))
    message = Message("GET", url.path, url.query, {"host": url.netloc}, b"")
    signed = read(message)
    assert signed is not None

    now = signed.signed_at + timedelta(seconds=after)

    with pytest.raises(AwsError, match="SignatureDoesNotMatch: Signature") if refused else nullcontext():
        verify(message, signed, keys.secret_access_key, now=now)


def test_a_presigned_call_may_live_a_week_at_most(aws: Aws) -> None:
    status, text = fetch(presigned(aws, aws.account().keys, expires=8 * 24 * 3600))

    assert status == 400
    assert "<Code>IncompleteSignature</Code>" in text


def test_an_iam_user_signs_as_itself(aws: Aws) -> None:
    account = aws.account()
    arn, keys = account.make_user("mailer")

    found = account.client("sts", keys=keys).get_caller_identity()

    assert (arn, account.id) == (found["Arn"], found["Account"])


def test_a_deleted_key_is_refused(aws: Aws) -> None:
    account = aws.account()
    _, keys = account.make_user("mailer")
    account.client("iam").delete_access_key(UserName="mailer", AccessKeyId=keys.access_key_id)

    assert refusal(account.client("sts", keys=keys).get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_session_s_key_needs_its_token(aws: Aws) -> None:
    account = aws.account()
    role = account.make_role("sender", allow("sts:AssumeRole", principal={"AWS": account.id}))
    keys = account.assume(role)

    stolen = Keys(keys.access_key_id, keys.secret_access_key)

    assert refusal(account.client("sts", keys=stolen).get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_session_ends(aws: Aws) -> None:
    account = aws.account()
    role = account.make_role("sender", allow("sts:AssumeRole", principal={"AWS": account.id}))
    keys = account.assume(role, DurationSeconds=900)
    later = datetime.now(UTC) + timedelta(seconds=901)

    with pytest.raises(AwsError, match="ExpiredToken"):
        aws.cloud.accounts.find(keys.access_key_id, keys.token, now=later)


def test_a_caller_cannot_choose_its_account_by_moto_s_header(aws: Aws) -> None:
    account, other = aws.account(), aws.account()
    iam = account.client("iam")
    iam.meta.events.register(
        "before-sign.*.*", lambda request, **_: request.headers.add_header("x-moto-account-id", other.id)
    )

    arn = iam.create_user(UserName="mine")["User"]["Arn"]

    assert f"arn:aws:iam::{account.id}:user/mine" == arn


def test_the_log_tells_who_called_what(aws: Aws) -> None:
    account = aws.account()
    account.client("sesv2").get_account()

    calls = aws.control("GET", f"calls?account_id={account.id}&service=sesv2&operation=GetAccount")

    assert [(account.arn, 200, None)] == [(each["caller_arn"], each["status"], each["error"]) for each in calls]
    assert calls[0]["region"] == REGION
