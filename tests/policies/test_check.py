"""Terms are checked when they are offered, with the field and the reason."""

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policies.check import MAX_ENTRIES, Flaw, check
from broker.policies.compile import MAX_DOCUMENT_BYTES
from broker.policies.terms import Action, FeedbackKind, FeedbackTerms, Limits, Terms
from broker.policies.validate import refusals
from tests.policies.examples import (
    ADDRESS_IDENTITY,
    DELEGATE,
    END,
    IDENTITY,
    NOW,
    ROLE,
    SESSION,
    USER,
    compiled,
    good_terms,
    terms,
)


def flaws(agreed: Terms, identity_arn: str = IDENTITY) -> list[Flaw]:
    return check(agreed, identity_arn=identity_arn, now=NOW)


def pointers(agreed: Terms, identity_arn: str = IDENTITY) -> list[str]:
    return [flaw.pointer for flaw in flaws(agreed, identity_arn)]


@given(good_terms())
def test_good_terms_fit_into_a_policy_that_ses_takes(agreed: Terms) -> None:
    assert flaws(agreed) == []
    text = compiled(agreed)
    assert len(text.encode()) <= MAX_DOCUMENT_BYTES
    assert refusals(text, identity_arn=IDENTITY, name="delegation-broker-0-1") == []


TEXTS = st.text(max_size=40) | st.sampled_from(
    ["${a}@example.com", "*@example.com", "\ud800", "a@b@example.com", "1.2.3.4/33"]
)
MOMENTS = st.datetimes() | st.datetimes(timezones=st.timezones())


@settings(max_examples=300)
@given(
    st.builds(
        Terms,
        principals=st.lists(TEXTS | st.sampled_from([DELEGATE, USER, ROLE])).map(tuple),
        actions=st.lists(st.sampled_from(list(Action))).map(tuple),
        from_addresses=st.lists(TEXTS).map(tuple),
        from_display_names=st.lists(TEXTS).map(tuple),
        feedback_addresses=st.lists(TEXTS).map(tuple),
        recipients=st.lists(TEXTS).map(tuple),
        source_ips=st.lists(TEXTS).map(tuple),
        not_before=st.none() | MOMENTS,
        expires_at=MOMENTS,
        limits=st.builds(Limits, bounce_rate=st.floats(), sends_per_day=st.integers()),
    )
)
def test_any_terms_get_an_answer_and_what_is_accepted_is_storable(agreed: Terms) -> None:
    if not flaws(agreed):
        assert refusals(compiled(agreed), identity_arn=IDENTITY, name="x") == []


def test_lists_that_are_needed_cannot_be_empty() -> None:
    assert pointers(terms(principals=(), actions=())) == ["/principals", "/actions"]


@pytest.mark.parametrize(
    ("principal", "part"),
    [
        ("*", "is not an account id"),
        ("12345", "is not an account id"),
        ("ses.amazonaws.com", "is not an account id"),
        (SESSION, "Name the role"),
        (f"arn:aws-cn:iam::{DELEGATE}:root", "partition aws-cn"),
        ("x" * 5_000, "at most"),
    ],
)
def test_a_bad_principal_is_refused(principal: str, part: str) -> None:
    found = flaws(terms(principals=(USER, principal)))

    assert [flaw.pointer for flaw in found] == ["/principals/1"]
    assert part in found[0].detail


def test_the_same_account_in_two_spellings_is_a_duplicate() -> None:
    assert pointers(terms(principals=(DELEGATE, f"arn:aws:iam::{DELEGATE}:root"))) == ["/principals/1"]


@pytest.mark.parametrize(
    "address",
    [
        "news@example.com",
        "news@EXAMPLE.com",
        "a+b@mail.example.com",
        "*@example.com",
        "n?ws*@x.y.example.com",
        "o'n$il@example.com",
    ],
)
def test_addresses_and_patterns_inside_the_identity_are_taken(address: str) -> None:
    agreed = msgspec.structs.replace(terms(), from_addresses=(address,), feedback_addresses=(address,))

    assert flaws(agreed) == []


