"""Which identities beneath a domain the From addresses of a grant reach."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feedback.children import concerned, have_common_text

OTHERS = (
    "news.example.com",
    "eu.news.example.com",
    "boss@example.com",
    "a@news.example.com",
    "example.org",
    "example.com",
)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), ("a@news.example.com", "boss@example.com", "eu.news.example.com", "news.example.com")),
        (("*",), ("a@news.example.com", "boss@example.com", "eu.news.example.com", "news.example.com")),
        (("shop@example.com",), ()),
        (("boss@example.com",), ("boss@example.com",)),
        (("Boss@Example.com",), ("boss@example.com",)),
        (("b?ss@example.com",), ("boss@example.com",)),
        (("*@example.com",), ("boss@example.com",)),
        (("x@news.example.com",), ("news.example.com",)),
        (("*@*.example.com",), ("a@news.example.com", "eu.news.example.com", "news.example.com")),
        # A sub-domain's settings hold for what is beneath it unless that is verified itself.
        (("x@deep.eu.news.example.com",), ("eu.news.example.com", "news.example.com")),
        (("x@*s.example.com",), ("eu.news.example.com", "news.example.com")),
        (("x@n*.example.org",), ()),
    ],
)
def test_what_overlaps_has_a_say(patterns: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert expected == concerned("example.com", OTHERS, patterns)


def test_nothing_lies_beneath_an_address() -> None:
    assert () == concerned("boss@example.com", OTHERS, ())


@given(st.text("ab*?", max_size=6), st.text("ab", max_size=6))
def test_a_pattern_meets_a_plain_text_when_it_matches_it(pattern: str, plain: str) -> None:
    assert fnmatchcase(plain, pattern) == have_common_text(pattern, plain)


@given(st.text("ab*?", max_size=5), st.text("ab*?", max_size=5), st.text("ab", max_size=5))
def test_two_patterns_that_one_text_fits_meet(one: str, other: str, plain: str) -> None:
    assert have_common_text(one, other) == have_common_text(other, one)
    if fnmatchcase(plain, one) and fnmatchcase(plain, other):
        assert have_common_text(one, other)
