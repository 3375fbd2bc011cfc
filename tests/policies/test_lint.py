"""The linter says what SES would refuse, what is dangerous and what is of no use."""

import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policies.context import Send
from broker.policies.diff_policies import diff_policies
from broker.policies.document import DocumentError
from broker.policies.evaluate import Decision, evaluate
from broker.policies.explain_policies import explain_policies
from broker.policies.findings import SEVERITIES, Code, Finding, Severity
from broker.policies.lint import is_bad, lint
from broker.policies.terms import Terms
from broker.policies.validate import refusals
from tests.policies.examples import (
    ADDRESS_IDENTITY,
    DELEGATE,
    IDENTITY,
    NOW,
    OWNER,
    STRANGER,
    Json,
    compiled,
    good_terms,
    policy,
    sends,
    terms,
)

FROM: dict[str, Json] = {"StringEquals": {"ses:FromAddress": "newsletter@example.com"}}
ENDS: dict[str, Json] = {"DateLessThan": {"aws:CurrentTime": "2026-06-01T08:30:00Z"}}
BOTH: Json = ["ses:SendEmail", "ses:SendRawEmail"]


def found(text: str, *, name: str = "agency", identity_arn: str = IDENTITY) -> list[Finding]:
    return lint({name: text}, identity_arn=identity_arn, now=NOW)


def codes(text: str, *, name: str = "agency", identity_arn: str = IDENTITY) -> set[str]:
    return {str(finding.code) for finding in found(text, name=name, identity_arn=identity_arn)}


def good(**changes: Json) -> str:
    """A policy about which there is nothing to say, with elements of it replaced."""
    plain: dict[str, Json] = {"Sid": "agency", "Action": BOTH, "Condition": {**FROM, **ENDS}}
    return policy(**(plain | changes))


def when(condition: dict[str, Json], **changes: Json) -> str:
    """The same policy with more conditions."""
    return good(Condition={**FROM, **ENDS, **condition}, **changes)


def test_a_good_policy_is_not_talked_about() -> None:
    assert found(good()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", {"not_json"}),
        ('{"Version": NaN}', {"not_json"}),
        ("[]", {"malformed"}),
        ("[" * 30_000, {"too_large"}),
        ('{"Version": "2012-10-17"}', {"no_statement"}),
        ('{"Version": "2012-10-17", "Statement": []}', {"no_statement"}),
        ('{"Statement": [], "statement": []}', {"no_statement", "unknown_element"}),
        (good(Effect="allow"), {"effect"}),
        (good(Effect=None, effect="Allow"), {"effect", "unknown_element"}),
        (good(Principal=None), {"missing_element"}),
        (good(NotAction="ses:SendEmail"), {"missing_element"}),
        (good(Condition={"StringLikes": {"ses:FromAddress": "a"}}), {"unknown_operator"}),
        (good(Condition={"ForAnyValues:StringLike": {"ses:FromAddress": "a"}}), {"unknown_operator"}),
        (good(Condition={"StringLike": "ses:FromAddress"}), {"malformed"}),
        (good(Principal={"AWS": "12345"}), {"invalid_principal"}),
        (good(Principal={"AWS": "arn:aws-cn:iam::222222222222:root"}), {"invalid_principal"}),
        (good(Principal={"AWS": f"arn:aws:iam::{DELEGATE}:user/*"}), {"invalid_principal"}),
        (good(Principal={"AWS": []}), {"invalid_principal"}),
        (good(Principal={"Federated": "example.org"}), {"invalid_principal"}),
        (good(Action=["ses:SendEmail", "ses:SendRawEmail", "s3:GetObject"]), {"invalid_action"}),
        (good(Action=[]), {"invalid_action"}),
        (good(Resource="*"), {"resource"}),
        (good(Resource=[IDENTITY, IDENTITY]), {"resource"}),
        (good(Resource=None, NotResource=IDENTITY), {"resource"}),
        (good(Sid="a b"), {"invalid_sid"}),
        (when({"StringLike": {"ses:Colour": "red"}}), {"unknown_key"}),
        (when({"Bool": {"aws:SecureTransprot": "true"}}), {"misspelt_key"}),
        (when({"NumericEquals": {"SES:ApiVersion": "2"}}), {"misspelt_key"}),
        (when({"NumericEquals": {"ses:ApiVersion": []}}), {"no_value"}),
    ],
)
def test_what_ses_refuses_is_an_error(text: str, expected: set[str]) -> None:
    """SES Developer Guide, policy-anatomy, and what its API was seen to refuse."""
    findings = found(text)

    assert expected == {str(each.code) for each in findings if each.severity is Severity.error}
    assert refusals(text, identity_arn=IDENTITY, name="agency")
    assert is_bad(findings)


