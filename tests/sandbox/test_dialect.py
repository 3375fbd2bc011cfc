"""Each open point of SES has both its values."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.sandbox.dialect import Dialect
from tests.sandbox.aws import Account, Aws, Queue, allow, assume, refusal, ses_may_publish, simple

Start = Callable[..., Aws]


def owner_and_policy(aws: Aws, principal: Any, **more: Any) -> tuple[Account, Callable[[], Any]]:
    """An owner and a call that puts one policy on its identity."""
    owner = aws.account()
    arn = owner.verify("example.com")
    text = json.dumps(allow(more.pop("Action", "ses:SendEmail"), arn, principal=principal, **more))
    v2 = owner.client("sesv2")
    given = {"EmailIdentity": "example.com", "PolicyName": "partner", "Policy": text}
    return owner, lambda: v2.create_email_identity_policy(**given)


def principals(owner: Account) -> Any:
    found = owner.client("sesv2").get_email_identity_policies(EmailIdentity="example.com")["Policies"]
    return json.loads(found["partner"])["Statement"][0]["Principal"]["AWS"]


def test_a_missing_policy_may_be_answered_with_success(aws_speaking: Start) -> None:
    owner = aws_speaking(missing_policy_status=200).account()
    arn = owner.verify("example.com")
    v2 = owner.client("sesv2")
    text = json.dumps(allow("ses:SendEmail", arn, principal={"AWS": owner.id}))

    v2.delete_email_identity_policy(EmailIdentity="example.com", PolicyName="none")
    v2.update_email_identity_policy(EmailIdentity="example.com", PolicyName="none", Policy=text)

    assert v2.get_email_identity_policies(EmailIdentity="example.com")["Policies"] == {}


def test_a_missing_policy_may_be_answered_with_not_found(aws_speaking: Start) -> None:
    owner = aws_speaking(missing_policy_status=404).account()
    owner.verify("example.com")
    given = {"EmailIdentity": "example.com", "PolicyName": "none"}

    assert refusal(lambda: owner.client("sesv2").delete_email_identity_policy(**given))[0] == "NotFoundException"


@pytest.mark.parametrize(("rewritten", "shown"), [(True, "arn:aws:iam::{}:root"), (False, "{}")])
def test_a_bare_account_may_be_read_back_as_root(aws_speaking: Start, shown: str, *, rewritten: bool) -> None:
    aws = aws_speaking(bare_account_as_root=rewritten)
    delegate = aws.account()
    owner, put = owner_and_policy(aws, {"AWS": delegate.id})

    put()

    assert shown.format(delegate.id) == principals(owner)


@pytest.mark.parametrize("as_id", [True, False])
def test_a_deleted_principal_may_turn_into_its_id(aws_speaking: Start, *, as_id: bool) -> None:
    aws = aws_speaking(deleted_principal_as_id=as_id)
    delegate = aws.account()
    role = delegate.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": delegate.id}))
    owner, put = owner_and_policy(aws, {"AWS": role})
    put()
    iam = delegate.client("iam")
    role_id = iam.get_role(RoleName="mailer")["Role"]["RoleId"]

    iam.delete_role(RoleName="mailer")
    after_deletion = principals(owner)
    delegate.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": delegate.id}))

    assert (role_id if as_id else role) == after_deletion == principals(owner)


def test_reads_may_be_stale(aws_speaking: Start) -> None:
    aws = aws_speaking(stale_reads_seconds=60)
    delegate = aws.account()
    owner, put = owner_and_policy(aws, {"AWS": delegate.id})
    v2 = owner.client("sesv2")

    put()
    stale = v2.get_email_identity_policies(EmailIdentity="example.com")["Policies"]
    aws.control("PATCH", "dialect", {"stale_reads_seconds": 0})
    fresh = v2.get_email_identity_policies(EmailIdentity="example.com")["Policies"]

    assert (stale, list(fresh)) == ({}, ["partner"])


@pytest.mark.parametrize("named", [True, False])
def test_a_refusal_may_name_the_principal(aws_speaking: Start, *, named: bool) -> None:
    aws = aws_speaking(refused_principal_named=named)
    role = f"arn:aws:iam::{aws.account().id}:role/gone"
    _, put = owner_and_policy(aws, {"AWS": role})

    code, words = refusal(put)

    assert "BadRequestException" == code
    assert "Invalid principal in policy" in words
    assert named == (role in words)


NULL_GUARD = {"Condition": {"Null": {"ses:Recipients": "false"}}}


@pytest.mark.parametrize(
    ("switch", "more"),
    [
        ("null_guard_refused", NULL_GUARD),
        ("role_principal_refused", {"Principal": {"AWS": "{role}"}}),
        ("send_bulk_refused", {"Action": ["ses:SendEmail", "ses:SendBulkEmail"]}),
    ],
)
@pytest.mark.parametrize("refused", [True, False])
def test_a_policy_may_be_refused(aws_speaking: Start, switch: str, more: dict[str, Any], *, refused: bool) -> None:
    aws = aws_speaking(**{switch: refused})
    delegate = aws.account()
    role = delegate.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": delegate.id}))
    _, put = owner_and_policy(aws, {"AWS": delegate.id}, **json.loads(json.dumps(more).replace("{role}", role)))

    if refused:
        assert refusal(put)[0] == "BadRequestException"
    else:
        assert put()["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("sensitive", [True, False])
def test_from_may_be_compared_without_case(aws_speaking: Start, *, sensitive: bool) -> None:
    aws = aws_speaking(from_case_sensitive=sensitive)
    _, delegate, arn = aws.delegation(Condition={"StringEquals": {"ses:FromAddress": "news@example.com"}})
    mail = simple("News@Example.com", FromEmailAddressIdentityArn=arn)

    if sensitive:
        assert refusal(lambda: delegate.client("sesv2").send_email(**mail))[0] == "AccessDeniedException"
    else:
        assert delegate.client("sesv2").send_email(**mail)["MessageId"]


@pytest.mark.parametrize("absent", [True, False])
def test_without_a_return_path_its_key_may_hold_the_from_address(aws_speaking: Start, *, absent: bool) -> None:
    aws = aws_speaking(return_path_key_absent=absent)
    _, delegate, arn = aws.delegation(Condition={"StringEquals": {"ses:FeedbackAddress": "news@example.com"}})
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)

    if absent:
        assert refusal(lambda: delegate.client("sesv2").send_email(**mail))[0] == "AccessDeniedException"
    else:
        assert delegate.client("sesv2").send_email(**mail)["MessageId"]


@pytest.mark.parametrize("key", ["SourceAccount", "SourceOwner"])
def test_ses_may_show_itself_to_topics_by_either_key(aws_speaking: Start, key: str) -> None:
    owner = aws_speaking(source_key=key).account()
    owner.verify("example.com")
    topics = {each: owner.make_topic(each) for each in ("SourceAccount", "SourceOwner")}
    for each, topic in topics.items():
        document = json.dumps(ses_may_publish(topic, owner.id, f"aws:{each}"))
        owner.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=document)

    def set_topic(topic: str) -> Any:
        given = {"Identity": "example.com", "NotificationType": "Bounce", "SnsTopic": topic}
        return owner.client("ses").set_identity_notification_topic(**given)

    set_topic(topics.pop(key))

    assert refusal(lambda: set_topic(*topics.values()))[0] == "InvalidParameterValue"


@pytest.mark.parametrize("silent", [True, False])
def test_an_identity_s_topic_may_be_silent_about_delegated_mail(aws_speaking: Start, *, silent: bool) -> None:
    aws = aws_speaking(identity_topic_silent_for_delegated=silent)
    owner, delegate, arn = aws.delegation()
    topic = owner.make_topic("feedback", publishers=owner.id)
    queue: Queue = owner.make_queue("feedback", topic)
    owner.client("ses").set_identity_notification_topic(
        Identity="example.com", NotificationType="Delivery", SnsTopic=topic
    )

    for sender in (delegate, owner):
        sender.client("sesv2").send_email(**simple("news@example.com", FromEmailAddressIdentityArn=arn))
    aws.settle()

    heard = {record["mail"]["sendingAccountId"] for record in queue.feedback(1 if silent else 2)}
    assert ({owner.id} if silent else {owner.id, delegate.id}) == heard


@pytest.mark.parametrize("fails", [True, False])
def test_the_owner_s_default_set_may_fail_delegated_mail(aws_speaking: Start, *, fails: bool) -> None:
    aws = aws_speaking(default_configuration_set_fails_delegated=fails)
    owner, delegate, arn = aws.delegation()
    v2 = owner.client("sesv2")
    v2.create_configuration_set(ConfigurationSetName="owners")
    v2.put_email_identity_configuration_set_attributes(EmailIdentity="example.com", ConfigurationSetName="owners")
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)

    if fails:
        assert refusal(lambda: delegate.client("sesv2").send_email(**mail))[0] == "NotFoundException"
    else:
        assert delegate.client("sesv2").send_email(**mail)["MessageId"]
    assert v2.send_email(**simple("news@example.com"))["MessageId"]


@pytest.mark.parametrize("covers", [True, False])
def test_source_arn_may_cover_the_from_header(aws_speaking: Start, *, covers: bool) -> None:
    aws = aws_speaking(source_arn_covers_from=covers)
    _, delegate, arn = aws.delegation(Action="ses:SendRawEmail")
    message = {"Data": b"From: news@example.com\r\nTo: success@simulator.amazonses.com\r\n\r\ntext"}
    v1 = delegate.client("ses")

    if covers:
        assert v1.send_raw_email(RawMessage=message, SourceArn=arn)["MessageId"]
    else:
        assert refusal(lambda: v1.send_raw_email(RawMessage=message, SourceArn=arn))[0] == "MessageRejected"


@pytest.mark.parametrize("secure", [True, False])
def test_calls_may_count_as_insecure(aws_speaking: Start, *, secure: bool) -> None:
    aws = aws_speaking(secure_transport=secure)
    _, delegate, arn = aws.delegation(Condition={"Bool": {"aws:SecureTransport": "true"}})
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)

    if secure:
        assert delegate.client("sesv2").send_email(**mail)["MessageId"]
    else:
        assert refusal(lambda: delegate.client("sesv2").send_email(**mail))[0] == "AccessDeniedException"


def test_slow_operations_may_be_limited_to_one_per_second(aws_speaking: Start) -> None:
    aws = aws_speaking(rate_limit_per_second=0.01)
    first, second = aws.account(), aws.account()
    sns, v2 = first.client("sns"), first.client("sesv2")

    v2.get_account()
    again = refusal(v2.get_account)
    v2.list_email_identities()
    first.client("sesv2", region="us-east-1").get_account()
    second.client("sesv2").get_account()
    sns.list_topics()
    sns.list_topics()

    assert again == ("TooManyRequestsException", "Too Many Requests")
    assert aws.control("GET", f"calls?account_id={first.id}")[1]["status"] == 429


def test_every_call_may_be_under_way_for_a_while_before_it_takes_effect(aws_speaking: Start) -> None:
    aws = aws_speaking()
    owner, put = owner_and_policy(aws, {"AWS": aws.account().id})
    put()
    aws.control("PATCH", "dialect", {"latency_seconds": 0.05})

    owner.client("sesv2").delete_email_identity_policy(EmailIdentity="example.com", PolicyName="partner")

    call = aws.control("GET", f"calls?account_id={owner.id}")[-1]
    came, ended = (datetime.fromisoformat(call[name]) for name in ("at", "ended_at"))
    assert ("DeleteEmailIdentityPolicy", "example.com") == (call["operation"], call["about"])
    assert timedelta(seconds=0.05) <= ended - came


def test_the_log_of_calls_names_the_role_that_was_assumed(aws_speaking: Start) -> None:
    aws = aws_speaking()
    owner, other = aws.account(), aws.account()
    role = owner.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": other.id}))

    other.assume(role)

    assert [role] == [call["about"] for call in aws.control("GET", "calls?operation=AssumeRole")]


def test_the_dialect_is_read_and_changed_while_it_runs(aws_speaking: Start) -> None:
    aws = aws_speaking()

    changed = aws.control("PATCH", "dialect", {"missing_policy_status": 200})

    assert changed["missing_policy_status"] == 200
    assert changed == aws.control("GET", "dialect")
    assert set(Dialect.__struct_fields__) == set(changed)


def test_a_session_keeps_its_keys_when_the_dialect_changes(aws_speaking: Start) -> None:
    aws = aws_speaking()
    account = aws.account()
    role = account.make_role("r", allow("sts:AssumeRole", principal={"AWS": account.id}))
    keys = assume(account.client("sts"), role)

    aws.control("PATCH", "dialect", {"secure_transport": False})

    assert account.id == account.client("sts", keys=keys).get_caller_identity()["Account"]
