"""A difference is one of meaning, and says which way it goes."""

import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policies.changes import Change, Effect, in_blocks, verdict
from broker.policies.context import Send
from broker.policies.diff import diff
from broker.policies.diff_policies import diff_policies
from broker.policies.evaluate import Decision, evaluate
from broker.policies.patterns import within
from broker.policies.terms import Action, FeedbackKind, FeedbackTerms, Limits, Terms, View
from broker.policies.wildcards import matches
from tests.policies.examples import (
    DELEGATE,
    END,
    IDENTITY,
    NOW,
    PATTERNS,
    STRANGER,
    USER,
    Json,
    compiled,
    conditional,
    good_terms,
    policy,
    sends,
    terms,
)

FULL = Terms(
    principals=(DELEGATE, USER),
    actions=(Action.send, Action.send_bulk),
    from_addresses=("newsletter@example.com",),
    from_display_names=("Example News",),
    feedback_addresses=("bounces@example.com",),
    recipients=("*@example.org", "*@example.net"),
    source_ips=("203.0.113.0/24",),
    require_tls_to_ses=True,
    not_before=NOW,
    expires_at=END,
    feedback=FeedbackTerms(owner_events=(), delegate_events=(FeedbackKind.rendering_failure,), owner_view=View.none),
    limits=Limits(bounce_rate=0.05, sends_per_day=1000),
    accept_unlimited_bulk=True,
)


def allowed(text: str, send: Send) -> bool:
    return evaluate([text], send, identity_arn=IDENTITY).decision is Decision.allow


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Terms, Terms]:
    """Terms, and terms that differ from them in a field or two."""
    one, other = draw(good_terms()), draw(good_terms())
    fields = draw(st.lists(st.sampled_from([*POLICY_FIELDS]), min_size=1, max_size=2, unique=True))
    changed = {field: getattr(other, field) for field in fields}
    return one, msgspec.structs.replace(one, **changed, accept_unlimited_bulk=True)


POLICY_FIELDS = (
    "principals",
    "actions",
    "from_addresses",
    "from_display_names",
    "feedback_addresses",
    "recipients",
    "source_ips",
    "require_tls_to_ses",
    "not_before",
    "expires_at",
)


@given(good_terms())
def test_nothing_is_different_from_itself(agreed: Terms) -> None:
    text = compiled(agreed)

    assert ([], []) == (diff(agreed, agreed), diff_policies([text], [text]))


@given(neighbours(), sends())
@settings(max_examples=400)
def test_what_is_said_to_widen_or_narrow_does(two: tuple[Terms, Terms], send: Send) -> None:
    """`widens` alone takes no send away, `narrows` alone adds none, and without either all is as it was."""
    old, new = two
    texts = compiled(old), compiled(new)
    before, after = (allowed(text, send) for text in texts)

    for effect in (verdict(diff(old, new)), of_policies(*texts)):
        if effect is Effect.widens:
            assert after or not before
        if effect is Effect.narrows:
            assert before or not after
        if effect is Effect.neither:
            assert before == after


@given(neighbours())
def test_the_way_back_is_the_opposite(two: tuple[Terms, Terms]) -> None:
    old, new = two

    assert verdict(diff(old, new)) is verdict(diff(new, old)).opposite
    assert of_policies(compiled(old), compiled(new)) is of_policies(compiled(new), compiled(old)).opposite


