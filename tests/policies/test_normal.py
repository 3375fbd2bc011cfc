"""Documents are compared by what they mean."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.normal import same_meaning
from broker.policies.terms import Terms
from tests.policies.examples import DELEGATE, IDENTITY, USER, Json, compiled, conditional, good_terms, policy


def shuffled(value: Json, dice: random.Random) -> Json:
    """The same document with lists and objects in another order, and single values as lists here and there."""
    if isinstance(value, dict):
        items = [(key, shuffled(part, dice)) for key, part in value.items()]
        dice.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        parts = [shuffled(part, dice) for part in value]
        dice.shuffle(parts)
        return parts[0] if len(parts) == 1 and dice.random() < 0.5 else parts
    return value


@given(good_terms(), st.randoms(use_true_random=False), st.sampled_from([None, 1, 4]))
def test_order_white_space_and_lists_of_one_change_nothing(
    agreed: Terms, dice: random.Random, indent: int | None
) -> None:
    text = compiled(agreed)
    other = json.dumps(shuffled(json.loads(text), dice), indent=indent)

    assert same_meaning(text, text)
    assert same_meaning(text, other)
    assert same_meaning(other, text)


@given(good_terms(), good_terms())
def test_terms_that_compile_differently_do_not_mean_the_same(one: Terms, other: Terms) -> None:
    a, b = compiled(one), compiled(other)

    assert same_meaning(a, b) == (shape(a) == shape(b))


def shape(text: str) -> list[str]:
    """A document without regard to the order of lists."""

    def ordered(value: Json) -> Json:
        if isinstance(value, dict):
            return {key: ordered(part) for key, part in sorted(value.items())}
        if isinstance(value, list):
            return [json.loads(part) for part in sorted(json.dumps(ordered(part)) for part in value)]
        return value

    return [json.dumps(ordered(part), sort_keys=True) for part in json.loads(text)["Statement"]]


ROOT = f"arn:aws:iam::{DELEGATE}:root"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (policy(), policy(Principal={"AWS": [ROOT]})),
        (policy(Principal={"AWS": [ROOT, DELEGATE]}), policy()),
        (policy(Principal="*"), policy(Principal={"AWS": "*"})),
        (policy(Action="SES:sendemail"), policy(Action=["ses:SendEmail"])),
        (policy(Condition={}), policy()),
        (
            conditional({"Bool": {"aws:SecureTransport": True}}),
            conditional({"bool": {"AWS:securetransport": ["true"]}}),
        ),
        (conditional({"NumericEquals": {"k": 1}}), conditional({"NumericEquals": {"k": "1"}})),
        (json.dumps(json.loads(policy()) | {"Id": "x"}), policy()),
    ],
)
def test_two_ways_of_writing_one_thing(a: str, b: str) -> None:
    assert same_meaning(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (policy(), policy(Effect="Deny")),
        (policy(), policy(Principal={"AWS": USER})),
        (policy(), policy(Principal={"Service": DELEGATE})),
        (policy(), policy(Principal=None, NotPrincipal={"AWS": DELEGATE})),
        (policy(), policy(Action="ses:SendRawEmail")),
        (policy(), policy(Action=None, NotAction="ses:SendEmail")),
        (policy(), policy(Sid="a")),
        (policy(Version="2008-10-17"), policy()),
        (policy(Resource=IDENTITY.upper()), policy()),
        (
            conditional({"StringLike": {"ses:FromAddress": "a*"}}),
            conditional({"StringEquals": {"ses:FromAddress": "a*"}}),
        ),
        (conditional({"StringLike": {"ses:FromAddress": "a"}}), conditional({"StringLike": {"ses:FromAddress": "A"}})),
        (conditional({"StringLike": {"k": "a"}}), conditional({"StringLikeIfExists": {"k": "a"}})),
        (conditional({"StringLike": {"k": "a"}}), conditional({"ForAnyValue:StringLike": {"k": "a"}})),
        (conditional({"StringLike": {"k": "a"}}), policy()),
    ],
)
def test_what_differs_in_meaning_is_not_the_same(a: str, b: str) -> None:
    assert not same_meaning(a, b)


@pytest.mark.parametrize(
    "text", ["", "{}", "null", "[]", '{"Statement":[]}', "not json", '{"Statement":{"Effect":"Allow"}}']
)
def test_a_text_that_is_no_policy_equals_nothing_not_even_itself(text: str) -> None:
    assert not same_meaning(text, text)
