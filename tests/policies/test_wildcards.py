"""Patterns match like IAM's, and none of them can be made slow."""

from hypothesis import given
from hypothesis import strategies as st

from broker.policies.wildcards import literal, matches


def naive(pattern: str, text: str) -> bool:
    """The definition itself, for short texts."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and naive(pattern[1:], text[1:])


@given(st.text(alphabet="ab*?.$", max_size=8), st.text(alphabet="ab*?.$\n", max_size=8))
def test_a_pattern_matches_as_defined(pattern: str, text: str) -> None:
    assert matches(pattern, text, None) == naive(pattern, text)


def test_a_literal_keeps_wildcards_and_fills_variables() -> None:
    values = {"aws:username": "ann"}

    assert literal("*?${aws:username}", values.get) == "*?ann"
    assert literal("${aws:userid}", values.get) is None
    assert literal("${aws:username}", None) == "${aws:username}"
