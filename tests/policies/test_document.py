"""A text that is no policy gets a sentence, quickly, whoever wrote it."""

import json
from time import perf_counter

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
        (policy(Condition={"StringEquals": {"k": [None]}}), "value"),
        (policy(Condition={"NullIfExists": {"k": "true"}}), "operator"),
        (policy(Condition={"ForSomeValues:StringEquals": {"k": "true"}}), "operator"),
        (policy(Condition={":StringEquals": {"k": "true"}}), "operator"),
        (policy(Condition={"NumericEquals": {"k": float("nan")}}), "NaN"),
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


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000_000,
        "[" * 30_000,
        '{"a":' * 6_000,
        '{"Statement":[' + ",".join(["{}"] * 10_000) + "]}",
        '{"Statement":' + "9" * 30_000 + "}",
        "{" + ",".join(f'"{number}":1' for number in range(3_000)) + ',"0":1}',
    ],
)
def test_a_hostile_text_is_refused_at_once(text: str) -> None:
    began = perf_counter()
    with pytest.raises(DocumentError):
        read(text)

    assert perf_counter() - began < 0.5


def test_json_that_is_nested_without_end_is_refused() -> None:
    nested: dict[str, object] = {}
    nested["Statement"] = nested

    with pytest.raises(DocumentError, match="not JSON"):
        read_any(nested)


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
