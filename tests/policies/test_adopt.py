"""Foreign policies become terms that mean the same, or are refused with the reason."""

import json
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.policies.adopt import adopt
from broker.policies.context import Send
from broker.policies.evaluate import Decision, evaluate
from broker.policies.terms import Action, Terms
from tests.own_time import own_time
from tests.policies.examples import (
    ADDRESSES,
    DELEGATE,
    END,
    IDENTITY,
    NOW,
    ROLE,
    STRANGER,
    USER,
    Json,
    compiled,
    conditional,
    good_terms,
    policy,
    sends,
)

LATER = NOW + timedelta(days=365)
UNTIL: dict[str, Json] = {"DateLessThan": {"aws:CurrentTime": "2026-03-31T12:00:00Z"}}


def several(*changes: dict[str, Json]) -> str:
    """A document of several statements, each with elements replaced."""
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [json.loads(policy(**each))["Statement"][0] for each in changes]}
    )


def terms_of(document: str, expires_at: datetime | None = None) -> Terms:
    """The terms; the reasons where there are none."""
    found = adopt(document, identity_arn=IDENTITY, now=NOW, expires_at=expires_at)
    assert found.terms is not None, found.reasons
    return found.terms


def test_the_usual_policy_becomes_terms() -> None:
    """The first example of the SES Developer Guide's sending-authorization-policy-examples, with an end."""
    document = policy(
        Sid="AuthorizeAccount",
        Principal={"AWS": [f"arn:aws:iam::{DELEGATE}:root"]},
        Action=["ses:SendEmail", "SES:sendrawemail"],
        Condition={**UNTIL, "StringLike": {"ses:FromAddress": "marketing+*@example.com"}},
    )

    expected = Terms(
        principals=(f"arn:aws:iam::{DELEGATE}:root",),
        actions=(Action.send, Action.send_raw),
        from_addresses=("marketing+*@example.com",),
        expires_at=END,
    )
    assert expected == terms_of(document)


def test_a_policy_without_end_needs_one_and_is_narrowed_by_it() -> None:
    without = adopt(policy(), identity_arn=IDENTITY, now=NOW)
    given_one = adopt(policy(), identity_arn=IDENTITY, now=NOW, expires_at=LATER)

    assert (None, 1) == (without.terms, len(without.reasons))
    assert "expires_at" in without.reasons[0]
    assert given_one.terms is not None
    assert LATER == given_one.terms.expires_at
    assert ("The policy has no end; the grant ends on 1 Mar 2027 12:00 UTC.",) == given_one.narrows


def test_an_end_can_come_earlier_and_not_later() -> None:
    document = conditional(UNTIL)
    earlier = adopt(document, identity_arn=IDENTITY, now=NOW, expires_at=END - timedelta(days=1))
    later = adopt(document, identity_arn=IDENTITY, now=NOW, expires_at=LATER)

    assert earlier.terms is not None
    assert 1 == len(earlier.narrows)
    assert ("The policy ends on 31 Mar 2026 12:00 UTC; a grant of the same meaning cannot end later.",) == later.reasons


