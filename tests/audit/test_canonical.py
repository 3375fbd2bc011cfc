"""Canonical JSON: one text for one value, the same that other programs make of it."""

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.audit.canonical import canonical

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def test_the_example_of_the_standard() -> None:
    """RFC 8785, sections 3.2.2 and 3.2.3."""
    text = (
        '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        ' "string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", "literals": [null, true, false]}'
    )
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )

    assert expected == canonical(json.loads(text)).decode()


def test_names_go_by_their_utf_16() -> None:
    """RFC 8785, section 3.2.3: not by code point, which would put the emoji last."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    expected = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]

    assert expected == list(json.loads(canonical(dict.fromkeys(names, 0))))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555554", "333333333.33333325"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_by_ecmascript(bits: str, expected: str) -> None:
    """RFC 8785, appendix B."""
    [number] = struct.unpack(">d", bytes.fromhex(bits))

    assert expected == canonical(number).decode()


@given(VALUES)
@example({"a": -0.0, "b": 1e21, "c": 1e-7})
def test_what_is_canonical_says_the_same_and_stays_as_it_is(value: Any) -> None:
    """Read again, by whichever reader, it is the value, and has the same canonical form."""
    text = canonical(value)

    assert _plain(value) == _plain(json.loads(text))
    assert {text} == {canonical(json.loads(text)), canonical(msgspec.json.decode(text))}


@given(st.dictionaries(TEXTS, VALUES, min_size=2))
def test_the_order_of_names_and_the_way_of_writing_do_not_matter(value: dict[str, Any]) -> None:
    """Whoever stored or sent it may have written it another way."""
    turned = dict(reversed(value.items()))
    written = json.loads(json.dumps(turned, indent=3, ensure_ascii=True))

    assert {canonical(value)} == {canonical(turned), canonical(written)}


@given(VALUES, VALUES)
def test_other_values_have_another_text(one: Any, other: Any) -> None:
    """True is not 1, and a text of a number is no number."""
    same = canonical(one) == canonical(other)

    assert same == (json.dumps(_plain(one), sort_keys=True) == json.dumps(_plain(other), sort_keys=True))


def _plain(value: Any) -> Any:
    """The value with one kind of number, as JSON has."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return float(value) + 0.0 if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, b"x", {1: 2}, "\ud800", {"\ud800": 1}, [object()]])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    """Rather than signed as something else."""
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        canonical(value)