@pytest.mark.parametrize(
    "address",
    [
        "news@example.org",
        "news@badexample.com",
        "news@example.com.evil.org",
        "news@com",
        "*",
        "*@*",
        "*@*.example.com",
        "*@?xample.com",
        "*example.com",
        "example.com",
        "@example.com",
        "a@b@example.com",
        "a b@example.com",
        "Ann <ann@example.com>",
        "bücher@example.com",
        "a@.example.com",
        "a@-.example.com",
        "${aws:username}@example.com",
        "a\n@example.com",
        " a@example.com",
        "",
        f"{'a' * 65}@example.com",
        f"a@{'b.' * 200}example.com",
    ],
)
def test_addresses_outside_the_identity_and_what_is_no_address_are_refused(address: str) -> None:
    agreed = msgspec.structs.replace(terms(), from_addresses=(address,), feedback_addresses=(address,))

    assert pointers(agreed) == ["/from_addresses/0", "/feedback_addresses/0"]


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("Ann@example.com", True),
        ("Ann@EXAMPLE.COM", True),
        ("ann@example.com", False),
        ("*@example.com", False),
        ("bob@example.com", False),
        ("Ann@mail.example.com", False),
    ],
)
def test_an_address_identity_is_for_exactly_that_address(address: str, fits: bool) -> None:
    assert (
        flaws(terms(from_addresses=(address,)), ADDRESS_IDENTITY) == []
        if fits
        else pointers(terms(from_addresses=(address,)), ADDRESS_IDENTITY) == ["/from_addresses/0"]
    )


@pytest.mark.parametrize(
    "name", ["", " News", "a\tb", "evil\u202egnp", "zero\u200bwidth", "\ud800", "x" * 257, "${aws:userid}"]
)
def test_display_names_that_cannot_be_read_as_they_look_are_refused(name: str) -> None:
    agreed = msgspec.structs.replace(terms(), from_display_names=("Zoë & Söhne*", name))

    assert pointers(agreed) == ["/from_display_names/1"]


@pytest.mark.parametrize(
    "pattern", ["", "ann", "a b@example.org", "ännchen@example.org", "x" * 321 + "@a.org", "a@b.org "]
)
def test_recipient_patterns_that_match_nothing_are_refused(pattern: str) -> None:
    assert pointers(msgspec.structs.replace(terms(), recipients=("*@example.org", pattern))) == ["/recipients/1"]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("203.0.113.0/33", "is not an IP"),
        ("203.0.113", "is not an IP"),
        ("203.0.113.0/255.255.255.0", "is not an IP"),
        ("fe80::1%eth0", "is not an IP"),
        ("2001:db8::/129", "is not an IP"),
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("everywhere", "is not an IP"),
        ("198.51.100.7/32", "twice"),
    ],
)
def test_malformed_ip_blocks_are_refused(block: str, part: str) -> None:
    found = flaws(msgspec.structs.replace(terms(), source_ips=("198.51.100.7", "2001:db8::/32", block)))

    assert [flaw.pointer for flaw in found] == ["/source_ips/2"]
    assert part in found[0].detail


@pytest.mark.parametrize(
    "field", ["actions", "from_addresses", "from_display_names", "feedback_addresses", "recipients"]
)
def test_an_entry_that_is_there_twice_is_refused(field: str) -> None:
    entry = Action.send if field == "actions" else "a@example.com"

    assert pointers(msgspec.structs.replace(terms(), **{field: (entry, entry)})) == [f"/{field}/1"]