def test_the_recipients_guard_is_added_and_told() -> None:
    found = adopt(
        conditional({**UNTIL, "ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}}),
        identity_arn=IDENTITY,
        now=NOW,
    )

    assert found.terms is not None
    assert ("*@example.org",) == found.terms.recipients
    assert ["without any recipient" in each for each in found.narrows] == [True]


@pytest.mark.parametrize(
    ("document", "principals", "actions"),
    [
        pytest.param(
            several(
                {"Action": "ses:SendEmail", "Condition": UNTIL}, {"Action": "ses:SendRawEmail", "Condition": UNTIL}
            ),
            (DELEGATE,),
            (Action.send, Action.send_raw),
            id="one_statement_for_each_action",
        ),
        pytest.param(
            several({"Condition": UNTIL}, {"Principal": {"AWS": STRANGER}, "Condition": UNTIL}),
            (DELEGATE, STRANGER),
            (Action.send,),
            id="one_statement_for_each_account",
        ),
        pytest.param(
            policy(
                Action=["ses:SendEmail", "ses:SendBulkEmail"],
                Condition={**UNTIL, "StringEquals": {"ses:FromAddress": "a@example.com"}},
            ),
            (DELEGATE,),
            (Action.send,),
            id="bulk_that_never_matches",
        ),
        pytest.param(
            policy(Action=["ses:SendBulkEmail", "ses:SendBulkTemplatedEmail"], Condition=UNTIL),
            (DELEGATE,),
            (Action.send_bulk,),
            id="bulk_without_address_limits",
        ),
        pytest.param(
            policy(Resource=[IDENTITY, "arn:aws:ses:eu-west-1:111111111111:identity/*"], Condition=UNTIL),
            (DELEGATE,),
            (Action.send,),
            id="resource_with_wildcard",
        ),
        pytest.param(policy(Version="2008-10-17", Condition=UNTIL), (DELEGATE,), (Action.send,), id="language_of_2008"),
    ],
)
def test_other_ways_of_writing_are_read(
    document: str, principals: tuple[str, ...], actions: tuple[Action, ...]
) -> None:
    found = terms_of(document)

    assert (principals, actions) == (found.principals, found.actions)


@pytest.mark.parametrize(
    ("condition", "field", "expected"),
    [
        ({"ForAnyValue:StringLike": {"ses:FromAddress": "a*@example.com"}}, "from_addresses", ("a*@example.com",)),
        (
            {"StringEquals": {"SES:fromaddress": "a@example.com"}, "Null": {"ses:FromAddress": False}},
            "from_addresses",
            ("a@example.com",),
        ),
        ({"IpAddress": {"aws:SourceIp": ["203.0.113.9/24", "203.0.113.0/24"]}}, "source_ips", ("203.0.113.0/24",)),
        ({"IpAddress": {"aws:SourceIp": "::ffff:203.0.113.7"}}, "source_ips", ("203.0.113.7/32",)),
        ({"Bool": {"aws:SecureTransport": True}}, "require_tls_to_ses", True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-03-01T12:00:00Z"}}, "not_before", NOW + timedelta(seconds=1)),
        ({"DateLessThanEquals": {"aws:CurrentTime": "2026-03-30T12:00:00Z"}}, "expires_at", END - timedelta(days=1)),
        (
            {"DateGreaterThanEquals": {"aws:CurrentTime": ["2026-03-05T00:00:00+01:00", "2026-03-06"]}},
            "not_before",
            datetime.fromisoformat("2026-03-04T23:00:00Z"),
        ),
    ],
)
def test_each_condition_has_its_term(condition: dict[str, Json], field: str, expected: object) -> None:
    found = terms_of(conditional({**UNTIL, **condition}))

    assert expected == getattr(found, field)


REFUSED: list[tuple[str, str]] = [
    (policy(Effect="Deny"), "is a Deny"),
    (several({}, {"Effect": "Deny", "Principal": "*"}), "Statement 1 is a Deny"),
    (policy(Principal=None, NotPrincipal={"AWS": STRANGER}), "NotPrincipal"),
    (policy(Action=None, NotAction="ses:SendBounce"), "NotAction"),
    (policy(Resource=None, NotResource="arn:aws:ses:eu-west-1:111111111111:identity/x.example"), "NotResource"),
    (policy(Principal="*"), "lets anybody send"),
    (policy(Principal={"AWS": ["*", DELEGATE]}), "lets anybody send"),
    (policy(Principal={"Service": "cognito-idp.amazonaws.com"}), "service principal cognito-idp.amazonaws.com"),
    (policy(Principal={"AWS": "AIDAJQABLZS4A3QDU576Q"}), "deleted"),
    (policy(Principal={"AWS": f"arn:aws:sts::{DELEGATE}:assumed-role/sender/one"}), "single session"),
    (policy(Principal={"AWS": "arn:aws-cn:iam::222222222222:user/ann"}), "partition"),
    (policy(Principal={"AWS": "nobody"}), "no account, user or role"),
    (policy(Action="ses:Send*"), "SendBounce"),
    (policy(Action="ses:*"), "stands for more"),
    (policy(Action=["ses:SendEmail", "ses:DeleteEmailIdentity"]), "none of the ways of sending"),
    (policy(Action="ses:SendBulkTemplatedEmail"), "send_bulk"),
    (policy(Resource="arn:aws:ses:eu-west-1:111111111111:identity/other.example"), "another resource"),
    (policy(Resource="arn:aws:ses:eu-west-1:${aws:PrincipalAccount}:identity/*"), "policy variable"),
    (conditional({"StringLike": {"ses:FromAddress": "${aws:username}@example.com"}}), "policy variable"),
    (conditional({"StringNotLike": {"ses:FromAddress": "ceo@example.com"}}), "not what is excluded"),
    (conditional({"StringEqualsIgnoreCase": {"ses:FromAddress": "a@example.com"}}), "upper and lower case"),
    (conditional({"StringEquals": {"ses:FromAddress": "*@example.com"}}), "ordinary characters"),
    (conditional({"StringLikeIfExists": {"ses:FromAddress": "a@example.com"}}), "without the key"),
    (conditional({"ForAllValues:StringLike": {"ses:FromAddress": "a@example.com"}}), "without the key"),
    (conditional({"ForAnyValue:StringLike": {"ses:Recipients": "*@example.org"}}), "one fitting recipient"),
    (conditional({"StringLike": {"ses:Recipients": "*@example.org"}}), "one fitting recipient"),
    (conditional({"StringLike": {"ses:FromAddress": "a@elsewhere.example"}}), "elsewhere.example is neither"),
    (conditional({"StringLike": {"ses:FromAddress": []}}), "nothing satisfies"),
    (conditional({"Null": {"ses:FromAddress": "false"}}), "whether a key is there"),
    (conditional({"Null": {"ses:FeedbackAddress": "true"}}), "whether a key is there"),
    (conditional({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}), "a key that terms have not"),
    (conditional({"StringEquals": {"ses:ApiVersion": "2"}}), "a key that terms have not"),
    (conditional({"NumericLessThan": {"aws:EpochTime": "1774958400"}}), "a key that terms have not"),
    (conditional({"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}), "CIDR"),
    (conditional({"IpAddress": {"aws:SourceIp": "somewhere"}}), "CIDR"),
    (conditional({"Bool": {"aws:SecureTransport": "false"}}), "require TLS"),
    (conditional({"DateEquals": {"aws:CurrentTime": "2026-03-31T12:00:00Z"}}), "one beginning and one end"),
    (conditional({"DateLessThan": {"aws:CurrentTime": "soon"}}), "one beginning and one end"),
    (conditional({"DateLessThan": {"aws:CurrentTime": "2025-01-01T00:00:00Z"}}), "passed already"),
    (
        conditional({"StringLike": {"ses:FromAddress": "a*"}, "StringEquals": {"ses:FromAddress": "a@example.com"}}),
        "2 conditions on ses:FromAddress",
    ),
    (several({}, {"Action": "ses:SendRawEmail", "Condition": UNTIL}), "different limits"),
    (several({"Condition": UNTIL}, {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}), "different limits"),
    (several({}, {"Principal": {"AWS": STRANGER}, "Action": "ses:SendRawEmail"}), "other actions than others"),
    (
        policy(
            Action=["ses:SendBulkEmail", "ses:SendBulkTemplatedEmail"],
            Condition={"StringEquals": {"ses:FromAddress": "a@example.com"}},
        ),
        "never hold there",
    ),
    (
        policy(Action="ses:SendBulkEmail", Condition={"StringEquals": {"ses:FromAddress": "a@example.com"}}),
        "permits nothing",
    ),
    ("{}", "no statement"),
    ("not json", "not JSON"),
]


@pytest.mark.parametrize(("document", "reason"), REFUSED)
def test_what_terms_cannot_say_is_refused_with_the_reason(document: str, reason: str) -> None:
    """Each is wrong by itself: an end is given, so that its absence is not the reason."""
    ends = None if "aws:CurrentTime" in document else LATER

    found = adopt(document, identity_arn=IDENTITY, now=NOW, expires_at=ends)

    assert found.terms is None
    assert any(reason in each for each in found.reasons), found.reasons


def test_every_reason_is_given_at_once() -> None:
    found = adopt(
        policy(Principal="*", Action="ses:Send*", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}}),
        identity_arn=IDENTITY,
        now=NOW,
    )

    assert 3 == len(found.reasons)


def test_a_hostile_document_is_answered_soon() -> None:
    """As many principals and actions as are read at all, each beside each."""
    people: list[Json] = [f"{number:012d}" for number in range(480)]
    names: list[Json] = ["ses:SendEmail"] * 400
    document = policy(Principal={"AWS": people}, Action=names)

    found, spent = own_time(lambda: adopt(document, identity_arn=IDENTITY, now=NOW, expires_at=LATER))

    assert (None, True) == (found.terms, "at most 100" in found.reasons[0])
    assert spent < 1


def test_a_time_without_offset_is_refused() -> None:
    found = adopt(policy(), identity_arn=IDENTITY, now=NOW, expires_at=LATER.replace(tzinfo=None))

    assert ("expires_at has no offset; write it like 2030-01-31T12:00:00Z.",) == found.reasons


@settings(max_examples=300)
@given(good_terms())
def test_our_own_policies_give_their_terms_back(agreed: Terms) -> None:
    """Compiling and adopting is the identity, but for what no policy shows."""
    found = adopt(compiled(agreed), identity_arn=IDENTITY, now=NOW)

    bulk = Action.send_bulk in agreed.actions and agreed.limits_addresses
    actions = tuple(each for each in Action if each in agreed.actions)
    assert msgspec.structs.replace(agreed, actions=actions, accept_unlimited_bulk=bulk) == found.terms
    assert () == found.narrows


LIMITS: list[dict[str, Json]] = [
    {"StringLike": {"ses:FromAddress": ["news*@example.com", "billing@example.com"]}},
    {"StringEquals": {"ses:FromAddress": "a@example.com"}},
    {"StringLike": {"ses:FromDisplayName": "Example*"}},
    {"ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}},
    {"ForAllValues:StringEquals": {"ses:Recipients": "ann@example.org"}, "Null": {"ses:Recipients": "false"}},
    {"ForAnyValue:StringEquals": {"ses:FeedbackAddress": ADDRESSES[0]}},
    {"StringEqualsIfExists": {"ses:FeedbackAddress": ADDRESSES[0]}},
    {"StringNotLike": {"ses:FromAddress": "a@*"}},
    {"IpAddress": {"aws:SourceIp": ["203.0.113.9/24", "2001:db8::/32"]}},
    {"Bool": {"aws:SecureTransport": "true"}},
    {"DateGreaterThan": {"aws:CurrentTime": "2026-03-04T12:00:00Z"}},
    {"DateLessThan": {"aws:CurrentTime": ["2026-03-20", "2026-03-30T12:00:00Z"]}},
    {"DateLessThanEquals": {"aws:CurrentTime": "2026-03-25T12:00:00.5Z"}},
]
NAMES: list[Json] = [
    "ses:SendEmail",
    "SES:SendRawEmail",
    "ses:SendTemplatedEmail",
    "ses:SendBulkEmail",
    "ses:SendBulkTemplatedEmail",
]


@st.composite
def foreign(draw: st.DrawFn) -> str:
    """Documents of one to three statements, which often have the same limits."""
    people = st.lists(st.sampled_from([DELEGATE, USER, ROLE, STRANGER, f"arn:aws:iam::{DELEGATE}:root"]), min_size=1)
    names = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
    parts = st.lists(st.sampled_from(LIMITS), max_size=3)
    shared = draw(parts), draw(names), draw(people)
    changes: list[dict[str, Json]] = []
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        limits = shared[0] if draw(st.booleans()) else draw(parts)
        condition: dict[str, Json] = {}
        for each in limits:
            condition |= each
        actions: list[Json] = [*(shared[1] if draw(st.booleans()) else draw(names))]
        principals: list[Json] = [*(shared[2] if draw(st.booleans()) else draw(people))]
        changes.append({"Action": actions, "Principal": {"AWS": principals}, "Condition": condition})
    return several(*changes)


@settings(max_examples=400)
@example(policy(Action=NAMES[:3]), Send(action="ses:SendEmail", caller_account=DELEGATE, time=NOW), LATER)
@given(foreign(), sends(), st.sampled_from([None, LATER, NOW + timedelta(days=10)]))
def test_what_is_adopted_permits_the_same_sends(document: str, send: Send, ends: datetime | None) -> None:
    """The evaluator decides both alike, as long as both are in force and the mail has a recipient."""
    found = adopt(document, identity_arn=IDENTITY, now=NOW, expires_at=ends)
    if found.terms is None:
        assert found.reasons
        return

    before, after = (
        evaluate([each], send, identity_arn=IDENTITY).decision for each in (document, compiled(found.terms))
    )

    assert send.time is not None
    outside = send.time >= found.terms.expires_at or (found.terms.not_before or NOW) > send.time
    if found.narrows and (outside or not send.recipients):
        assert after is Decision.implicit_deny or before is after
    else:
        assert before is after
