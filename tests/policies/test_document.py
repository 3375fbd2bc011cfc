"""A text that is no policy gets a sentence, quickly, whoever wrote it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.document import DocumentError, read, read_any
from tests.policies.examples import policy


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("null", "not an object"),
        ('{"Statement":[1]}', "Statement 0 is not an object"),
        ('{"Statement":[],"Statement":[]}', "'Statement' appears twice"),
        ('{"Statement":{"Effect":"Allow","Effect":"Deny"}}', "appears twice"),
        ('{"Version":1,"Statement":[{}]}', "Version"),
        ('{"Statement":[{}],"Comment":""}', "Comment"),
        (policy(Sid=1), "Sid"),
        (policy(Effect="ALLOW"), "Effect"),
        (policy(NotAction="ses:SendEmail"), "both Action and NotAction"),
        (policy(Action=1), "Action"),
        (policy(Action=["ses:SendEmail", 2]), "Action"),
        (policy(Principal="ann"), "Principal"),
        (policy(Principal={"AWS": {"x": 1}}), "AWS principal"),
        (policy(Condition=[]), "Condition"),
        (policy(Condition={"StringEquals": []}), "StringEquals"),
        (policy(Condition={"StringEquals": {"k": {}}}), "value"),
        (policy(Condition={"StringMatches": {}}), "condition operator"),
        (policy(Condition={"ForSomeValues:StringEquals": {}}), "condition operator"),
        (policy(Condition={"NullIfExists": {}}), "condition operator"),
        (policy(Condition={"StringEquals": {"k": [None]}}), "value"),
        (policy(Condition={"NullIfExists": {"k": "true"}}), "operator"),
        (policy(Condition={"ForSomeValues:StringEquals": {"k": "true"}}), "operator"),
        (policy(Condition={":StringEquals": {"k": "true"}}), "operator"),
        (policy(Condition={"NumericEquals": {"k": float("nan")}}), "NaN"),
        (policy(Condition={"NumericLessThan": {"k": 0.125}}).replace("0.125", "1e999"), "too large"),
        (policy(Condition={"NumericEquals": {"k": float("inf")}}), "Infinity"),
    ],
)
def test_what_is_no_policy_is_refused_with_a_sentence(text: str, part: str) -> None:
    with pytest.raises(DocumentError, match=part) as refused:
        read(text)

    assert str(refused.value).endswith(".")


def test_a_single_statement_need_not_be_in_a_list() -> None:
    wrapped = json.loads(policy())
    bare = wrapped | {"Statement": wrapped["Statement"][0]}

    assert read_any(bare) == read_any(wrapped)


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda part: (
            st.lists(part)
            | st.dictionaries(
                st.sampled_from(["Version", "Statement", "Effect", "Principal", "Action", "Resource", "Condition"]),
                part,
            )
        ),
        max_leaves=20,
    ).map(json.dumps)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        statements = read(text).statements
    except DocumentError:
        return

    assert statements


def test_a_known_operator_without_keys_limits_nothing() -> None:
    """IAM User Guide, reference_policies_grammar: the list of keys under an operator may be empty."""
    document = read(policy(Condition={"StringEquals": {}, "ForAnyValue:StringLikeIfExists": {}}))

    assert () == document.statements[0].conditions
