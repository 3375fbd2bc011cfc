"""Patterns match like IAM's.

The pages are the IAM User Guide's reference_policies_elements_resource, …_elements_condition_operators and …_variables.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.policies.wildcards import CACHED, arn_matches, literal, matches, resource_matches
from tests.policies import naive_values

NOTHING: dict[str, str] = {}
VALUES = {"aws:username": "ann", "my:star": "*", "my:empty": ""}


def naive(pattern: str, text: str) -> bool:
    """The definition itself, for short texts."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and naive(pattern[1:], text[1:])


@settings(max_examples=1_000)
@given(st.text(alphabet="aab*?.$", max_size=9), st.text(alphabet="aaab*?.$\n", max_size=9))
def test_a_pattern_matches_as_defined(pattern: str, text: str) -> None:
    assert naive(pattern, text) == matches(pattern, text, None)


@settings(max_examples=1_000)
@given(
    st.lists(st.sampled_from(["a", "b", "*", "?", "${aws:username}", "${my:star}", "${my:none}", "${?}"]), max_size=6),
    st.text(alphabet="abn*?", max_size=8),
)
def test_a_pattern_with_variables_matches_as_defined(pieces: list[str], text: str) -> None:
    pattern = "".join(pieces)

    assert naive_values.like(pattern, text, VALUES) == matches(pattern, text, VALUES.get)
    assert naive_values.equal(pattern, text, VALUES) == (literal(pattern, VALUES.get) == text)


@settings(max_examples=2_000)
@given(st.text(alphabet="ab*:::", max_size=12), st.text(alphabet="ab:::", max_size=12))
def test_a_resource_matches_as_documented(pattern: str, arn: str) -> None:
    assert naive_values.resource(pattern, arn, None) == resource_matches(pattern, arn, None)


@settings(max_examples=1_000)
@given(
    st.lists(st.sampled_from(["", "a", "b", "*", "?", "*a"]), min_size=4, max_size=8).map(":".join),
    st.lists(st.sampled_from(["", "a", "b", "ab"]), min_size=4, max_size=8).map(":".join),
)
def test_an_arn_of_a_condition_and_of_a_resource_match_as_documented(pattern: str, arn: str) -> None:
    assert naive_values.arn_like(pattern, arn, None) == arn_matches(pattern, arn, None)
    assert naive_values.resource(pattern, arn, None) == resource_matches(pattern, arn, None)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        # what stands between two stars and has a gap: the leftmost place counts, and only what lies before the tail
        ("*a?*", "ab", True),
        ("*a?*", "xab", True),
        ("*a?*", "ba", False),
        ("*a?*", "bbb", False),
        ("*a?*b", "ab", False),
        ("*a?*b", "aab", True),
        ("*a?c*", "abcabc", True),
        ("*a?c*a?c", "abcabc", True),
        ("*a?c*a?c*a?c", "abcabc", False),
        ("*?b*?b*", "abab", True),
        ("*?b*?b*", "abb", False),
        ("x*?*", "x", False),
        ("*x?*", "ab", False),
        ("*?*", "", False),
        ("*??*", "ab", True),
        ("b*a?a*b", "baab", False),
        ("b*a?a*b", "baaab", True),
        ("*a?*ab", "aab", False),
        ("*b?*", "aabba", True),
        ("*aa*aa*", "aaa", False),
        ("*ab*ab*", "abxx", False),
        ("*ab*ab*", "xabab", True),
        ("*b*ab", "xxab", False),
        ("*b*ab", "xbab", True),
        ("a*a*b", "axxb", False),
        ("*aa*aa*", "aaaa", True),
        ("a*aa", "aa", False),
        ("*ab*b", "ab", False),
        ("a?", "ab", True),
        ("a?", "a", False),
        ("a?", "abc", False),
        ("?", "", False),
    ],
)
def test_what_stands_between_stars_is_looked_for_in_order(pattern: str, text: str, expected: bool) -> None:
    assert naive(pattern, text) == expected
    assert matches(pattern, text, None) == expected


