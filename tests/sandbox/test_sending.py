"""Who may send what from whose identity, with SES's own texts for what is refused."""

import json
from email.message import EmailMessage
from typing import Any

import pytest

from tests.sandbox.aws import REGION, Account, Aws, allow, assume, refusal, simple

FROM = {"StringEquals": {"ses:FromAddress": "news@example.com"}}


def denied(caller: str, arn: str, action: str = "ses:SendEmail") -> str:
    return f"User `{caller}' is not authorized to perform `{action}' on resource `{arn}'"


def unverified(*addresses: str) -> str:
    failed = f"The following identities failed the check in region EU-WEST-1: {', '.join(addresses)}"
    return f"Email address is not verified. {failed}"


def raw(source: str, **headers: str) -> bytes:
    message = EmailMessage()
    message["From"] = source
    message["To"] = "success@simulator.amazonses.com"
    message["Subject"] = "Hello"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("A text")
    return bytes(message)


def test_an_owner_sends_from_its_own_identity(aws: Aws) -> None:
    owner = aws.account()
    owner.verify("example.com")

    sent = owner.client("sesv2").send_email(**simple("Example <hello@mail.example.com>"))

    assert sent["MessageId"].startswith("0102")
    mail = aws.control("GET", "mailbox?recipient=success@simulator.amazonses.com")[-1]
    assert (sent["MessageId"], owner.id, owner.arn) == (mail["message_id"], mail["account_id"], mail["caller_arn"])


def test_nobody_sends_from_what_is_not_verified(aws: Aws) -> None:
    account = aws.account()
    account.client("sesv2").create_email_identity(EmailIdentity="example.com")

    found = refusal(lambda: account.client("sesv2").send_email(**simple("hello@example.com")))

    assert ("MessageRejected", unverified("hello@example.com")) == found


def test_a_delegate_sends_as_agreed(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Condition=FROM)

    sent = delegate.client("sesv2").send_email(**simple("News <news@example.com>", FromEmailAddressIdentityArn=arn))

    assert sent["MessageId"]


def test_a_delegate_must_pass_the_arn(aws: Aws) -> None:
    _, delegate, _ = aws.delegation(Condition=FROM)

    found = refusal(lambda: delegate.client("sesv2").send_email(**simple("news@example.com")))

    assert ("MessageRejected", unverified("news@example.com")) == found


def test_another_from_address_is_refused(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Condition=FROM)
    mail = simple("ceo@example.com", FromEmailAddressIdentityArn=arn)

    found = refusal(lambda: delegate.client("sesv2").send_email(**mail))

    assert ("AccessDeniedException", denied(delegate.arn, arn)) == found


def test_another_account_is_refused(aws: Aws) -> None:
    _, _, arn = aws.delegation(Condition=FROM)
    stranger = aws.account()
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)

    found = refusal(lambda: stranger.client("sesv2").send_email(**mail))

    assert ("AccessDeniedException", denied(stranger.arn, arn)) == found


def test_a_stranger_does_not_learn_whether_an_identity_exists(aws: Aws) -> None:
    owner, stranger = aws.account(), aws.account()
    arn = f"arn:aws:ses:{REGION}:{owner.id}:identity/example.com"
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)

    found = refusal(lambda: stranger.client("sesv2").send_email(**mail))

    assert ("AccessDeniedException", denied(stranger.arn, arn)) == found


def test_the_return_path_must_be_the_agreed_one(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Condition={"StringEquals": {"ses:FeedbackAddress": "bounces@example.com"}})
    v2 = delegate.client("sesv2")
    arns = {"FromEmailAddressIdentityArn": arn, "FeedbackForwardingEmailAddressIdentityArn": arn}

    v2.send_email(**simple("news@example.com", FeedbackForwardingEmailAddress="bounces@example.com", **arns))
    other = refusal(
        lambda: v2.send_email(**simple("news@example.com", FeedbackForwardingEmailAddress="x@example.com", **arns))
    )
    without = refusal(lambda: v2.send_email(**simple("news@example.com", FromEmailAddressIdentityArn=arn)))

    assert ("AccessDeniedException", denied(delegate.arn, arn)) == other == without