def test_a_list_that_is_far_too_long_is_one_flaw() -> None:
    many = tuple(f"a{number}@example.com" for number in range(MAX_ENTRIES + 1))

    assert pointers(terms(from_addresses=many)) == ["/from_addresses"]


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (None, NOW, ["/expires_at"]),
        (None, NOW + timedelta(milliseconds=900), ["/expires_at"]),
        (None, NOW + timedelta(seconds=1), []),
        (END, END, ["/not_before"]),
        (END + timedelta(days=1), END, ["/not_before"]),
        (END - timedelta(milliseconds=500), END + timedelta(milliseconds=500), ["/not_before"]),
        (NOW - timedelta(days=1), END, []),
        (None, NOW - timedelta(days=1), ["/expires_at"]),
        (None, datetime(2030, 1, 1), ["/expires_at"]),  # noqa: DTZ001 — a naive time is the point
        (datetime(2026, 3, 2), END, ["/not_before"]),  # noqa: DTZ001 — a naive time is the point
        (None, datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))), ["/expires_at"]),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), END, ["/not_before"]),
    ],
)
def test_the_window_has_to_be_open_some_time(begin: datetime | None, end: datetime, expected: list[str]) -> None:
    agreed = msgspec.structs.replace(terms(expires_at=end), not_before=begin)

    assert pointers(agreed) == expected


@pytest.mark.parametrize("field", ["from_addresses", "from_display_names", "feedback_addresses", "recipients"])
def test_bulk_with_an_address_limit_needs_the_owners_word(field: str) -> None:
    agreed = msgspec.structs.replace(terms(actions=(Action.send, Action.send_bulk)), **{field: ("a@example.com",)})

    assert pointers(agreed) == ["/actions/1"]
    assert flaws(msgspec.structs.replace(agreed, accept_unlimited_bulk=True)) == []


def test_bulk_without_address_limits_is_fine() -> None:
    agreed = msgspec.structs.replace(terms(actions=(Action.send_bulk,)), source_ips=("203.0.113.0/24",))

    assert flaws(agreed) == []


def test_feedback_and_limits_have_sane_bounds() -> None:
    agreed = msgspec.structs.replace(
        terms(),
        feedback=FeedbackTerms(
            owner_events=(FeedbackKind.open, FeedbackKind.open), delegate_events=(), retention_days=0, purpose="a\x00b"
        ),
        limits=Limits(bounce_rate=float("nan"), complaint_rate=1.5, sends_per_day=0, minimum_sends=0),
    )

    assert pointers(agreed) == [
        "/feedback/owner_events/1",
        "/feedback/retention_days",
        "/feedback/purpose",
        "/limits/bounce_rate",
        "/limits/complaint_rate",
        "/limits/sends_per_day",
        "/limits/minimum_sends",
    ]


def test_terms_that_do_not_fit_into_four_kilobytes_say_so() -> None:
    found = flaws(terms(from_addresses=tuple(f"{'a' * 50}{number:02}@example.com" for number in range(60))))

    assert [flaw.pointer for flaw in found] == [""]
    assert "4096" in found[0].detail


def test_an_identity_arn_that_is_none_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="identity"):
        flaws(terms(), "example.com")


def test_unknown_fields_and_actions_are_refused_by_the_shape() -> None:
    for body in ({"surprise": 1}, {"actions": ["send_bounce"]}, {"feedback": {"x": 1}}, {"limits": {"x": 1}}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"principals": [DELEGATE], "actions": ["send"], "expires_at": END, **body}, Terms)


def test_terms_travel_as_json_and_show_their_defaults() -> None:
    agreed = terms()
    body = msgspec.json.decode(msgspec.json.encode(agreed))

    assert body["feedback"] == {
        "owner_events": ["bounce", "complaint", "delivery"],
        "delegate_events": ["bounce", "complaint", "delivery"],
        "owner_view": "hashed",
        "retention_days": 30,
        "purpose": "",
        "controller": "owner",
        "processor": "delegate",
    }
    assert agreed == msgspec.json.decode(msgspec.json.encode(agreed), type=Terms)