@pytest.mark.parametrize("length", [CACHED - 1, CACHED, CACHED + 1, 3_000])
def test_long_patterns_and_texts_match_like_short_ones(length: int) -> None:
    text = "a" * length

    assert matches(f"{text[1:]}*", text, None)
    assert matches(f"*{'a' * (length - 2)}?*", text, None)
    assert matches("*a?a*", text, None)
    assert not matches("*b?a*", text, None)
    assert not matches(f"{text[1:]}b*", text, None)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("arn:aws:sns:eu-west-1:123:a:b", True),
        ("arn:aws:sns:eu-west-1:123:a:*", True),
        ("arn:aws:sns:eu-west-1:123:*", True),
        ("arn:aws:sns:eu-west-1:123:a:c", False),
        ("arn:aws:sns:*:a:b", False),
        ("arn:aws:sns:${aws:username, 'eu-west-1'}:123:a:b", True),
        ("arn:aws:sns:${my:none}:123:a:b", False),
        ("arn:aws:sns:eu-west-1:123:a:${my:none, 'b'}", True),
        ("arn:aws:sns:eu-west-1:${my:none, '123'}:${my:none, 'a:b'}", True),
    ],
)
def test_an_arn_of_a_condition_is_cut_at_its_first_five_colons(pattern: str, expected: bool) -> None:
    assert arn_matches(pattern, "arn:aws:sns:eu-west-1:123:a:b", NOTHING.get) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", True),
        ("arn:*", True),
        ("arn:aws:ses:*", True),
        ("arn:aws:ses:*:identity/x:y", True),
        ("arn:*:identity/x:y", True),
        ("arn:aws:ses:*:1:identity/*", True),
        ("arn:aws:ses:*-1:1:identity/x:y", True),
        ("arn:aws:ses:eu*:identity/*", True),
        ("arn:aws:ses:eu*1:identity/*", False),  # a star within a segment stays there
        ("arn:aws:ses:eu-west-?:1:identity/x:y", True),
        ("arn:aws:ses:eu-west-1?1:identity/x:y", False),
        ("arn:aws:ses:eu-west-1:1:identity/x?y", True),  # behind the fifth colon nothing is a boundary
        ("arn:aws:ses:eu-west-1:1:*y", True),
        ("arn:aws:ses:eu-west-1:1:identity/x", False),
        ("arn:aws:ses:eu-west-1:1", False),
        ("arn:aws:ses:eu-west-1:1:identity/x:y:*", False),
        ("ARN:aws:ses:eu-west-1:1:identity/x:y", False),
        ("arn:aws:ses:eu-west-1:1:identity/${my:none, 'x'}:y", True),
        ("arn:aws:ses:eu-west-1:1:identity/${my:none}:y", False),
        ("arn:aws:ses:eu-west-1:${my:none, '1'}:identity/x:y", False),
    ],
)
def test_a_star_that_ends_a_segment_of_a_resource_reaches_over_colons(pattern: str, expected: bool) -> None:
    assert resource_matches(pattern, "arn:aws:ses:eu-west-1:1:identity/x:y", NOTHING.get) == expected


def test_without_variables_a_brace_is_an_ordinary_character() -> None:
    assert arn_matches("arn:aws:sns:${a:b}:c", "arn:aws:sns:${a:b}:c", None)
    assert not arn_matches("arn:aws:sns:${a:b}:c", "arn:aws:sns:${a:b}:c", NOTHING.get)
    assert resource_matches("a:${b:c}:d:e:*", "a:${b:c}:d:e:f", None)


def test_a_resource_needs_something_behind_its_last_colon() -> None:
    assert not resource_matches("a:b:c:d:e:*", "a:b:c:d:e", None)
    assert resource_matches("a:b:c:d:e:*", "a:b:c:d:e:", None)


@pytest.mark.parametrize(
    ("variable", "filled"),
    [
        ("${aws:username}", "ann"),
        ("${ aws:username }", "ann"),
        ("${aws:username, 'x'}", "ann"),
        ("${my:none, 'x y'}", "x y"),
        ("${my:none,''}", ""),
        ("${my:empty, 'x'}", ""),
        ("${tag/cost center}", "7"),
        ("${tag/cost center, 'x'}", "7"),
        ("${my:none}", None),
        ("${my:none, x}", None),
        ("${my:none, 'x' y}", None),
        ("${}", None),
        ("${,'x'}", None),
        ("${*}${?}${$}", "*?$"),
        ("a${aws:username}b${my:star}c", "aannb*c"),
        ("${unclosed", "${unclosed"),
        ("${a${aws:username}", "${aann"),
    ],
)
def test_a_variable_is_a_key_with_or_without_a_default(variable: str, filled: str | None) -> None:
    assert literal(variable, {**VALUES, "tag/cost center": "7"}.get) == filled


def test_a_literal_keeps_wildcards_and_fills_variables() -> None:
    assert literal("*?${aws:username}", VALUES.get) == "*?ann"
    assert literal("${aws:username}", None) == "${aws:username}"
