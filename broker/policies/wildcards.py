"""Matches texts against IAM patterns (`*`, `?` and policy variables) in time that no pattern can blow up."""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache

CACHED = 512  # characters of the longest pattern or text that is kept, so that no document can fill the memory

# What a policy variable stands for: its value, or None where the request has no single value for that key.
Lookup = Callable[[str], str | None]

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
# Keys may hold spaces, as those of tags do (`aws:PrincipalTag/cost center`).
_DEFAULT = re.compile(r"\s*([^,']*[^,'\s])\s*(?:,\s*'([^']*)'\s*)?")
_ESCAPES = ("*", "?", "$")  # `${*}` is a star that is no wildcard (IAM User Guide, reference_policies_variables)
_ARN_PARTS = 6


class Wild(Enum):
    """The two wildcards: any run of characters, an empty one included, and exactly one character."""

    run = "*"
    one = "?"


Token = str | Wild
_WILD: Mapping[str, Token] = {wild.value: wild for wild in Wild}
# What stands between two stars: a text, or its characters where some are `?` (None).
Piece = str | tuple[str | None, ...]


def matches(pattern: str, text: str, lookup: Lookup | None) -> bool:
    """Whether the whole text fits the pattern; without a lookup `${…}` is ordinary text.

    A variable that the request cannot fill fits nothing, and wildcards inside a variable's value are ordinary
    characters.
    """
    if lookup is not None and "${" in pattern:
        tokens = _tokens(pattern, lookup)
        return tokens is not None and _fits(_pieces(tokens), text)
    if "*" not in pattern and "?" not in pattern:
        return pattern == text
    # A pattern that needs more characters than there are is not even taken apart, however long it is.
    if len(pattern) - pattern.count("*") > len(text):
        return False
    return _fits(_kept_pieces(pattern) if len(pattern) <= CACHED else _parsed(pattern), text)


def literal(pattern: str, lookup: Lookup | None) -> str | None:
    """The pattern with its variables filled, for operators without wildcards; None where one cannot be filled."""
    if lookup is None or "${" not in pattern:
        return pattern
    tokens = _tokens(pattern, lookup)
    if tokens is None:
        return None
    return "".join(token if isinstance(token, str) else token.value for token in tokens)


def arn_matches(pattern: str, arn: str, lookup: Lookup | None) -> bool:
    """Whether an ARN fits the pattern of an Arn… operator: each of its six parts is compared alone.

    No wildcard reaches over a colon between two parts (IAM User Guide,
    reference_policies_elements_condition_operators).
    """
    patterns, parts = _arn_parts(pattern, lookup), arn.split(":", _ARN_PARTS - 1)
    return len(patterns) == len(parts) == _ARN_PARTS and all(
        matches(one, part, lookup) for one, part in zip(patterns, parts, strict=True)
    )


def resource_matches(pattern: str, arn: str, lookup: Lookup | None) -> bool:
    """Whether an ARN fits a pattern of Resource, which is a little wider than one of a condition.

    A star that ends a segment may reach over colons, so that `arn:aws:ses:*` stands for all of SES; any other wildcard
    stays within its segment (IAM User Guide, reference_policies_elements_resource). Variables stand behind the fifth
    colon only and are ordinary text before it (reference_policies_variables).
    """
    return pattern == arn or _segments_fit(pattern.split(":", _ARN_PARTS - 1), arn.split(":"), lookup)


def _segments_fit(segments: Sequence[str], parts: Sequence[str], lookup: Lookup | None) -> bool:
    places = {0}  # how many parts of the ARN the segments so far may have taken
    for index, segment in enumerate(segments):
        if index == _ARN_PARTS - 1:
            return any(matches(segment, ":".join(parts[place:]), lookup) for place in places if place < len(parts))
        taken = {place + 1 for place in places if place < len(parts) and matches(segment, parts[place], None)}
        if taken and segment.endswith("*"):
            taken.update(range(min(taken), len(parts) + 1))
        places = taken
    return len(parts) in places


