"""Which feedback is the same feedback."""

import hashlib
import hmac
from datetime import UTC, date, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feedback.keys import Key, key_of, recipient_hash
from broker.feedback.occurrence import Mail, Occurrence
from broker.policies.terms import FeedbackKind

AT = datetime(2026, 1, 5, 23, 30, tzinfo=UTC)
MAIL = Mail(sent_at=AT, message_id="m", source_arn="i", sending_account="a", subject="S", configuration_set="c")
BOUNCE = Occurrence(kind=FeedbackKind.bounce, occurred_at=AT, recipient="Jane@example.org", status="5.1.1")
ONCE = [FeedbackKind.bounce, FeedbackKind.complaint, FeedbackKind.delivery, FeedbackKind.send, FeedbackKind.reject]
OFTEN = [FeedbackKind.delay, FeedbackKind.open, FeedbackKind.click, FeedbackKind.subscription]


def key(mail: Mail, occurrence: Occurrence, secret: bytes = b"s") -> Key:
    return key_of(mail, occurrence, secret)


def test_nobody_without_the_secret_can_try_addresses_on_a_key() -> None:
    """It depends on the installation, and is no plain digest of what the mail says."""
    plain = hashlib.sha256(b'["i","a","m","bounce","jane@example.org"]').digest()

    keys = [key(MAIL, BOUNCE, secret) for secret in (b"s", b"t", b"s")]

    assert keys[0] == keys[2] != keys[1]
    assert plain != keys[0].digest
    assert hashlib.blake2b(b'["i","a","m","bounce","jane@example.org"]', key=b"s", digest_size=32).digest() == (
        keys[0].digest
    )


@pytest.mark.parametrize(
    "change",
    [{"message_id": "n"}, {"source_arn": "j"}, {"source_arn": None}, {"sending_account": "b"}, {"message_id": "ma"}],
)
def test_another_mail_has_another_key(change: dict[str, str]) -> None:
    assert key(MAIL, BOUNCE) != key(msgspec.structs.replace(MAIL, **change), BOUNCE)


@pytest.mark.parametrize("change", [{"subject": "T"}, {"configuration_set": None}, {"tags": {"a": ["b"]}}])
def test_what_only_one_route_tells_is_not_in_the_key(change: dict[str, object]) -> None:
    assert key(MAIL, BOUNCE) == key(msgspec.structs.replace(MAIL, **change), BOUNCE)


def test_the_day_is_that_of_sending_in_utc() -> None:
    east = msgspec.structs.replace(MAIL, sent_at=AT.astimezone(timezone(timedelta(hours=9))))

    assert date(2026, 1, 5) == key(east, BOUNCE).day
    assert key(MAIL, BOUNCE) == key(east, BOUNCE)


@pytest.mark.parametrize("kind", ONCE)
def test_what_happens_once_is_the_same_at_any_time(kind: FeedbackKind) -> None:
    first = msgspec.structs.replace(BOUNCE, kind=kind)
    later = msgspec.structs.replace(first, occurred_at=AT + timedelta(seconds=1))

    assert key(MAIL, first) == key(MAIL, later)


@pytest.mark.parametrize("kind", OFTEN)
def test_what_happens_often_is_told_apart_by_time_and_link(kind: FeedbackKind) -> None:
    first = msgspec.structs.replace(BOUNCE, kind=kind)
    later = msgspec.structs.replace(first, occurred_at=AT + timedelta(seconds=1))
    elsewhere = msgspec.structs.replace(first, link="https://example.org")

    assert 3 == len({key(MAIL, each) for each in (first, later, elsewhere)})


def test_a_permanent_bounce_is_another_than_one_that_was_not() -> None:
    """An out-of-office reply must not hide the hard bounce that follows it; those that are not final are one."""
    permanent, transient, undetermined, untold = (
        msgspec.structs.replace(BOUNCE, bounce_type=each) for each in ("Permanent", "Transient", "Undetermined", None)
    )

    assert key(MAIL, permanent) != key(MAIL, transient)
    assert key(MAIL, transient) == key(MAIL, undetermined) == key(MAIL, untold)


def test_a_mail_taken_out_of_the_spam_folder_does_not_hide_a_complaint() -> None:
    complaint = msgspec.structs.replace(BOUNCE, kind=FeedbackKind.complaint)
    abuse, fraud, not_spam = (
        msgspec.structs.replace(complaint, feedback_type=each) for each in ("abuse", "fraud", "not-spam")
    )

    assert key(MAIL, abuse) != key(MAIL, not_spam)
    assert key(MAIL, abuse) == key(MAIL, fraud) == key(MAIL, complaint)


@given(st.emails(), st.sampled_from(["", " ", "\t"]))
def test_spelling_of_a_recipient_changes_neither_key_nor_hash(address: str, blank: str) -> None:
    spelled = blank + address.upper().lower().swapcase() + blank
    one, other = (msgspec.structs.replace(BOUNCE, recipient=each) for each in (address.lower(), spelled))

    assert key(MAIL, one) == key(MAIL, other)
    assert recipient_hash(b"k", address.lower()) == recipient_hash(b"k", spelled)


@given(*(st.tuples(st.text(), st.text(), st.text()) for _ in range(2)))
def test_no_two_mails_share_a_key(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    keys = [
        key(msgspec.structs.replace(MAIL, source_arn=arn, sending_account=account, message_id=message), BOUNCE)
        for arn, account, message in (one, other)
    ]

    assert (one == other) == (keys[0] == keys[1])


def test_the_hash_is_one_that_a_party_can_make_itself() -> None:
    assert hmac.new(b"k", b"jane@example.org", hashlib.sha256).hexdigest() == recipient_hash(b"k", " Jane@Example.ORG ")


def test_another_grants_hash_is_another() -> None:
    assert recipient_hash(b"k", "a@b.c") != recipient_hash(b"l", "a@b.c")