def test_the_return_path_s_own_identity_must_permit_it(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    other = owner.verify("example.org")
    mail = simple(
        "news@example.com",
        FromEmailAddressIdentityArn=arn,
        FeedbackForwardingEmailAddress="bounces@example.org",
        FeedbackForwardingEmailAddressIdentityArn=other,
    )

    found = refusal(lambda: delegate.client("sesv2").send_email(**mail))

    assert ("AccessDeniedException", denied(delegate.arn, other)) == found


def test_an_address_must_belong_to_the_identity_of_the_arn(aws: Aws) -> None:
    _, delegate, arn = aws.delegation()
    mail = simple("news@example.org", FromEmailAddressIdentityArn=arn)

    code, message = refusal(lambda: delegate.client("sesv2").send_email(**mail))

    assert code == "BadRequestException"
    assert f"The address 'news@example.org' does not align with the given ARN '{arn}'" == message


def test_display_names_and_recipients_are_conditions(aws: Aws) -> None:
    condition = {
        "StringEquals": {"ses:FromDisplayName": "Example News"},
        "ForAllValues:StringLike": {"ses:Recipients": ["*@simulator.amazonses.com"]},
        "Null": {"ses:Recipients": "false"},
        "Bool": {"aws:SecureTransport": "true"},
        "DateLessThan": {"aws:CurrentTime": "2099-01-01T00:00:00Z"},
    }
    _, delegate, arn = aws.delegation(Condition=condition)
    v2 = delegate.client("sesv2")

    def send(source: str, *recipients: str) -> Any:
        return v2.send_email(**simple(source, *recipients, FromEmailAddressIdentityArn=arn))

    send("Example News <news@example.com>")
    other_name = refusal(lambda: send("Example <news@example.com>"))
    other_recipient = refusal(
        lambda: send("Example News <news@example.com>", "success@simulator.amazonses.com", "a@b.example")
    )

    assert denied(delegate.arn, arn) == other_name[1] == other_recipient[1]


def test_an_ended_window_is_refused(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Condition={"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}})
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)

    assert denied(delegate.arn, arn) == refusal(lambda: delegate.client("sesv2").send_email(**mail))[1]


def test_raw_mail_has_an_action_of_its_own(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Action=["ses:SendEmail"])
    content = {"Raw": {"Data": raw("news@example.com")}}

    found = refusal(lambda: delegate.client("sesv2").send_email(Content=content, FromEmailAddressIdentityArn=arn))

    assert ("AccessDeniedException", denied(delegate.arn, arn, "ses:SendRawEmail")) == found


def test_raw_mail_may_name_the_arns_in_headers(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Action=["ses:SendRawEmail"])
    named = raw("news@example.com", X_SES_SOURCE_ARN=arn, X_SES_FROM_ARN=arn)

    by_v2 = delegate.client("sesv2").send_email(Content={"Raw": {"Data": named}})
    by_v1 = delegate.client("ses").send_raw_email(RawMessage={"Data": named})

    assert by_v1["MessageId"] != by_v2["MessageId"]


def test_version_1_raw_mail_needs_the_arn_of_its_from_header(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Action=["ses:SendRawEmail"])
    v1 = delegate.client("ses")
    message = {"Data": raw("news@example.com")}

    v1.send_raw_email(RawMessage=message, Source="news@example.com", SourceArn=arn, FromArn=arn, ReturnPathArn=arn)
    found = refusal(lambda: v1.send_raw_email(RawMessage=message, Source="news@example.com", SourceArn=arn))

    assert ("MessageRejected", unverified("news@example.com")) == found


def test_version_1_sends_by_the_same_rules(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Condition=FROM)
    v1 = delegate.client("ses")
    content = {"Subject": {"Data": "Hello"}, "Body": {"Text": {"Data": "A text"}}}
    to = {"ToAddresses": ["success@simulator.amazonses.com"]}

    v1.send_email(Source="news@example.com", SourceArn=arn, Destination=to, Message=content)
    found = refusal(lambda: v1.send_email(Source="ceo@example.com", SourceArn=arn, Destination=to, Message=content))

    assert ("AccessDenied", denied(delegate.arn, arn)) == found


def test_the_api_version_is_a_condition(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Condition={"StringEquals": {"ses:ApiVersion": "2"}})
    content = {"Subject": {"Data": "Hello"}, "Body": {"Text": {"Data": "A text"}}}
    to = {"ToAddresses": ["success@simulator.amazonses.com"]}

    delegate.client("sesv2").send_email(**simple("news@example.com", FromEmailAddressIdentityArn=arn))
    found = refusal(
        lambda: delegate.client("ses").send_email(
            Source="news@example.com", SourceArn=arn, Destination=to, Message=content
        )
    )

    assert found[0] == "AccessDenied"


def test_across_accounts_the_caller_needs_its_own_permission_as_well(aws: Aws) -> None:
    _, delegate, arn = aws.delegation()
    poor, without = delegate.make_user("poor")
    _, rich = delegate.make_user("rich", policy=allow("ses:SendEmail", arn))
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)

    delegate.client("sesv2", keys=rich).send_email(**mail)
    found = refusal(lambda: delegate.client("sesv2", keys=without).send_email(**mail))

    assert ("AccessDeniedException", denied(poor, arn)) == found


def test_a_policy_for_one_user_covers_no_other(aws: Aws) -> None:
    owner, delegate, _ = aws.delegation()
    arn = owner.verify("example.org")
    user, keys = delegate.make_user("mailer", policy=allow("ses:*", "*"))
    _share(owner, "example.org", allow("ses:SendEmail", arn, principal={"AWS": user}))
    mail = simple("news@example.org", FromEmailAddressIdentityArn=arn)

    delegate.client("sesv2", keys=keys).send_email(**mail)

    assert refusal(lambda: delegate.client("sesv2").send_email(**mail))[0] == "AccessDeniedException"


def test_a_role_principal_covers_its_sessions(aws: Aws) -> None:
    owner, delegate, _ = aws.delegation()
    arn = owner.verify("example.org")
    trust = allow("sts:AssumeRole", principal={"AWS": delegate.id})
    role = delegate.make_role("mailer", trust, policy=allow("ses:SendEmail", "*"))
    _share(owner, "example.org", allow("ses:SendEmail", arn, principal={"AWS": role}))

    keys = assume(delegate.client("sts"), role)

    mail = simple("news@example.org", FromEmailAddressIdentityArn=arn)
    assert delegate.client("sesv2", keys=keys).send_email(**mail)["MessageId"]


def _share(owner: Account, identity: str, document: dict[str, Any]) -> None:
    owner.client("sesv2").create_email_identity_policy(
        EmailIdentity=identity, PolicyName="more", Policy=json.dumps(document)
    )


def test_within_an_account_the_identity_policy_suffices_and_its_deny_binds_even_the_administrator(aws: Aws) -> None:
    owner = aws.account()
    arn = owner.verify("example.com")
    user, keys = owner.make_user("mailer")
    document = allow("ses:SendEmail", arn, principal={"AWS": user})
    deny = {"Effect": "Deny", "Principal": "*", "Action": "ses:SendEmail", "Resource": arn}
    document["Statement"].append(deny | {"Condition": {"StringEquals": {"ses:FromAddress": "ceo@example.com"}}})
    _share(owner, "example.com", document)

    owner.client("sesv2", keys=keys).send_email(**simple("news@example.com"))
    found = refusal(lambda: owner.client("sesv2").send_email(**simple("ceo@example.com")))

    assert ("AccessDeniedException", denied(owner.arn, arn)) == found


def test_a_removed_policy_ends_the_sending(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn)
    delegate.client("sesv2").send_email(**mail)

    owner.client("sesv2").delete_email_identity_policy(EmailIdentity="example.com", PolicyName="delegate")

    assert refusal(lambda: delegate.client("sesv2").send_email(**mail))[0] == "AccessDeniedException"


@pytest.mark.parametrize("still_inside", ["owner", "delegate"])
def test_both_accounts_must_leave_the_sandbox(aws: Aws, still_inside: str) -> None:
    owner, delegate, arn = aws.delegation()
    inside = {"owner": owner, "delegate": delegate}[still_inside]
    aws.control("POST", "production", {"account_id": inside.id, "region": REGION, "enabled": False})
    v2 = delegate.client("sesv2")

    v2.send_email(**simple("news@example.com", FromEmailAddressIdentityArn=arn))
    stranger = simple("news@example.com", "someone@elsewhere.example", FromEmailAddressIdentityArn=arn)

    assert ("MessageRejected", unverified("someone@elsewhere.example")) == refusal(lambda: v2.send_email(**stranger))


def test_a_wrong_region_fails_the_check(aws: Aws) -> None:
    _, delegate, arn = aws.delegation()
    v2 = delegate.client("sesv2", region="us-east-1")

    code, message = refusal(lambda: v2.send_email(**simple("news@example.com", FromEmailAddressIdentityArn=arn)))

    assert code == "MessageRejected"
    assert "US-EAST-1" in message


def test_the_configuration_set_must_be_the_caller_s_own(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation()
    owner.client("sesv2").create_configuration_set(ConfigurationSetName="owners")
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn, ConfigurationSetName="owners")

    found = refusal(lambda: delegate.client("sesv2").send_email(**mail))

    assert found == ("NotFoundException", "Configuration set <owners> does not exist.")


def test_the_configuration_set_needs_a_permission_of_its_own(aws: Aws) -> None:
    _, delegate, arn = aws.delegation()
    delegate.client("sesv2").create_configuration_set(ConfigurationSetName="mine")
    user, keys = delegate.make_user("mailer", policy=allow("ses:SendEmail", arn))
    mail = simple("news@example.com", FromEmailAddressIdentityArn=arn, ConfigurationSetName="mine")

    found = refusal(lambda: delegate.client("sesv2", keys=keys).send_email(**mail))

    own = f"arn:aws:ses:eu-west-1:{delegate.id}:configuration-set/mine"
    assert ("AccessDeniedException", denied(user, own)) == found


def test_a_raw_message_needs_a_from_header(aws: Aws) -> None:
    owner = aws.account()
    owner.verify("example.com")
    content = {"Raw": {"Data": b"To: success@simulator.amazonses.com\r\n\r\ntext"}}

    code, message = refusal(lambda: owner.client("sesv2").send_email(Content=content))

    assert (code, message) == ("BadRequestException", "Missing required header 'From'.")


def test_a_message_has_at_most_fifty_recipients(aws: Aws) -> None:
    owner = aws.account()
    owner.verify("example.com")
    many = [f"success+{number}@simulator.amazonses.com" for number in range(51)]

    assert (
        refusal(lambda: owner.client("sesv2").send_email(**simple("news@example.com", *many)))[0]
        == "BadRequestException"
    )


def test_a_template_has_an_action_of_its_own(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Action=["ses:SendTemplatedEmail"])
    v1, v2 = delegate.client("ses"), delegate.client("sesv2")
    v2.create_email_template(TemplateName="welcome", TemplateContent={"Subject": "Welcome", "Text": "Hi"})
    to = f"success+{delegate.id}@simulator.amazonses.com"
    named = {"TemplateName": "welcome", "TemplateData": "{}"}
    mail = {"Destination": {"ToAddresses": [to]}}

    v1.send_templated_email(Source="news@example.com", SourceArn=arn, Template="welcome", TemplateData="{}", **mail)
    v2.send_email(
        FromEmailAddress="news@example.com", FromEmailAddressIdentityArn=arn, Content={"Template": named}, **mail
    )
    plain = refusal(lambda: v2.send_email(**simple("news@example.com", FromEmailAddressIdentityArn=arn)))
    missing = refusal(
        lambda: v1.send_templated_email(
            Source="news@example.com", SourceArn=arn, Template="none", TemplateData="{}", **mail
        )
    )

    accepted = aws.control("GET", f"mailbox?recipient={to.replace('+', '%2B')}")
    assert [each["subject"] for each in accepted] == ["Welcome", "Welcome"]
    assert plain == ("AccessDeniedException", denied(delegate.arn, arn))
    assert missing[0] == "TemplateDoesNotExist"


def bulk(arn: str, source: str = "news@example.com") -> dict[str, Any]:
    entries = [{"Destination": {"ToAddresses": [f"success+{at}@simulator.amazonses.com"]}} for at in range(2)]
    content = {"Template": {"TemplateContent": {"Subject": "Hello"}, "TemplateData": "{}"}}
    named = {"FromEmailAddress": source, "FromEmailAddressIdentityArn": arn}
    return named | {"DefaultContent": content, "BulkEmailEntries": entries}


def test_bulk_mail_needs_two_actions(aws: Aws) -> None:
    _, one, first = aws.delegation(Action=["ses:SendBulkEmail"])
    _, both, second = aws.delegation(Action=["ses:SendBulkEmail", "ses:SendBulkTemplatedEmail"])

    found = refusal(lambda: one.client("sesv2").send_bulk_email(**bulk(first)))
    results = both.client("sesv2").send_bulk_email(**bulk(second))["BulkEmailEntryResults"]

    assert found == ("AccessDeniedException", denied(one.arn, first, "ses:SendBulkTemplatedEmail"))
    assert [each["Status"] for each in results] == ["SUCCESS", "SUCCESS"]


def test_address_conditions_never_match_send_bulk_email(aws: Aws) -> None:
    _, delegate, arn = aws.delegation(Action=["ses:SendBulkEmail", "ses:SendBulkTemplatedEmail"], Condition=FROM)

    found = refusal(lambda: delegate.client("sesv2").send_bulk_email(**bulk(arn)))

    assert found == ("AccessDeniedException", denied(delegate.arn, arn, "ses:SendBulkEmail"))


def test_bulk_mail_keeps_its_address_limit_through_the_other_action(aws: Aws) -> None:
    owner, delegate, arn = aws.delegation(Action=["ses:SendBulkEmail"])
    limited = allow("ses:SendBulkTemplatedEmail", arn, principal={"AWS": delegate.id}, Condition=FROM)
    _share(owner, "example.com", limited)
    v2 = delegate.client("sesv2")

    v2.send_bulk_email(**bulk(arn))
    found = refusal(lambda: v2.send_bulk_email(**bulk(arn, "ceo@example.com")))

    assert found == ("AccessDeniedException", denied(delegate.arn, arn, "ses:SendBulkTemplatedEmail"))


def test_a_recreated_user_does_not_inherit_the_old_one_s_grant(aws: Aws) -> None:
    owner, delegate, _ = aws.delegation()
    arn = owner.verify("example.org")
    user, _ = delegate.make_user("mailer")
    _share(owner, "example.org", allow("ses:SendEmail", arn, principal={"AWS": user}))
    iam = delegate.client("iam")
    for key in iam.list_access_keys(UserName="mailer")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="mailer", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="mailer")

    _, keys = delegate.make_user("mailer", policy=allow("ses:*", "*"))

    mail = simple("news@example.org", FromEmailAddressIdentityArn=arn)
    assert refusal(lambda: delegate.client("sesv2", keys=keys).send_email(**mail))[0] == "AccessDeniedException"
