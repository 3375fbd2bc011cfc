"""Whose feedback it is, and what a topic may say."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from broker.feedback.attribution import (
    RECENT,
    Attributed,
    Candidate,
    Dropped,
    Quarantined,
    Source,
    Standing,
    attribute,
)
from broker.feedback.occurrence import Mail
from broker.policies.terms import FeedbackKind, FeedbackTerms, View
from tests.feedback.examples import DELEGATE_ACCOUNT, IDENTITY, OWNER_ACCOUNT
from tests.feedback.sns import NOW, TOPIC

OWNER, DELEGATE, STRANGER = UUID(int=1), UUID(int=2), UUID(int=3)
SOURCE = Source(topic_arn=TOPIC, tenant_id=OWNER, accounts=(OWNER_ACCOUNT,), source="broker_topic")
GRANT = Candidate(
    grant_id=UUID(int=10),
    owner_id=OWNER,
    delegate_id=DELEGATE,
    identity_arn=IDENTITY,
    accounts=(DELEGATE_ACCOUNT,),
    feedback=FeedbackTerms(),
    activated_at=NOW - timedelta(days=1),
)
MAIL = Mail(sent_at=NOW, message_id="m", source_arn=IDENTITY, sending_account=DELEGATE_ACCOUNT)
BOUNCE = FeedbackKind.bounce
ENDED = msgspec.structs.replace(GRANT, ended_at=NOW, verified_at=NOW + timedelta(seconds=5))


def grant(**changes: Any) -> Candidate:
    return msgspec.structs.replace(GRANT, **changes)


def sent(**changes: Any) -> Mail:
    return msgspec.structs.replace(MAIL, **changes)


@pytest.mark.parametrize(
    ("at", "heard_by"),
    [(timedelta(hours=-3), STRANGER), (timedelta(hours=-2), STRANGER), (timedelta(0), DELEGATE)],
)
def test_an_account_that_changed_hands_tells_nothing_to_who_had_it_before(at: timedelta, heard_by: UUID) -> None:
    """Also where the From address fits the terms of the former alone; its own last mail is still its own."""
    former = grant(
        grant_id=UUID(int=9),
        delegate_id=STRANGER,
        activated_at=NOW - timedelta(days=2),
        ended_at=NOW - timedelta(hours=2),
        verified_at=NOW - timedelta(hours=2),
    )
    later = grant(activated_at=NOW - timedelta(hours=1), from_addresses=("news@example.com",))
    for candidates in ([former, later], [later, former]):
        found = attribute(SOURCE, Standing(candidates), sent(sent_at=NOW + at, from_address="bounce@x.example"), BOUNCE)

        assert isinstance(found, Attributed)
        assert heard_by == found.delegate_id


def test_mail_of_the_delegates_account_is_the_grants() -> None:
    expected = Attributed(
        owner_id=OWNER,
        delegate_id=DELEGATE,
        grant_id=GRANT.grant_id,
        owner_view=View.hashed,
        delegate_view=View.full,
        counted=True,
    )

    assert expected == attribute(SOURCE, Standing([GRANT]), MAIL, BOUNCE)


@pytest.mark.parametrize(
    ("terms", "owner_view", "delegate_view"),
    [
        (FeedbackTerms(), View.hashed, View.full),
        (FeedbackTerms(owner_view=View.full), View.full, View.full),
        (FeedbackTerms(owner_view=View.none), View.none, View.full),
        (FeedbackTerms(owner_events=()), None, View.full),
        (FeedbackTerms(delegate_events=(FeedbackKind.complaint,)), View.hashed, None),
        (FeedbackTerms(owner_events=(), delegate_events=()), None, None),
    ],
)
def test_each_party_hears_what_the_terms_give_it(
    terms: FeedbackTerms, owner_view: View | None, delegate_view: View | None
) -> None:
    found = attribute(SOURCE, Standing([grant(feedback=terms)]), MAIL, BOUNCE)

    assert isinstance(found, Attributed)
    assert (owner_view, delegate_view) == (found.owner_view, found.delegate_view)


@pytest.mark.parametrize(
    ("candidates", "mail"),
    [
        pytest.param([], MAIL, id="no grant"),
        pytest.param([GRANT], sent(sending_account=OWNER_ACCOUNT), id="the owner's own mail"),
        pytest.param([GRANT], sent(sending_account="444444444444"), id="an account without a grant"),
        pytest.param([GRANT], sent(source_arn=IDENTITY.replace("example.com", "example.net")), id="another identity"),
        pytest.param([GRANT], sent(sent_at=NOW - timedelta(days=2)), id="before the grant"),
        pytest.param([grant(ended_at=NOW - RECENT - timedelta(seconds=1))], MAIL, id="long after the grant"),
        pytest.param([grant(owner_id=STRANGER)], MAIL, id="another owner's grant"),
    ],
)
def test_mail_of_no_grant_is_dropped(candidates: list[Candidate], mail: Mail) -> None:
    assert isinstance(attribute(SOURCE, Standing(candidates), mail, BOUNCE), Dropped)


@pytest.mark.parametrize(
    ("source", "mail"),
    [
        pytest.param(SOURCE, sent(source_arn=None), id="no identity"),
        pytest.param(SOURCE, sent(sending_account=None), id="no account"),
        pytest.param(SOURCE, sent(source_arn=IDENTITY.replace(OWNER_ACCOUNT, "333333333333")), id="foreign account"),
        pytest.param(SOURCE, sent(source_arn="nonsense"), id="no ARN"),
        pytest.param(msgspec.structs.replace(SOURCE, accounts=()), MAIL, id="topic of no account"),
        pytest.param(msgspec.structs.replace(SOURCE, source="tenant_topic", accounts=()), MAIL, id="topic of no route"),
    ],
)
def test_what_a_topic_may_not_say_is_quarantined(source: Source, mail: Mail) -> None:
    assert isinstance(attribute(source, Standing([GRANT]), mail, BOUNCE), Quarantined)


@pytest.mark.parametrize(
    ("sent_at", "after_end"),
    [
        (NOW - timedelta(hours=1), False),
        (NOW + timedelta(seconds=65), False),
        (NOW + timedelta(seconds=66), True),
        (NOW + timedelta(days=3), True),
    ],
)
def test_a_grant_that_ended_still_gets_what_was_sent_under_it(sent_at: Any, *, after_end: bool) -> None:
    found = attribute(SOURCE, Standing([ENDED]), sent(sent_at=sent_at), BOUNCE)

    assert isinstance(found, Attributed)
    assert (ENDED.verified_at if after_end else None) == found.gone_since


def test_mail_sent_just_before_the_read_back_is_the_grants() -> None:
    assert isinstance(
        attribute(SOURCE, Standing([GRANT]), sent(sent_at=GRANT.activated_at - timedelta(seconds=30)), BOUNCE),
        Attributed,
    )


def test_of_two_grants_the_one_activated_last_gets_it() -> None:
    newer = grant(grant_id=UUID(int=11), activated_at=NOW - timedelta(hours=1))

    for candidates in ([GRANT, newer], [newer, GRANT]):
        found = attribute(SOURCE, Standing(candidates), MAIL, BOUNCE)
        assert isinstance(found, Attributed)
        assert newer.grant_id == found.grant_id


def test_a_grant_in_force_goes_before_one_that_was_gone() -> None:
    gone = msgspec.structs.replace(ENDED, grant_id=UUID(int=11), activated_at=NOW - timedelta(hours=1))
    found = attribute(SOURCE, Standing([GRANT, gone]), sent(sent_at=NOW + timedelta(hours=1)), BOUNCE)

    assert isinstance(found, Attributed)
    assert GRANT.grant_id == found.grant_id


@pytest.mark.parametrize(
    ("suspended", "resumed", "sent_at", "newest"),
    [
        pytest.param(-60, None, 0, False, id="while it is suspended"),
        pytest.param(-60, -90, 0, False, id="suspended once more"),
        pytest.param(-60, 10, 0, False, id="late news of mail sent before it was resumed"),
        pytest.param(-60, -10, 0, True, id="after it was resumed"),
        pytest.param(-60, None, -61, True, id="before it was suspended"),
        pytest.param(-1, None, 0, True, id="until the removal must have worked"),
    ],
)
def test_a_suspended_grant_does_not_swallow_the_mail_of_an_older_one_in_force(
    suspended: int, resumed: int | None, sent_at: int, *, newest: bool
) -> None:
    """Minutes from now. Else the breaker of the one under which the mail went out would see nothing of it."""
    newer = grant(
        grant_id=UUID(int=11),
        activated_at=NOW - timedelta(hours=3),
        suspended_at=NOW + timedelta(minutes=suspended),
        resumed_at=None if resumed is None else NOW + timedelta(minutes=resumed),
    )

    for candidates in ([GRANT, newer], [newer, GRANT]):
        found = attribute(SOURCE, Standing(candidates), sent(sent_at=NOW + timedelta(minutes=sent_at)), BOUNCE)
        assert isinstance(found, Attributed)
        assert (newer if newest else GRANT).grant_id == found.grant_id


def test_mail_under_a_suspended_grant_is_still_its_own_where_no_other_fits() -> None:
    found = attribute(SOURCE, Standing([grant(suspended_at=NOW - timedelta(hours=1))]), MAIL, BOUNCE)

    assert isinstance(found, Attributed)
    assert GRANT.grant_id == found.grant_id


@pytest.mark.parametrize(
    ("candidate", "kind", "counted"),
    [
        *((GRANT, FeedbackKind(each), True) for each in ("send", "delivery", "bounce", "complaint")),
        *((GRANT, FeedbackKind(each), False) for each in ("reject", "delay", "open", "click", "subscription")),
        (GRANT, None, False),
        (ENDED, BOUNCE, False),
    ],
)
def test_what_the_breaker_of_a_live_grant_counts(
    candidate: Candidate, kind: FeedbackKind | None, *, counted: bool
) -> None:
    """Of an ended one it judges nothing."""
    found = attribute(SOURCE, Standing([candidate]), MAIL, kind)

    assert isinstance(found, Attributed)
    assert counted is found.counted


@pytest.mark.parametrize("source", ["broker_topic", "tenant_topic"])
def test_mail_after_the_end_is_news_only_where_a_topic_of_the_brokers_says_so(source: str) -> None:
    """What a tenant says about itself it can invent, as many mails as it likes."""
    told = msgspec.structs.replace(SOURCE, source=source)
    found = attribute(told, Standing([ENDED]), sent(sent_at=NOW + timedelta(hours=1)), BOUNCE)

    assert isinstance(found, Attributed)
    assert (source == "broker_topic") is (found.gone_since is not None)


def test_two_delegates_on_one_identity_are_told_apart() -> None:
    other = grant(grant_id=UUID(int=11), delegate_id=STRANGER, accounts=("333333333333",))
    found = attribute(SOURCE, Standing([GRANT, other]), sent(sending_account="333333333333"), BOUNCE)

    assert isinstance(found, Attributed)
    assert STRANGER == found.delegate_id


class TestATopicOfTheDelegates:
    """Its owner can publish anything to it, so it may only speak of itself."""

    source = Source(
        topic_arn=TOPIC.replace("999999999999", DELEGATE_ACCOUNT),
        tenant_id=DELEGATE,
        accounts=(),
        source="tenant_topic",
        configuration_set="set",
    )
    mail = sent(configuration_set="set")

    def test_is_believed_about_its_own_account_grant_and_set(self) -> None:
        assert isinstance(attribute(self.source, Standing([GRANT]), self.mail, BOUNCE), Attributed)

    @pytest.mark.parametrize(
        "changes",
        [
            {"sending_account": "333333333333"},
            {"configuration_set": "other"},
            {"configuration_set": None},
            {"source_arn": "x"},
        ],
    )
    def test_is_not_believed_about_others(self, changes: dict[str, Any]) -> None:
        mail = msgspec.structs.replace(self.mail, **changes)

        assert isinstance(attribute(self.source, Standing([GRANT]), mail, BOUNCE), Quarantined)

    def test_is_not_believed_about_anothers_grant(self) -> None:
        assert isinstance(
            attribute(self.source, Standing([grant(delegate_id=STRANGER)]), self.mail, BOUNCE), Quarantined
        )
