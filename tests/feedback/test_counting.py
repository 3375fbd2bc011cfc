"""What each event counts as."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feedback.reckoned import Reckoned
from broker.feedback.usage.counting import by_day, by_quarter
from broker.ids import new_id
from broker.policies.terms import FeedbackKind

NOW = datetime(2026, 11, 25, 12, 7, tzinfo=UTC)
GRANT = UUID(int=1)
MINUTE = timedelta(minutes=1)


def event(kind: FeedbackKind, **changes: Any) -> Reckoned:
    """One event a minute ago."""
    made = Reckoned(
        event_id=new_id(),
        kind=kind,
        owner_id=UUID(int=2),
        delegate_id=UUID(int=3),
        grant_id=GRANT,
        identity_arn="arn:aws:ses:eu-west-1:111111111111:identity/example.com",
        source="broker_topic",
        message_id="one",
        sent_at=NOW - 2 * MINUTE,
        occurred_at=NOW - MINUTE,
        recipient="jane@example.org",
        recipient_hash=None,
        recipients=1,
        final=True,
        bounce_type="Permanent",
        bounce_sub_type="General",
        feedback_type=None,
    )
    return msgspec.structs.replace(made, **changes)


def counted(*events: Reckoned) -> dict[str, int]:
    """By name, on whatever day."""
    return {name: number for (_, _, name), number in by_day(events, now=NOW).items()}


def measured(*events: Reckoned, since: datetime | None = None) -> list[dict[str, int]]:
    """By bucket, in order, of what the parties heard."""
    found = by_quarter(events, {GRANT: since}, now=NOW)
    return [dict(found[bucket]) for bucket in sorted(found) if not bucket[2]]


@pytest.mark.parametrize(
    ("final", "sub_type", "expected"),
    [
        (True, "General", "bounced.hard"),
        (True, "NoEmail", "bounced.hard"),
        (False, "MailboxFull", "bounced.soft"),
        (None, "Undetermined", "bounced.soft"),
        # SES Developer Guide, notification-contents, bounce types: not tried.
        (True, "Suppressed", "bounced.suppressed"),
        (True, "OnAccountSuppressionList", "bounced.suppressed"),
        (True, "OnTenantSuppressionList", "bounced.suppressed"),
    ],
)
def test_bounces_are_told_apart(final: bool | None, sub_type: str, expected: str) -> None:
    bounce = event(FeedbackKind.bounce, final=final, bounce_sub_type=sub_type)

    assert {"email.bounced": 1, expected: 1} == counted(bounce)
    assert ([{"bounced": 1}] if expected == "bounced.hard" else []) == measured(bounce)


def test_a_guessed_complaint_of_several_recipients_counts_once() -> None:
    """SES names everybody of the domain where the provider does not say who complained."""
    guess = [event(FeedbackKind.complaint, recipients=3, recipient=f"{name}@example.org") for name in "abc"]
    other = event(FeedbackKind.complaint, recipients=2, message_id="two")

    assert {"email.complained": 4, "complained.counted": 2} == counted(*guess, other)


@given(
    guesses=st.lists(
        st.tuples(st.sampled_from(["one", "two"]), st.sampled_from([NOW, NOW - MINUTE]), st.integers(2, 4)), min_size=1
    ),
    cut=st.integers(0, 20),
)
def test_each_guess_counts_once_however_batches_are_cut(guesses: list[tuple[str, datetime, int]], cut: int) -> None:
    """Two messages about one mail are two complaints, whether they are reckoned together or not."""
    messages = [
        [event(FeedbackKind.complaint, message_id=mail, occurred_at=at, recipients=number) for _ in range(number)]
        for mail, at, number in guesses
    ]
    halves = [[each for message in half for each in message] for half in (messages[:cut], messages[cut:])]

    apart = sum(counted(*half).get("complained.counted", 0) for half in halves)
    together = counted(*halves[0], *halves[1])["complained.counted"]
    assert (len(messages), len(messages)) == (together, apart)


def test_two_who_complained_about_one_mail_are_two() -> None:
    assert 2 == counted(event(FeedbackKind.complaint), event(FeedbackKind.complaint))["complained.counted"]


def test_what_is_no_complaint_does_not_count_as_one() -> None:
    """Taken out of the spam folder; or not sent at all."""
    rescued = event(FeedbackKind.complaint, feedback_type="not-spam")
    untried = event(FeedbackKind.complaint, complaint_sub_type="OnAccountSuppressionList")

    assert {"email.complained": 2} == counted(rescued, untried)


def test_days_are_those_on_which_it_happened() -> None:
    sent_at = NOW - timedelta(days=2)
    at = datetime(2026, 11, 25, 0, 30, tzinfo=UTC) - timedelta(hours=1)
    late = event(FeedbackKind.delivery, occurred_at=at, sent_at=sent_at)
    abroad = event(
        FeedbackKind.delivery, occurred_at=datetime.fromisoformat("2026-11-25T01:00:00+02:00"), sent_at=sent_at
    )

    assert {(GRANT, date(2026, 11, 24), "email.delivered"): 2} == by_day([late, abroad], now=NOW)


@pytest.mark.parametrize(("year", "expected"), [(1, date(2026, 11, 23)), (9999, date(2026, 11, 25))])
def test_nothing_happens_before_its_mail_was_sent_or_later_than_now(year: int, expected: date) -> None:
    """A topic of a tenant's own may say so."""
    made_up = event(FeedbackKind.open, occurred_at=datetime(year, 6, 1, tzinfo=UTC), sent_at=NOW - timedelta(days=2))

    assert {(GRANT, expected, "email.opened"): 1} == by_day([made_up], now=NOW)


