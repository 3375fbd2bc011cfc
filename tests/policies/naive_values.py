"""The half of the naive evaluator that compares values: wildcards, variables and operators."""

import base64
import ipaddress
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from tests.policies.examples import Json


def text_of(value: Json) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def glob(pattern: list[str], text: str) -> bool:
    """`pattern` is a list of characters, where the wildcards are "any" and "one"."""
    reachable = {0}
    for place in range(len(pattern)):
        here = set()
        for at in reachable:
            if pattern[place] == "any":
                here |= set(range(at, len(text) + 1))
            elif at < len(text) and pattern[place] in ("one", text[at]):
                here.add(at + 1)
        reachable = here
    return len(text) in reachable


def wild(text: str, known: dict[str, str] | None) -> list[str] | None:
    """variables: `${key}`, `${key, 'default'}`, `${*}`, `${?}`, `${$}`; no list where a variable has no value."""
    out: list[str] = []
    rest = text
    while rest:
        if known is not None and rest.startswith("${") and "}" in rest:
            inside, _, rest = rest[2:].partition("}")
            if inside in ("*", "?", "$"):
                out.append(inside)
                continue
            name, comma, default = inside.partition(",")
            value = known.get(name.strip().lower())
            if value is None and not comma:
                return None
            out += list(default.strip().strip("'") if value is None else value)
        else:
            out.append({"*": "any", "?": "one"}.get(rest[0], rest[0]))
            rest = rest[1:]
    return out


def like(pattern: str, text: str, known: dict[str, str] | None) -> bool:
    tokens = wild(pattern, known)
    return tokens is not None and glob(tokens, text)


def equal(wanted: str, text: str, known: dict[str, str] | None) -> bool:
    tokens = wild(wanted, known)
    return tokens is not None and "".join({"any": "*", "one": "?"}.get(each, each) for each in tokens) == text


def arn_like(pattern: str, text: str, known: dict[str, str] | None) -> bool:
    """elements_condition_operators: each of the six parts between colons is checked separately."""
    tokens = wild(pattern, known)
    if tokens is None or text.count(":") < 5:
        return False
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == ":" and len(parts) < 6:
            parts.append([])
        else:
            parts[-1].append(token)
    return len(parts) == 6 and all(glob(one, part) for one, part in zip(parts, text.split(":", 5), strict=True))


def resource(pattern: str, arn: str, known: dict[str, str] | None) -> bool:
    """elements_resource: wildcards stay within a segment, but a star that ends one can go on over colons.

    variables: they may stand behind the fifth colon only.
    """
    segments = pattern.split(":", 5)
    tokens: list[str] = []
    for number, segment in enumerate(segments[:5]):
        for place, character in enumerate(segment):
            star = "any" if place == len(segment) - 1 else "any within"
            tokens.append({"*": star, "?": "one within"}.get(character, character))
        if number < len(segments) - 1:
            tokens.append(":")
    tail = wild(segments[5], known) if len(segments) == 6 else []
    return tail is not None and walk([*tokens, *tail], arn)


def walk(tokens: list[str], text: str) -> bool:
    """The same as `glob`, with wildcards beside them that no colon fits."""
    reachable = {0}
    for token in tokens:
        here = set()
        for at in reachable:
            if token.startswith("any"):
                upto = text.find(":", at) if token == "any within" and ":" in text[at:] else len(text)
                here |= set(range(at, upto + 1))
            elif at < len(text) and (token in ("one", text[at]) or (token == "one within" and text[at] != ":")):
                here.add(at + 1)
        reachable = here
    return len(text) in reachable


def condition(written: str, wanted: list[Json], given: list[str] | None, known: dict[str, str] | None) -> bool:
    over, _, name = written.rpartition(":")
    values = [text_of(each) for each in wanted]
    if name == "Null":
        return any((each.lower() == "true") == (not given) for each in values if each.lower() in ("true", "false"))
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = "Not" in name
    base = name.replace("Not", "")
    if given is None and if_exists:
        return True
    if over == "ForAllValues":
        return all(any(compare(base, each, one, known) for each in values) != negated for one in given or [])
    if over == "ForAnyValue":
        return any(any(compare(base, each, one, known) for each in values) != negated for one in given or [])
    return any(compare(base, each, one, known) for each in values for one in given or []) != negated


def compare(name: str, wanted: str, given: str, known: dict[str, str] | None) -> bool:
    if name == "StringEquals":
        return equal(wanted, given, known)
    if name == "StringEqualsIgnoreCase":
        lower = {key: value.lower() for key, value in known.items()} if known is not None else None
        return equal(wanted.lower(), given.lower(), lower)
    if name == "StringLike":
        return like(wanted, given, known)
    if name in ("ArnLike", "ArnEquals"):
        return arn_like(wanted, given, known)
    if name == "Bool":
        return wanted.lower() == given.lower() and given.lower() in ("true", "false")
    if name == "BinaryEquals":
        return binary(wanted) is not None and binary(wanted) == binary(given)
    if name == "IpAddress":
        return within(wanted, given)
    if name.startswith("Date"):
        return ordered(name.removeprefix("Date"), date(wanted), date(given))
    return ordered(name.removeprefix("Numeric"), number(wanted), number(given))


def ordered(how: str, wanted: datetime | Fraction | None, given: datetime | Fraction | None) -> bool:
    if wanted is None or given is None:
        return False
    if isinstance(wanted, datetime):
        assert isinstance(given, datetime)
        distance = Fraction((given - wanted) // timedelta(microseconds=1))
    else:
        assert isinstance(given, Fraction)
        distance = given - wanted
    return {
        "Equals": distance == 0,
        "LessThan": distance < 0,
        "LessThanEquals": distance <= 0,
        "GreaterThan": distance > 0,
        "GreaterThanEquals": distance >= 0,
    }[how]


def number(text: str) -> Fraction | None:
    try:
        return None if "/" in text or "_" in text else Fraction(text)
    except ValueError:
        return None


def date(text: str) -> datetime | None:
    """W3C's NOTE-datetime, or epoch seconds; four digits are a year."""
    if text.isdigit() and len(text) > 4:
        return datetime.fromtimestamp(int(text), UTC)
    padded = {4: f"{text}-01-01", 7: f"{text}-01"}.get(len(text), text)
    try:
        found = datetime.fromisoformat(padded)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def within(block: str, address: str) -> bool:
    try:
        one, network = ipaddress.ip_address(address), ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False
    if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped:
        one = one.ipv4_mapped
    return one.version == network.version and one in network


def binary(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