def of_policies(old: str, new: str) -> Effect:
    return verdict(Change(each.text, each.effect) for each in diff_policies([old], [new]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"principals": (f"arn:aws:iam::{DELEGATE}:root", USER)}, []),
        ({"principals": (DELEGATE,)}, []),
        ({"principals": (USER,)}, [f"drops 1 principal: {DELEGATE}"]),
        ({"actions": (Action.send_bulk, Action.send)}, []),
        ({"actions": (Action.send,)}, ["drops 1 action: send_bulk"]),
        (
            {"from_addresses": ("newsletter@example.com", "a@example.com", "b@example.com")},
            ["adds 2 senders: a@example.com and b@example.com"],
        ),
        ({"from_addresses": ()}, ["drops the From limit"]),
        ({"source_ips": ()}, ["drops the IP limit"]),
        ({"require_tls_to_ses": False}, ["no longer requires TLS to SES"]),
        ({"not_before": None}, ["begins at once"]),
        ({"not_before": NOW + timedelta(hours=36)}, ["begins 1 day 12 hours later"]),
        ({"expires_at": END - timedelta(days=30)}, ["ends 30 days earlier"]),
        ({"expires_at": END + timedelta(minutes=1, seconds=1)}, ["ends 1 minute 1 second later"]),
        (
            {"limits": Limits(bounce_rate=0.02)},
            ["sets the limit on bounce rate to 0.02", "drops the limit on sends per day"],
        ),
        ({"accept_unlimited_bulk": False}, ["no longer accepts bulk sends that address limits do not reach"]),
        (
            {
                "feedback": FeedbackTerms(
                    delegate_events=(FeedbackKind.rendering_failure,), retention_days=90, purpose="x"
                )
            },
            [
                "the owner hears bounce, complaint and delivery instead of nothing",
                "the owner sees recipients as hashes instead of not at all",
                "keeps feedback 90 days instead of 30",
                'changes the purpose from "" to "x"',
            ],
        ),
    ],
)
def test_changes_are_named_in_few_words(change: dict[str, object], expected: list[str]) -> None:
    assert expected == [each.text for each in diff(FULL, msgspec.structs.replace(FULL, **change))]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"from_addresses": ("*@example.com",)}, {"from_addresses": ("a@example.com", "*@example.com")}, []),
        (
            {"from_addresses": ("*@example.com", "x@mail.example.com")},
            {"from_addresses": ("a@example.com", "x@mail.example.com")},
            [("narrows 1 sender: *@example.com to a@example.com", Effect.narrows)],
        ),
        (
            {"from_addresses": ("a@example.com", "b@example.com")},
            {"from_addresses": ("?@example.com",)},
            [("widens 2 senders: a@example.com and b@example.com to ?@example.com", Effect.widens)],
        ),
        ({"principals": (DELEGATE, USER)}, {"principals": (DELEGATE,)}, []),
        (
            {"principals": (USER,)},
            {"principals": (DELEGATE,)},
            [(f"widens 1 principal: {USER} to {DELEGATE}", Effect.widens)],
        ),
        ({"source_ips": ("203.0.113.0/24",)}, {"source_ips": ("203.0.113.0/25", "203.0.113.128/25")}, []),
        (
            {"source_ips": ("203.0.113.0/24",)},
            {"source_ips": ("203.0.113.7", "2001:db8::/32")},
            [
                ("narrows 1 IP block: 203.0.113.0/24 to 203.0.113.7", Effect.narrows),
                ("adds 1 IP block: 2001:db8::/32", Effect.widens),
            ],
        ),
        ({"expires_at": END}, {"expires_at": END + timedelta(milliseconds=9)}, []),
        ({"not_before": NOW}, {"not_before": NOW - timedelta(hours=1)}, [("begins 1 hour earlier", Effect.widens)]),
        ({}, {"expires_at": END - timedelta(days=1, seconds=2)}, [("ends 1 day earlier", Effect.narrows)]),
        ({"limits": Limits(bounce_rate=0.05)}, {"limits": Limits()}, []),
        (
            {},
            {"limits": Limits(minimum_sends=100)},
            [("sets the limit on sends that rates are taken of to 100", Effect.narrows)],
        ),
        ({}, {"require_tls_to_ses": True}, [("requires TLS to SES", Effect.narrows)]),
    ],
)
def test_meaning_counts_and_not_the_letter(
    old: dict[str, object], new: dict[str, object], expected: list[tuple[str, Effect]]
) -> None:
    before, after = (msgspec.structs.replace(terms(), **changes) for changes in (old, new))

    assert expected == [(each.text, each.effect) for each in diff(before, after)]


def test_order_is_no_change() -> None:
    one = msgspec.structs.replace(
        terms(), feedback=FeedbackTerms(owner_events=(FeedbackKind.bounce, FeedbackKind.open))
    )
    other = msgspec.structs.replace(
        terms(), feedback=FeedbackTerms(owner_events=(FeedbackKind.open, FeedbackKind.bounce))
    )

    assert diff(one, other) == []


def test_a_new_limit_narrows() -> None:
    narrowed = msgspec.structs.replace(terms(), source_ips=("203.0.113.0/24", "2001:db8::/32"), not_before=NOW)

    assert diff(terms(), narrowed) == [
        Change("limits the IP to 203.0.113.0/24 or 2001:db8::/32", Effect.narrows),
        Change("begins only on 1 Mar 2026 12:00 UTC", Effect.narrows),
    ]