def test_names_and_numbers_have_limits() -> None:
    """SES Developer Guide, policy-anatomy: 64 characters of letters, digits, dashes, underscores; 20 policies."""
    assert codes(good(), name="a b") == {"policy_name"}
    assert codes(good(), name="a" * 65) == {"policy_name"}
    many = {f"p{number}": good() for number in range(21)}
    assert [each.code for each in lint(many, identity_arn=IDENTITY, now=NOW)] == [Code.too_many_policies]


def test_a_misspelt_word_is_answered_with_the_right_one() -> None:
    fixes = {
        each.code: each.fix
        for text in (
            when({"Bool": {"AWS:SecureTransport": "true"}}),
            good(Condition={"ForAllValue:StringLike": {"ses:Recipients": "a"}}),
            good(Principle={"AWS": DELEGATE}),
        )
        for each in found(text)
        if each.severity is Severity.error
    }

    assert fixes[Code.misspelt_key] == "Did you mean aws:SecureTransport? Write it so."
    assert fixes[Code.unknown_operator] == "Did you mean ForAllValues:StringLike?"
    assert fixes[Code.unknown_element] == "Did you mean Principal?"


def test_json_errors_name_line_and_column() -> None:
    assert "line 2 column 3" in found("{\n  x}")[0].detail


def test_every_fault_of_a_document_is_told_at_once() -> None:
    broken = {"Statement": [{"Effect": "allow", "Principal": "*"}, {"Sid": "b", "Effect": "Deny", "Action": "*"}]}

    told = {(each.code, each.statement) for each in lint({"x": broken}, identity_arn=IDENTITY, now=NOW)}

    assert told == {
        (Code.effect, "0"),
        (Code.missing_element, "0"),
        (Code.missing_element, "b"),
    }