def test_the_owners_own_mail_is_no_grants() -> None:
    assert {} == counted(event(FeedbackKind.delivery, grant_id=None))


def test_rates_forget_what_happened_more_than_a_day_ago_and_believe_no_future() -> None:
    old = event(FeedbackKind.delivery, occurred_at=NOW - timedelta(hours=24))
    ahead = event(FeedbackKind.delivery, occurred_at=NOW + timedelta(days=300))

    quarter = NOW.replace(minute=0)
    assert {(GRANT, quarter, True): {"delivered": 1}, (GRANT, quarter, False): {"delivered": 1}} == by_quarter(
        [old, ahead], {GRANT: None}, now=NOW
    )


def sides(*events: Reckoned) -> dict[bool, dict[str, int]]:
    """What rates are taken of: what topics of the broker's told (True), and what the parties heard."""
    return {vouched: dict(found) for (_, _, vouched), found in by_quarter(events, {}, now=NOW).items()}


def test_what_a_tenants_own_topic_told_is_heard_and_not_vouched_for() -> None:
    own = event(FeedbackKind.delivery, source="tenant_topic")

    assert {False: {"delivered": 2}, True: {"delivered": 1}} == sides(own, event(FeedbackKind.delivery))


def test_the_brokers_copy_of_what_was_heard_is_reckoned_and_not_counted_again() -> None:
    """A bounce that a tenant's topic called soft before."""
    forged = event(FeedbackKind.bounce, source="tenant_topic", final=False)
    true = event(FeedbackKind.bounce, heard=False)

    assert {"email.bounced": 1, "bounced.soft": 1} == counted(forged, true)
    assert {True: {"bounced": 1}} == sides(forged, true)


def test_a_guess_of_a_tenants_own_topic_does_not_hide_that_of_the_brokers() -> None:
    names = "ab"
    told = [event(FeedbackKind.complaint, recipients=2, recipient=name, source="tenant_topic") for name in names]
    true = [event(FeedbackKind.complaint, recipients=2, recipient=name, heard=False) for name in names]

    assert {False: {"complained": 1}, True: {"complained": 1}} == sides(*told, *true)


def test_mail_from_before_the_grant_was_resumed_counts_no_more() -> None:
    """Its bounces may still come for hours."""
    since = NOW - 3 * MINUTE
    before = event(FeedbackKind.bounce, sent_at=since - MINUTE)

    assert [{"bounced": 1}] == measured(before, event(FeedbackKind.bounce), since=since)
    assert {since} == {
        begins_at for _, begins_at, _ in by_quarter([event(FeedbackKind.bounce)], {GRANT: since}, now=NOW)
    }
