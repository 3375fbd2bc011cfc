"""What may be asked of topics that the broker does not see, and who holds a slot. Rules."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from broker.feedback.foreign_terms import Agreed, Decision, ForeignTopicSettings, agreed, flaws
from broker.feedback.holders import Holder, Rival, conflict, given_away, holder, promised, to_put_back
from broker.feedback.legacy_terms import LegacyEdit, edited, would_be_new
from broker.feedback.notification_settings import Slot, listed
from broker.ids import new_id
from tests.feedback.sns import NOW

IDENTITY = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
MINE = "arn:aws:sns:eu-west-1:222222222222:mine"
THEIRS = "arn:aws:sns:eu-west-1:333333333333:theirs"


def asked(**settings: Any) -> ForeignTopicSettings:
    given = {key: {"topic_arn": each} if key != "forwarding" else each for key, each in settings.items()}
    return msgspec.convert(given, ForeignTopicSettings)


@pytest.mark.parametrize(
    ("settings", "pointer", "words"),
    [
        ({}, "/settings", "at least one of bounce, complaint and delivery"),
        ({"bounce": "mine"}, "/settings/bounce/topic_arn", "not the ARN of an SNS topic"),
        ({"bounce": "arn:aws:sqs:eu-west-1:222222222222:mine"}, "/settings/bounce/topic_arn", "not the ARN"),
        ({"delivery": "arn:aws:sns:us-east-1:222222222222:mine"}, "/settings/delivery/topic_arn", "Region, eu-west-1"),
        ({"bounce": "arn:aws-cn:sns:eu-west-1:222222222222:mine"}, "/settings/bounce/topic_arn", "Region"),
        ({"complaint": f"{MINE}.fifo"}, "/settings/complaint/topic_arn", "Standard topics only"),
        ({"bounce": THEIRS}, "/settings/bounce/topic_arn", "not proven account 333333333333"),
        ({"bounce": MINE, "forwarding": "off"}, "/settings/forwarding", "both bounces and complaints have a topic"),
        ({"complaint": MINE, "delivery": MINE, "forwarding": "off"}, "/settings/forwarding", "name both"),
    ],
)
def test_what_ses_or_we_would_refuse_is_said_with_its_field(settings: dict[str, str], pointer: str, words: str) -> None:
    """Standard topics of the same Region (configure-sns-notifications); forwarding as SetIdentityFeedbackForwarding."""
    (flaw,) = flaws(asked(**settings), identity_arn=IDENTITY, proven=frozenset({"222222222222"}))

    assert pointer == flaw.pointer
    assert words in flaw.detail


def test_both_topics_let_forwarding_be_off() -> None:
    wanted = asked(bounce=MINE, complaint=MINE, forwarding="off")

    assert () == flaws(wanted, identity_arn=IDENTITY, proven=frozenset({"222222222222"}))


def test_a_maker_cannot_bring_the_owner_s_decision_along() -> None:
    with pytest.raises(msgspec.ValidationError, match="decision"):
        msgspec.convert({"decision": {"at": NOW.isoformat(), "replace": True}}, ForeignTopicSettings)


def rival(*, alive: bool = True, foreign: bool = True, after: timedelta | None = None, **topics: str) -> Rival:
    decided_at = NOW + after if after is not None else None
    return Rival(new_id(), foreign, alive, topics, decided_at, replaces=after is not None)


def approved(**topics: str) -> Agreed:
    given = {kind: {"topic_arn": arn} for kind, arn in topics.items()}
    return msgspec.structs.replace(agreed(given), decision=Decision(at=NOW))


@pytest.mark.parametrize(
    ("topic", "others", "expected"),
    [
        (None, (), Holder.NOBODY),
        (MINE, (), Holder.THIS_ROUTE),
        (THEIRS, (), Holder.OWNER),
        (THEIRS, (rival(bounce=THEIRS),), Holder.ANOTHER_ROUTE),
        (THEIRS, (rival(bounce=THEIRS, alive=False),), Holder.ANOTHER_ROUTE),
        (THEIRS, (rival(bounce=THEIRS, foreign=False),), Holder.BROKER),
        (THEIRS, (rival(complaint=THEIRS),), Holder.OWNER),
    ],
)
def test_who_holds_a_slot(topic: str | None, others: tuple[Rival, ...], expected: Holder) -> None:
    assert expected == holder("bounce", topic, mine=MINE, others=others)


def test_a_conflict_names_types_and_kinds_of_holders_only() -> None:
    held = {"bounce": Holder.BROKER, "complaint": Holder.BROKER, "delivery": Holder.ANOTHER_ROUTE}

    told = conflict("example.com", held) or ""

    assert "the bounce and complaint notifications go to the broker's own topic" in told
    assert "the delivery notifications go to a topic of another sender" in told
    assert conflict("example.com", {"bounce": Holder.NOBODY, "delivery": Holder.THIS_ROUTE}) is None


def test_what_was_approved_for_another_is_taken_before_ses_has_it() -> None:
    others = (rival(bounce=THEIRS, after=timedelta(0)), rival(complaint=THEIRS, alive=False))

    assert {"bounce": Holder.ANOTHER_ROUTE} == promised(approved(bounce=MINE, complaint=MINE), others)
    assert {} == promised(approved(bounce=MINE), (rival(bounce=MINE, after=timedelta(0)),))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (rival(bounce=THEIRS, after=timedelta(seconds=1)), {"bounce"}),
        (rival(bounce=THEIRS, after=-timedelta(seconds=1)), set()),
        (rival(bounce=THEIRS, after=timedelta(seconds=1), alive=False), set()),
        (rival(bounce=MINE, after=timedelta(seconds=1)), set()),
        (rival(bounce=THEIRS), set()),
    ],
)
def test_a_slot_belongs_to_the_latest_replacement(other: Rival, expected: set[str]) -> None:
    assert expected == given_away(approved(bounce=MINE), (other,))


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((), THEIRS),
        ((rival(bounce=THEIRS),), THEIRS),
        ((rival(bounce=THEIRS, alive=False),), None),
        ((rival(bounce=THEIRS, alive=False), rival(bounce=THEIRS, foreign=False)), THEIRS),
    ],
)
def test_only_what_is_still_wanted_is_put_back(others: tuple[Rival, ...], expected: str | None) -> None:
    assert expected == to_put_back("bounce", THEIRS, others)
    assert to_put_back("bounce", None, others) is None


def test_only_what_is_there_can_be_edited() -> None:
    """New cross-account notifications cannot be created (sending-authorization)."""
    there = {"bounce": Slot(MINE), "delivery": Slot(MINE, headers=True)}
    edits = {"bounce": LegacyEdit(include_headers=True), "delivery": LegacyEdit(topic_arn=THEIRS)}

    assert {"bounce": Slot(MINE, headers=True), "delivery": Slot(THEIRS, headers=True)} == edited(there, edits)
    assert would_be_new(tuple(there), edits) is None
    assert "no complaint notification" in (would_be_new(("bounce",), {"complaint": LegacyEdit()}) or "")


def test_names_are_listed_as_one_says_them() -> None:
    assert ["bounce", "bounce and complaint", "bounce, complaint and delivery"] == [
        listed(("bounce", "complaint", "delivery")[:count]) for count in (1, 2, 3)
    ]