def test_one_sid_names_one_statement() -> None:
    """IAM User Guide, reference_policies_elements_sid."""
    twice = json.loads(good())
    twice["Statement"] *= 2

    assert "duplicate_sid" in codes(json.dumps(twice))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Who (IAM User Guide, reference_policies_elements_principal, …_notprincipal).
        (good(Principal="*"), {"open_principal"}),
        (
            when({"StringEquals": {"aws:PrincipalOrgID": "o-abc"}}, Principal="*"),
            {"principal_by_condition", "no_from_limit", "unproven_key"},
        ),
        (
            when({"StringNotLike": {"aws:SourceArn": "arn:*"}}, Principal="*"),
            {"open_principal", "negated_absent", "unproven_key"},
        ),
        (when({"StringLike": {"aws:PrincipalOrgID": "*"}}, Principal="*"), {"open_principal", "unproven_key"}),
        (good(Principal=None, NotPrincipal={"AWS": STRANGER}), {"not_principal"}),
        (good(Principal={"AWS": "AIDACKCEVSQ6C2EXAMPLE"}), {"deleted_principal"}),
        (good(Principal={"AWS": "AROACKCEVSQ6C2EXAMPLE"}), {"deleted_principal"}),
        (good(Principal={"AWS": f"arn:aws:sts::{DELEGATE}:assumed-role/sender/i-0"}), {"session_principal"}),
        (good(Principal={"Service": "cognito-idp.amazonaws.com"}), {"service_without_source"}),
        (good(Effect="Deny", Principal={"AWS": OWNER}), {"deny_covers_owner"}),
        (good(Effect="Deny", Principal="*"), {"deny_covers_owner"}),
        (good(Effect="Deny", Principal=None, NotPrincipal={"AWS": DELEGATE}), {"deny_covers_owner", "not_principal"}),
        (good(Effect="Deny"), set()),
        # What (SES Developer Guide, control-user-access, identity-authorization-policies; SAR, Amazon SES v2).
        (good(Action="ses:Send*"), {"send_star", "bulk_never_matches"}),
        (good(Action="*"), {"send_star", "bulk_never_matches", "management_action"}),
        (good(Action=None, NotAction="ses:SendBounce"), {"not_action", "bulk_never_matches", "management_action"}),
        (good(Action=["ses:DeleteEmailIdentity"]), {"management_action"}),
        (good(Action=["ses:DeleteEmailIdentity"], Principal={"AWS": OWNER}), set()),
        (good(Action=["ses:SendEmails"]), {"unknown_action"}),
        (good(Action="ses:SendEmail"), {"send_without_raw"}),
        (good(Action="ses:SendRawEmail"), {"raw_only"}),
        (good(Action="ses:SendBulkTemplatedEmail"), {"bulk_without_pair"}),
        (good(Action=["ses:SendBulkEmail", "ses:SendBulkTemplatedEmail"]), {"bulk_never_matches"}),
        (
            good(
                Action=["ses:SendBulkEmail", "ses:SendBulkTemplatedEmail"],
                Condition={**ENDS, "StringNotLike": {"ses:FromAddress": "ceo@*"}},
            ),
            {"bulk_ignores_limit", "negated_absent", "exclusion_by_spelling"},
        ),
        # How (IAM User Guide, reference_policies_elements_condition_operators, …_multi-value-conditions).
        (when({"ForAnyValue:StringLike": {"ses:Recipients": "*@example.org"}}), {"any_value_allow"}),
        (when({"ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}}), {"all_values_without_null"}),
        (
            when({"ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}, "Null": {"ses:Recipients": "false"}}),
            set(),
        ),
        (when({"StringLike": {"ses:Recipients": "*@example.org"}}), {"no_set_operator"}),
        (
            good(Effect="Deny", Condition={"ForAllValues:StringNotLike": {"ses:Recipients": "*@example.org"}}),
            {"all_values_deny", "exclusion_by_spelling"},
        ),
        (
            when({"StringNotEquals": {"ses:FeedbackAddress": "a@example.com"}}),
            {"negated_absent", "exclusion_by_spelling"},
        ),
        (when({"StringEqualsIfExists": {"ses:FeedbackAddress": "a@example.com"}}), {"if_exists"}),
        (when({"StringEquals": {"aws:UserAgent": "x"}}), {"no_from_limit", "caller_controlled"}),
        (when({"Bool": {"aws:SecureTransport": "true"}}), {"tls_to_ses"}),
        (when({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}), {"vpc_endpoint", "ipv4_only"}),
        (when({"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "2001:db8::/32"]}}), {"vpc_endpoint"}),
        (
            when({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::/0"]}}),
            {"vpc_endpoint", "private_ip", "limits_nothing"},
        ),
        (when({"IpAddress": {"aws:SourceIp": "203.0.113.0/33"}}), {"vpc_endpoint", "bad_value"}),
        (when({"NotIpAddress": {"aws:SourceIp": "203.0.113.9"}}), {"vpc_endpoint", "negated_absent"}),
        (when({"Bool": {"aws:SecureTransport": "yes"}}), {"tls_to_ses", "bad_value"}),
        (good(Version="2008-10-17"), {"no_version"}),
        (good(Version="2012"), {"unknown_version"}),
        (
            when({"StringLike": {"ses:FromDisplayName": "${aws:username}*"}}, Version="2008-10-17"),
            {"no_version", "variable_not_read"},
        ),
        # Addresses (SES Developer Guide, policy-anatomy, creating-identities).
        (good(Condition=ENDS), {"no_from_limit"}),
        (good(Condition={**ENDS, "StringLike": {"ses:FromAddress": "*"}}), {"no_from_limit"}),
        (
            good(Condition={**ENDS, "StringLike": {"ses:FromAddress": "*example.com"}}),
            {"no_from_limit", "loose_domain"},
        ),
        (good(Condition={**ENDS, "StringLike": {"ses:FromAddress": "*@example.com"}}), {"any_local_part"}),
        (good(Condition={**ENDS, "StringEquals": {"ses:FromAddress": "*@mail.example.com"}}), {"wildcard_not_read"}),
        (good(Condition={**ENDS, "StringEquals": {"ses:FromAddress": "*@example.com"}}), {"wildcard_not_read"}),
        (good(Condition={**ENDS, "StringEquals": {"ses:FromAddress": "a@example.net"}}), {"from_outside_identity"}),
        (good(Condition={**ENDS, "StringEquals": {"ses:FromAddress": "News@example.com"}}), {"address_case"}),
        (when({"StringLike": {"ses:FromDisplayName": "Marketing"}}), {"exact_match"}),
        (when({"StringLike": {"ses:FromDisplayName": "*Marketing*"}}), set()),
        (when({"StringLike": {"ses:FeedbackAddress": "*@example.*"}}), {"loose_domain"}),
        (when({"StringLike": {"ses:FeedbackAddress": "bounce(s|d)@example.com"}}), {"regex_pattern"}),
        (when({"StringLike": {"ses:FeedbackAddress": "bounces+x.y@example.com"}}), set()),
        # Reach.
        (good(Condition=FROM), {"no_end_date"}),
        (good(Condition={**FROM, "DateGreaterThan": {"aws:CurrentTime": "2026-04-01T00:00:00Z"}}), {"no_end_date"}),
        (good(Condition={**FROM, "DateLessThan": {"aws:CurrentTime": "2026-02-01T08:30:00Z"}}), {"ended"}),
        (good(Condition={**FROM, "NumericLessThan": {"aws:EpochTime": "1780000000"}}), set()),
        (good(Condition={**FROM, "DateLessThan": {"aws:EpochTime": "1380000000"}}), {"ended"}),
        (good(Condition={**FROM, "DateLessThan": {"aws:CurrentTime": "2026-06-01"}}), {"ends_before_the_day"}),
        (when({"DateGreaterThan": {"aws:CurrentTime": "2026-07-01T08:30:00Z"}}), {"never_matches"}),
        (when({"StringLike": {"ses:FromAddress": "billing@*.com"}}), {"never_matches"}),
        (
            when({"StringNotEquals": {"ses:FromAddress": "newsletter@example.com"}}),
            {"never_matches", "negated_absent", "exclusion_by_spelling"},
        ),
        (when({"Null": {"ses:FromAddress": "true"}}), {"never_matches"}),
        (
            when(
                {
                    "IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "::1"]},
                    "NotIpAddress": {"aws:SourceIp": ["203.0.0.0/16", "::/8"]},
                }
            ),
            {"never_matches", "vpc_endpoint", "negated_absent"},
        ),
    ],
)
def test_what_is_dangerous_or_useless_has_a_code(text: str, expected: set[str]) -> None:
    assert expected == codes(text)


def test_a_deny_that_takes_all_of_an_allow_is_told() -> None:
    documents = {
        "a": good(Principal={"AWS": f"arn:aws:iam::{DELEGATE}:user/ann"}),
        "b": policy(Effect="Deny", Action="*"),
    }

    findings = lint(documents, identity_arn=IDENTITY, now=NOW)

    assert [(Code.denied_anyway, "a", "agency")] == [(each.code, each.policy, each.statement) for each in findings]


def test_pairs_are_looked_for_in_all_policies() -> None:
    documents = {"a": good(Action="ses:SendEmail"), "b": good(Action="ses:SendRawEmail")}

    assert lint(documents, identity_arn=IDENTITY, now=NOW) == []


def test_an_address_identity_is_explained_with_both_readings() -> None:
    """sending-authorization-identity-owner-tasks-policy says that it outranks its domain; a field test says not."""
    text = json.dumps(json.loads(good(Condition=ENDS)) | {}).replace(IDENTITY, ADDRESS_IDENTITY)
    allow, deny = (found(each, identity_arn=ADDRESS_IDENTITY) for each in (text, text.replace("Allow", "Deny")))

    assert ([Code.address_identity], [Code.deny_on_address]) == (
        [each.code for each in allow],
        [each.code for each in deny],
    )
    assert all("page" in each.detail and "tested" in each.detail for each in (*allow, *deny))


def test_the_worst_comes_first_and_says_where() -> None:
    findings = found(
        good(
            Principal="*",
            Action="ses:SendEmail",
            Condition=FROM | {"StringLike": {"ses:Colour": "red"}},
            Version="2012",
        )
    )

    assert findings[0].severity is Severity.error
    assert ("agency", "agency", "StringLike ses:Colour") == (
        findings[0].policy,
        findings[0].statement,
        findings[0].condition,
    )


def test_every_code_has_a_severity() -> None:
    assert set(Code) == set(SEVERITIES)
    assert [
        SEVERITIES[code] for code in (Code.no_value, Code.bad_value, Code.unknown_version, Code.no_version)
    ] == list(Severity)


@given(good_terms())
def test_what_we_compile_has_no_errors_and_no_dangers_but_an_open_from(agreed: Terms) -> None:
    bad = {each.code for each in found(compiled(agreed)) if each.severity in (Severity.error, Severity.danger)}

    assert bad <= {Code.no_from_limit}


def test_a_hostile_document_is_answered_soon() -> None:
    """Measured in work and not in time: what is too long is not read, and statements are not all compared."""
    many = json.dumps({"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}] * 4000})
    wild = good(Condition={"StringLike": {"ses:FromAddress": ["*a" * 1700]}})
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}

    middle = good(Condition={"IpAddress": {"aws:SourceIp": ["203.0.113.7"] * 400}})

    assert [each.code for each in found(many)] == [each.code for each in found(middle)] == [Code.too_large]
    with pytest.raises(DocumentError, match="4096 bytes"):
        explain_policies([middle], identity_arn=IDENTITY, now=NOW)
    assert [Code.too_large] == [each.code for each in found(json.dumps(json.loads(good()), indent=200))]
    assert {"no_end_date"} == codes(wild)
    assert lint({"x": deep}, identity_arn=IDENTITY, now=NOW)[0].severity is Severity.error


def test_a_wrong_identity_is_said() -> None:
    with pytest.raises(ValueError, match="is not the ARN"):
        lint({}, identity_arn="example.com", now=NOW)


def test_time_moves_the_findings() -> None:
    text = compiled(terms(from_addresses=("newsletter@example.com",), expires_at=NOW + timedelta(hours=1)))
    later = lint({"a": text}, identity_arn=IDENTITY, now=datetime(2030, 1, 1, tzinfo=UTC))

    assert (set(), [Code.ended]) == (codes(text), [each.code for each in later])


_OPERATORS = [
    "StringLike",
    "StringNotEquals",
    "ForAllValues:StringLike",
    "ForAnyValue:StringNotLike",
    "Null",
    "Bool",
    "IpAddress",
    "NotIpAddress",
    "DateLessThan",
    "DateGreaterThanEquals",
    "NumericLessThan",
    "ArnLike",
    "BinaryEquals",
    "StringEqualsIfExists",
    "DateEquals",
    "nonsense",
]
_KEYS = [
    "ses:FromAddress",
    "ses:Recipients",
    "ses:FromDisplayName",
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:SourceIp",
    "aws:SecureTransport",
    "aws:PrincipalOrgID",
    "SES:fromaddress",
    "x",
]
_VALUES = [
    "*",
    "",
    "a@example.com",
    "*@Example.com",
    "true",
    "false",
    "2026-03-01",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "::/0",
    "${aws:username}",
    "?",
    "1e9",
    "9" * 40,
    7,
    True,
]
_VALUE = st.sampled_from(_VALUES) | st.lists(st.sampled_from(_VALUES), max_size=3)
_PRINCIPALS = ["*", DELEGATE, OWNER, "AIDACKCEVSQ6C2EXAMPLE", "x", f"arn:aws:sts::{DELEGATE}:assumed-role/a/b"]
_ACTIONS = ["*", "ses:*", "ses:Send*", "ses:SendEmail", "ses:SendBulkEmail", "ses:DeleteEmailIdentity", "s3:x", ""]


@st.composite
def strange_documents(draw: st.DrawFn) -> str:
    """Documents that hang together more or less."""
    keys = st.dictionaries(st.sampled_from(_KEYS), _VALUE, max_size=3)
    statement = st.fixed_dictionaries(
        {"Effect": st.sampled_from(["Allow", "Allow", "Deny", "deny"])},
        optional={
            "Sid": st.sampled_from(["a", "b", "c d", ""]),
            "Principal": st.fixed_dictionaries({"AWS": st.lists(st.sampled_from(_PRINCIPALS), max_size=2)})
            | st.just("*"),
            "NotPrincipal": st.just({"AWS": DELEGATE}),
            "Action": st.lists(st.sampled_from(_ACTIONS), max_size=2),
            "Resource": st.sampled_from([IDENTITY, "*"]),
            "Condition": st.dictionaries(st.sampled_from(_OPERATORS), keys, max_size=3),
        },
    )
    statements = draw(st.lists(statement, max_size=3))
    for each in statements:
        for name, usual in (("Principal", "*"), ("Action", "*"), ("Resource", IDENTITY)):
            if draw(st.integers(0, 9)) and f"Not{name}" not in each:
                each.setdefault(name, usual)
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@given(st.lists(strange_documents(), max_size=3))
@settings(max_examples=500)
def test_no_document_is_too_strange(texts: list[str]) -> None:
    """What SES would refuse is an error here and the other way round, and whatever can be read is explained."""
    for text in texts:
        bad = [each for each in found(text) if each.severity is Severity.error]
        assert bool(refusals(text, identity_arn=IDENTITY, name="agency")) == bool(bad)
    findings = lint({f"p{at}": text for at, text in enumerate(texts)}, identity_arn=IDENTITY, now=NOW)
    assert all(each.detail.endswith((".", "?")) and each.fix.endswith((".", "?")) for each in findings), findings
    with contextlib.suppress(DocumentError):
        explain_policies(texts, identity_arn=IDENTITY, now=NOW)
    with contextlib.suppress(DocumentError):
        assert [] == diff_policies(texts, texts)


@given(strange_documents(), sends())
@settings(max_examples=300)
def test_what_is_said_never_to_apply_never_applies(text: str, send: Send) -> None:
    never = [each for each in found(text) if each.code in (Code.never_matches, Code.bulk_never_matches)]
    alone = json.loads(text)["Statement"]

    for each in never:
        statements = [one for at, one in enumerate(alone) if each.statement in (one.get("Sid"), str(at))]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        if len(statements) == 1 and (each.code is Code.never_matches or send.action == "ses:SendBulkEmail"):
            decision = evaluate([document], send, identity_arn=IDENTITY).decision
            assert decision is Decision.implicit_deny
