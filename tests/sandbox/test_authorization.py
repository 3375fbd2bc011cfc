"""What a role session or an IAM user may do: its own policies, narrowed by the session's, on AWS's resource levels."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from broker.policies.evaluate import Decision
from broker.sandbox import iam_policy
from broker.sandbox.call import Principal
from tests.sandbox.aws import Account, Aws, allow, refusal

TRUST_ANYBODY = allow("sts:AssumeRole", principal={"AWS": "*"})


@pytest.fixture
def owner(aws: Aws) -> Account:
    account = aws.account()
    account.verify("example.com")
    account.verify("example.org")
    return account


def identity(account: Account, name: str = "example.com") -> str:
    return f"arn:aws:ses:eu-west-1:{account.id}:identity/{name}"


def session(account: Account, policy: dict[str, Any], **more: Any) -> Callable[[str], Any]:
    """Clients of a session of a role with this policy."""
    keys = account.assume(account.make_role("narrow", TRUST_ANYBODY, policy=policy), **more)
    return lambda service: account.client(service, keys=keys)


def test_a_session_may_do_what_its_role_may(owner: Account) -> None:
    client = session(owner, allow("ses:GetEmailIdentity", identity(owner)))

    assert client("sesv2").get_email_identity(EmailIdentity="example.com")["VerifiedForSendingStatus"]


def test_a_session_may_do_nothing_else(owner: Account) -> None:
    client = session(owner, allow("ses:GetEmailIdentity", identity(owner)))
    arn = f"arn:aws:sts::{owner.id}:assumed-role/narrow/test-session"

    other_action = refusal(lambda: client("sesv2").get_email_identity_policies(EmailIdentity="example.com"))
    other_identity = refusal(lambda: client("sesv2").get_email_identity(EmailIdentity="example.org"))

    text = f"User `{arn}' is not authorized to perform `ses:GetEmailIdentityPolicies' on resource `{identity(owner)}'"
    assert ("AccessDeniedException", text) == other_action
    assert other_identity[0] == "AccessDeniedException"


def test_a_session_policy_narrows(owner: Account) -> None:
    narrow = json.dumps(allow("ses:GetEmailIdentity", identity(owner)))
    client = session(owner, allow("ses:*", "*"), Policy=narrow)

    client("sesv2").get_email_identity(EmailIdentity="example.com")

    assert (
        refusal(lambda: client("sesv2").get_email_identity(EmailIdentity="example.org"))[0] == "AccessDeniedException"
    )


def test_a_session_policy_adds_nothing(owner: Account) -> None:
    client = session(owner, allow("ses:GetAccount", "*"), Policy=json.dumps(allow("ses:*", "*")))

    client("sesv2").get_account()

    assert (
        refusal(lambda: client("sesv2").get_email_identity(EmailIdentity="example.com"))[0] == "AccessDeniedException"
    )


WITHOUT_RESOURCE_LEVEL: list[tuple[str, str, dict[str, Any]]] = [
    ("sesv2", "list_email_identities", {}),
    ("sesv2", "get_account", {}),
    ("ses", "set_identity_notification_topic", {"Identity": "example.com", "NotificationType": "Bounce"}),
    (
        "ses",
        "set_identity_headers_in_notifications_enabled",
        {"Identity": "example.com", "NotificationType": "Bounce", "Enabled": False},
    ),
    ("ses", "set_identity_feedback_forwarding_enabled", {"Identity": "example.com", "ForwardingEnabled": True}),
    ("ses", "get_identity_notification_attributes", {"Identities": ["example.com"]}),
    ("ses", "list_identity_policies", {"Identity": "example.com"}),
]


@pytest.mark.parametrize(("service", "operation", "given"), WITHOUT_RESOURCE_LEVEL)
def test_a_statement_that_names_an_identity_does_not_cover_calls_without_resource_level(
    owner: Account, service: str, operation: str, given: dict[str, Any]
) -> None:
    client = session(owner, allow("ses:*", [identity(owner), f"{identity(owner)}*", "arn:aws:ses:*"]))

    assert "AccessDenied" in refusal(lambda: getattr(client(service), operation)(**given))[0]


@pytest.mark.parametrize(("service", "operation", "given"), WITHOUT_RESOURCE_LEVEL)
def test_a_star_covers_calls_without_resource_level(
    owner: Account, service: str, operation: str, given: dict[str, Any]
) -> None:
    client = session(owner, allow("ses:*", "*"))

    assert getattr(client(service), operation)(**given)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_configuration_sets_have_arns_of_their_own(owner: Account) -> None:
    arn = f"arn:aws:ses:*:{owner.id}:configuration-set/broker-*"
    client = session(owner, allow("ses:CreateConfigurationSet", arn))("sesv2")

    client.create_configuration_set(ConfigurationSetName="broker-1")

    assert refusal(lambda: client.create_configuration_set(ConfigurationSetName="other"))[0] == "AccessDeniedException"


def test_topics_are_checked_by_arn(owner: Account) -> None:
    client = session(owner, allow("sns:*", f"arn:aws:sns:*:{owner.id}:broker-*"))("sns")

    topic = client.create_topic(Name="broker-feedback")["TopicArn"]
    client.get_topic_attributes(TopicArn=topic)
    client.set_topic_attributes(TopicArn=topic, AttributeName="SignatureVersion", AttributeValue="2")

    code, message = refusal(lambda: client.create_topic(Name="other"))
    assert code == "AuthorizationError"
    assert "is not authorized to perform: SNS:CreateTopic on resource: arn:aws:sns:eu-west-1:" in message


def test_queues_are_checked_by_arn(owner: Account) -> None:
    client = session(owner, allow("sqs:*", f"arn:aws:sqs:*:{owner.id}:broker-*"))("sqs")
    owner.make_queue("other")

    url = client.create_queue(QueueName="broker-feedback")["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="x")

    assert (
        refusal(lambda: client.receive_message(QueueUrl=url.replace("broker-feedback", "other")))[0] == "AccessDenied"
    )


def test_a_stranger_cannot_read_a_queue(aws: Aws, owner: Account) -> None:
    queue = owner.make_queue("private")

    assert refusal(lambda: aws.account().client("sqs").receive_message(QueueUrl=queue.url))[0] == "AccessDenied"


def test_a_user_without_policies_may_do_nothing(owner: Account) -> None:
    _, keys = owner.make_user("newcomer")

    assert refusal(owner.client("sesv2", keys=keys).get_account)[0] == "AccessDeniedException"
    assert refusal(owner.client("iam", keys=keys).list_users)[0] == "AccessDenied"


def test_attached_and_group_policies_count(owner: Account) -> None:
    iam = owner.client("iam")
    _, keys = owner.make_user("member")
    policy = iam.create_policy(PolicyName="read", PolicyDocument=json.dumps(allow("ses:GetAccount", "*")))["Policy"][
        "Arn"
    ]
    iam.create_group(GroupName="readers")
    iam.attach_group_policy(GroupName="readers", PolicyArn=policy)
    iam.add_user_to_group(GroupName="readers", UserName="member")

    assert owner.client("sesv2", keys=keys).get_account()["SendingEnabled"]


def test_a_deny_in_the_role_wins(owner: Account) -> None:
    document = allow("ses:*", "*")
    document["Statement"].append({"Effect": "Deny", "Action": "ses:GetAccount", "Resource": "*"})
    client = session(owner, document)("sesv2")

    client.list_email_identities()

    assert refusal(client.get_account)[0] == "AccessDeniedException"


def test_a_session_may_be_narrowed_by_managed_policies(owner: Account) -> None:
    document = json.dumps(allow("ses:GetAccount", "*"))
    arn = owner.client("iam").create_policy(PolicyName="narrow", PolicyDocument=document)["Policy"]["Arn"]
    client = session(owner, allow("ses:*", "*"), PolicyArns=[{"arn": arn}])("sesv2")

    client.get_account()

    assert refusal(client.list_email_identities)[0] == "AccessDeniedException"


@pytest.mark.parametrize(("version", "allowed"), [("2012-10-17", True), ("2008-10-17", False)])
def test_variables_in_a_resource_are_filled_where_the_version_has_them(version: str, *, allowed: bool) -> None:
    """IAM User Guide, reference_policies_variables: in an older Version they are ordinary text."""
    account = "111111111111"
    arn = f"arn:aws:sqs:eu-west-1:{account}:queue-{account}"
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn[:-12] + "${aws:PrincipalAccount}"}
    document = json.dumps({"Version": version, "Statement": statement})
    caller = iam_policy.caller_of(Principal(account, f"arn:aws:iam::{account}:user/ann", "AIDA", "ann", "user", "AKIA"))

    said = iam_policy.decide(
        [document], "sqs:SendMessage", arn, caller=caller, keys={"aws:principalaccount": (account,)}
    )

    assert allowed is (said is Decision.allow)
