"""Whatever a topic says, it is handled within 50 ms, and nothing is raised."""

import json

import pytest

from broker.feedback.payloads import Feedback, Parsed, Unreadable, parse
from tests.feedback.guide import EXAMPLES
from tests.feedback.nasty import BY_HAND, malformed
from tests.own_time import own_time

LIMIT = 0.05  # seconds of CPU


def test_there_are_more_than_two_hundred_of_them() -> None:
    assert len(dict(malformed())) > 200


@pytest.mark.parametrize("name", [*EXAMPLES, "by hand"])
def test_a_malformed_payload_is_handled_in_time(name: str) -> None:
    chosen = {each: text for each, text in malformed() if each.endswith(f": {name}")} or BY_HAND
    slow = {}
    for each, text in chosen.items():
        spent = min(_spent(text) for _ in range(3))  # the least of three: memory may be cold
        if spent > LIMIT:
            slow[each] = spent

    assert {} == slow


def _spent(text: str) -> float:
    found, spent = own_time(lambda: parse(text))
    assert isinstance(found, Parsed)
    return spent


def test_too_many_recipients_are_set_aside_and_not_cut_short() -> None:
    payload = EXAMPLES["E bounce"][0] | {
        "bounce": {"bouncedRecipients": [{"emailAddress": f"r{n}@b"} for n in range(1001)]}
    }

    assert isinstance(parse(json.dumps(payload)), Unreadable)


def test_text_that_postgres_cannot_hold_does_not_get_through() -> None:
    for text in dict(malformed()).values():
        found = parse(text)
        if isinstance(found, Feedback):
            assert "\0" not in repr(found)