def _arn_parts(pattern: str, lookup: Lookup | None) -> list[str]:
    """Cut an ARN at its first five colons, but not at those inside a variable, whose name has one of its own."""
    if lookup is None or "${" not in pattern:
        return pattern.split(":", _ARN_PARTS - 1)
    parts = [""]
    for piece in re.split(r"(\$\{[^{}]*\}|:)", pattern):
        if piece == ":" and len(parts) < _ARN_PARTS:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _tokens(pattern: str, lookup: Lookup) -> list[Token] | None:
    tokens: list[Token] = []
    at = 0
    for found in _VARIABLE.finditer(pattern):
        value = _filled(found[1], lookup)
        if value is None:
            return None
        tokens += [*_wildcards(pattern[at : found.start()]), value]
        at = found.end()
    return [*tokens, *_wildcards(pattern[at:])]


def _wildcards(text: str) -> list[Token]:
    return [_WILD.get(part, part) for part in re.split(r"([*?])", text) if part]


def _filled(variable: str, lookup: Lookup) -> str | None:
    if variable in _ESCAPES:
        return variable
    found = _DEFAULT.fullmatch(variable)
    if found is None:
        return None
    value = lookup(found[1])
    return found[2] if value is None else value


def _parsed(pattern: str) -> tuple[Piece, ...]:
    return tuple(
        tuple(None if one == "?" else one for one in piece) if "?" in piece else piece for piece in pattern.split("*")
    )


_kept_pieces = lru_cache(maxsize=4096)(_parsed)


def _pieces(tokens: Sequence[Token]) -> tuple[Piece, ...]:
    """What stands before, between and behind the stars."""
    pieces: list[list[str | None]] = [[]]
    for token in tokens:
        if token is Wild.run:
            pieces.append([])
        elif token is Wild.one:
            pieces[-1].append(None)
        else:
            pieces[-1].extend(str(token))
    return tuple(tuple(piece) if None in piece else "".join(filter(None, piece)) for piece in pieces)


def _fits(pieces: Sequence[Piece], text: str) -> bool:
    """Nothing is tried twice: the leftmost place for what stands between two stars is always a right one."""
    head, tail = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return len(head) == len(text) and _stands(head, text, 0)
    begin, end = len(head), len(text) - len(tail)
    if begin > end or not _stands(head, text, 0) or not _stands(tail, text, end):
        return False
    for piece in pieces[1:-1]:
        found = text.find(piece, begin, end) if isinstance(piece, str) else _find(piece, text, begin, end)
        if found < 0:
            return False
        begin = found + len(piece)
    return True


def _stands(piece: Piece, text: str, place: int) -> bool:
    if isinstance(piece, str):
        return text.startswith(piece, place)
    there = text[place : place + len(piece)]
    return all(wanted in (None, given) for wanted, given in zip(piece, there, strict=True))


def _find(piece: Sequence[str | None], text: str, begin: int, end: int) -> int:
    """The leftmost place of a piece with `?` in it, -1 where there is none.

    All places are tried at once, each a bit of one number: the work is the length of the piece times that of the text
    in machine words, whatever both hold.
    """
    last = end - len(piece)
    if last < begin:
        return -1
    where = _kept_places(text) if len(text) <= CACHED else _kept_places_of_long(text)
    left = ((1 << (last + 1)) - 1) >> begin << begin
    for offset, wanted in enumerate(piece):
        if wanted is not None:
            left &= where.get(wanted, 0) >> offset
            if not left:
                return -1
    return (left & -left).bit_length() - 1


def _places(text: str) -> dict[str, int]:
    """For each character of the text a number that has the bits of its places."""
    found: dict[str, int] = {}
    for place, character in enumerate(text):
        found[character] = found.get(character, 0) | (1 << place)
    return found


_kept_places = lru_cache(maxsize=64)(_places)
_kept_places_of_long = lru_cache(maxsize=1)(_places)
