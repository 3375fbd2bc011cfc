"""Matches texts against IAM patterns (`*`, `?` and policy variables) in time that no pattern can blow up."""

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache

CACHED = 512  # characters of the longest pattern that is kept, so that no document can fill the memory

# What a policy variable stands for: its value, or None where the request has no single value for that key.
Lookup = Callable[[str], str | None]

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_DEFAULT = re.compile(r"\s*([^,\s]+)\s*(?:,\s*'([^']*)'\s*)?")
_ESCAPES = ("*", "?", "$")  # `${*}` is a star that is no wildcard (IAM User Guide, reference_policies_variables)


class Wild(Enum):
    """The two wildcards: any run of characters, an empty one included, and exactly one character."""

    run = "*"
    one = "?"


Token = str | Wild


def matches(pattern: str, text: str, lookup: Lookup | None) -> bool:
    """Whether the whole text fits the pattern; without a lookup `${…}` is ordinary text.

    A variable that the request cannot fill fits nothing, and wildcards inside a variable's value are ordinary
    characters.
    """
    if "*" not in pattern and "?" not in pattern and "$" not in pattern:
        return pattern == text
    tokens = _tokens(pattern, lookup)
    # A pattern that needs more characters than there are is never compiled, however long it is.
    if tokens is None or sum(_least(token) for token in tokens) > len(text):
        return False
    return _compiled(tokens).fullmatch(text) is not None


def literal(pattern: str, lookup: Lookup | None) -> str | None:
    """The pattern with its variables filled, for operators without wildcards; None where one cannot be filled."""
    if lookup is None or "${" not in pattern:
        return pattern
    tokens = _tokens(pattern, lookup)
    if tokens is None:
        return None
    return "".join(token if isinstance(token, str) else token.value for token in tokens)


def arn_matches(pattern: str, arn: str, lookup: Lookup | None) -> bool:
    """Whether an ARN fits a pattern, each of its six parts compared alone: no wildcard reaches over a colon of ARNs."""
    patterns = _arn_parts(pattern) if lookup is not None and "${" in pattern else pattern.split(":", 5)
    parts = arn.split(":", 5)
    return len(patterns) == len(parts) == 6 and all(map(lambda one, part: matches(one, part, lookup), patterns, parts))


def _arn_parts(pattern: str) -> list[str]:
    """Cut an ARN at its colons, but not at those inside a variable, whose name has one of its own."""
    parts = [""]
    for piece in re.split(r"(\$\{[^{}]*\}|:)", pattern):
        if piece == ":" and len(parts) < 6:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def fillable(pattern: str, lookup: Lookup) -> bool:
    """Whether the request has a value for every policy variable in the pattern."""
    return "${" not in pattern or all(_filled(found[1], lookup) is not None for found in _VARIABLE.finditer(pattern))


def _least(token: Token) -> int:
    return len(token) if isinstance(token, str) else int(token is Wild.one)


def _tokens(pattern: str, lookup: Lookup | None) -> tuple[Token, ...] | None:
    if lookup is None or "${" not in pattern:
        return _wildcards(pattern)
    tokens: list[Token] = []
    at = 0
    for found in _VARIABLE.finditer(pattern):
        value = _filled(found[1], lookup)
        if value is None:
            return None
        tokens += [*_wildcards(pattern[at : found.start()]), value]
        at = found.end()
    return (*tokens, *_wildcards(pattern[at:]))


def _wildcards(text: str) -> tuple[Token, ...]:
    return _split(text) if len(text) <= CACHED else _split.__wrapped__(text)


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[Token, ...]:
    parts = re.split(r"(\*+|\?)", text)
    return tuple(Wild(part[0]) if part[0] in "*?" else part for part in parts if part)


def _filled(variable: str, lookup: Lookup) -> str | None:
    if variable in _ESCAPES:
        return variable
    found = _DEFAULT.fullmatch(variable)
    if found is None:
        return None
    value = lookup(found[1])
    return found[2] if value is None else value


def _compiled(tokens: tuple[Token, ...]) -> re.Pattern[str]:
    return _regex(tokens) if sum(map(_least, tokens)) + len(tokens) <= CACHED else _regex.__wrapped__(tokens)


@lru_cache(maxsize=4096)
def _regex(tokens: tuple[Token, ...]) -> re.Pattern[str]:
    """A regular expression that never backtracks over a star.

    The leftmost place for the text between two stars is always a right one, so each is an atomic group: the worst case
    is the length of the text times that of the longest such piece.
    """
    pieces = [""]
    for token in tokens:
        if token is Wild.run:
            pieces.append("")
        else:
            pieces[-1] += "." if token is Wild.one else re.escape(str(token))
    if len(pieces) == 1:
        return re.compile(pieces[0], re.DOTALL)
    head, *middle, tail = pieces
    stars = "".join(f"(?>.*?{piece})" for piece in middle if piece)
    return re.compile(f"{head}{stars}.*{tail}", re.DOTALL)
