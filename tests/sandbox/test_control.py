"""The control API: faults on request, and refusals of what it does not understand."""

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.sandbox.aws import REGION, Account, Aws, allow, fetch, refusal, simple


@pytest.fixture
def owner(aws: Aws) -> Account:
    account = aws.account()
    account.verify("example.com")
    return account


def fault(aws: Aws, owner: Account, error: str, **more: Any) -> None:
    wanted = {"service": "sesv2", "operation": "GetEmailIdentity", "error": error, "account_id": owner.id}
    aws.control("POST", "faults", wanted | more)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("throttle", "TooManyRequestsException"),
        ("500", "InternalFailure"),
        ("access_denied", "AccessDeniedException"),
        ("expired", "ExpiredTokenException"),
    ],
)
def test_a_fault_strikes_as_often_as_asked(aws: Aws, owner: Account, error: str, code: str) -> None:
    fault(aws, owner, error, times=2)
    v2 = owner.client("sesv2")

    struck = [refusal(lambda: v2.get_email_identity(EmailIdentity="example.com"))[0] for _ in range(2)]

    assert [code, code] == struck
    assert v2.get_email_identity(EmailIdentity="example.com")["VerifiedForSendingStatus"]


def test_a_fault_strikes_only_what_it_names(aws: Aws, owner: Account) -> None:
    fault(aws, owner, "500", times=None)

    assert aws.account().client("sesv2").get_account()["SendingEnabled"]
    assert owner.client("sesv2").get_account()["SendingEnabled"]

    aws.control("DELETE", "faults")
    assert owner.client("sesv2").get_email_identity(EmailIdentity="example.com")["VerifiedForSendingStatus"]


def test_an_answer_may_never_come(aws: Aws, owner: Account) -> None:
    fault(aws, owner, "timeout")
    client = aws.client("sesv2", owner.keys, read_timeout=0.2)

    with pytest.raises(ReadTimeoutError):
        client.get_email_identity(EmailIdentity="example.com")

    aws.control("DELETE", "faults")


def test_a_call_may_take_effect_although_its_answer_is_lost(aws: Aws, owner: Account) -> None:
    fault(aws, owner, "500", operation="SendEmail", after=True)
    to = f"success+{owner.id}@simulator.amazonses.com"

    code, _ = refusal(lambda: owner.client("sesv2").send_email(**simple("news@example.com", to)))

    assert code == "InternalFailure"
    assert len(aws.control("GET", f"mailbox?recipient={to.replace('+', '%2B')}")) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "accounts", {"account_id": "12"}, 400),
        ("POST", "accounts", {}, 400),
        ("POST", "faults", {"error": "unknown"}, 400),
        ("POST", "faults", {"error": "500", "unknown": 1}, 400),
        ("PATCH", "dialect", {"unknown_switch": True}, 400),
        ("PATCH", "dialect", {"missing_policy_status": 500}, 400),
        ("GET", "nothing", None, 404),
        ("DELETE", "dialect", None, 404),
    ],
)
def test_what_is_not_understood_is_refused(
    aws: Aws, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    data = json.dumps(body).encode() if body is not None else None

    found, text = fetch(f"{aws.url}/_sandbox/{path}", method=method, data=data)

    assert status == found
    assert json.loads(text)["error"]


def test_the_server_says_that_it_is_there(aws: Aws) -> None:
    assert aws.control("GET", "health") == {"ok": True}


def test_a_send_does_not_wait_for_its_feedback(aws: Aws, owner: Account) -> None:
    topic = owner.make_topic("slow", publishers=owner.id)
    owner.client("ses").set_identity_notification_topic(
        Identity="example.com", NotificationType="Delivery", SnsTopic=topic
    )
    # An address that accepts connections and never answers would hold a delivery for fifteen seconds.
    owner.client("sns").subscribe(TopicArn=topic, Protocol="http", Endpoint="http://127.0.0.1:9/never")

    began = time.monotonic()
    owner.client("sesv2").send_email(**simple("news@example.com"))

    assert time.monotonic() - began < 12


def test_a_call_may_be_carried_out_late(aws: Aws, owner: Account) -> None:
    """It is answered as failed, and takes effect after calls that came later."""
    v2 = owner.client("sesv2")
    named = {"EmailIdentity": "example.com", "PolicyName": "late"}
    arn = f"arn:aws:ses:{REGION}:{owner.id}:identity/example.com"
    document = json.dumps(allow(["ses:SendEmail"], arn, principal={"AWS": owner.id}))
    fault(aws, owner, "late", operation="CreateEmailIdentityPolicy")

    code, _ = refusal(lambda: v2.create_email_identity_policy(**named, Policy=document))
    before = v2.get_email_identity_policies(EmailIdentity="example.com")["Policies"]
    carried_out = [aws.control("POST", "late") for _ in range(2)]

    assert ("InternalFailure", {}) == (code, before)
    assert [{"carried_out": 1}, {"carried_out": 0}] == carried_out
    assert ["late"] == list(v2.get_email_identity_policies(EmailIdentity="example.com")["Policies"])