def test_what_goes_both_ways_alters() -> None:
    changed = msgspec.structs.replace(FULL, source_ips=(), expires_at=END - timedelta(days=1))

    assert Effect.alters is verdict(diff(FULL, changed))
    assert Effect.neither is verdict(diff(FULL, msgspec.structs.replace(FULL, limits=FULL.limits)))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # Another way to write the same (IAM User Guide, reference_policies_grammar, …_condition_operators).
        (policy(Principal={"AWS": f"arn:aws:iam::{DELEGATE}:root"}), policy(), []),
        (policy(Action=["SES:sendemail"], Id=None), policy(), []),
        (
            conditional({"StringLike": {"ses:FromAddress": "a@example.com"}}),
            conditional({"StringEquals": {"SES:fromaddress": ["a@example.com"]}}),
            [],
        ),
        # A Deny turns the effect round, and so does a negated operator; two of them turn it twice.
        (policy(), policy(Effect="Deny"), [("drops the Allow 0", Effect.narrows), ("adds the Deny 0", Effect.narrows)]),
        (
            policy(Effect="Deny"),
            policy(Effect="Deny", Action=["ses:SendEmail", "ses:SendRawEmail"]),
            [("adds 1 action: ses:sendrawemail", Effect.narrows)],
        ),
        (
            conditional({"StringNotLike": {"ses:FromAddress": "ceo@*"}}),
            conditional({"StringNotLike": {"ses:FromAddress": ["ceo@*", "cfo@*"]}}),
            [("adds 1 sender: cfo@*", Effect.narrows)],
        ),
        (
            conditional({"StringNotLike": {"ses:FromAddress": "ceo@*"}}, effect="Deny"),
            conditional({"StringNotLike": {"ses:FromAddress": ["ceo@*", "cfo@*"]}}, effect="Deny"),
            [("adds 1 sender: cfo@*", Effect.widens)],
        ),
        (
            policy(Action=None, NotAction="ses:SendEmail"),
            policy(Action=None, NotAction=["ses:SendEmail", "ses:SendBounce"]),
            [("adds 1 action: ses:sendbounce", Effect.narrows)],
        ),
        (
            policy(Action="ses:SendEmail"),
            policy(Action="ses:Send*"),
            [("widens 1 action: ses:sendemail to ses:send*", Effect.widens)],
        ),
        (
            conditional({"DateLessThan": {"aws:CurrentTime": "2026-06-30T00:00:00Z"}}),
            conditional({"DateLessThan": {"aws:CurrentTime": "2026-05-31T02:00:00+02:00"}}),
            [("ends 30 days earlier", Effect.narrows)],
        ),
        (
            conditional({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}),
            policy(),
            [("drops the condition IpAddress aws:SourceIp 203.0.113.0/24", Effect.widens)],
        ),
        (
            policy(Sid="a", Principal={"AWS": STRANGER}),
            policy(Sid="a", Principal={"AWS": DELEGATE}),
            [(f"adds 1 principal: {DELEGATE}", Effect.widens), (f"drops 1 principal: {STRANGER}", Effect.narrows)],
        ),
    ],
)
def test_policies_are_compared_by_what_they_mean(old: str, new: str, expected: list[tuple[str, Effect]]) -> None:
    assert expected == [(each.text, each.effect) for each in diff_policies([old], [new])]


def test_statements_may_move_between_policies() -> None:
    one, other = (json.loads(policy(Sid=sid, Action=action))["Statement"] for sid, action in SPLIT)
    together = {"Version": "2012-10-17", "Statement": [*one, *other]}
    apart: list[dict[str, Json]] = [{"Version": "2012-10-17", "Statement": each} for each in (other, one)]

    assert [] == diff_policies([together], apart)


SPLIT = (("a", "ses:SendEmail"), ("b", "ses:SendRawEmail"))


@given(
    st.sampled_from(PATTERNS), st.text("ab@.*?", max_size=6), st.text("ab@.*?", max_size=6), st.text("ab@.", max_size=6)
)
@settings(max_examples=500)
def test_a_pattern_within_another_matches_no_more(some: str, inner: str, outer: str, text: str) -> None:
    assert within(some, some)
    assert within(inner, inner)
    assert within(inner, "*")
    if within(inner, outer) and matches(inner, text, None):
        assert matches(outer, text, None)


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("*?", "?*", True),
        ("?*", "*", True),
        ("*", "?*", False),
        ("a*c", "a*", True),
        ("a*", "a*c", False),
        ("**", "*", True),
        ("*@example.com", "*example.com", True),
        ("*example.com", "*@example.com", False),
        ("??", "?", False),
        ("*a*b*", "*b*", True),
    ],
)
def test_patterns_within_patterns(inner: str, outer: str, *, expected: bool) -> None:
    assert expected is within(inner, outer)


def test_blocks_together_may_cover_a_block() -> None:
    assert in_blocks("203.0.113.0/24", ["203.0.113.0/25", "203.0.113.128/25"])
    assert not in_blocks("203.0.113.0/24", ["203.0.113.0/25", "::/0"])
