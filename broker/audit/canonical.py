"""Canonical JSON (RFC 8785): one text for one value, so that hashes and signatures can be checked by anybody."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal

_PLAIN_BELOW = 21  # ECMAScript writes numbers up to 10^21 without an exponent (Number::toString)
_PLAIN_ABOVE = -6


def canonical(value: object) -> bytes:
    """The canonical form of a JSON value; `ValueError` for what JSON cannot say.

    Integers beyond 2^53, which RFC 8785 leaves to texts, are written digit by digit.
    """
    return _text(value).encode()


def _text(value: object) -> str:
    match value:
        case None | True | False:
            return json.dumps(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            return str(value)
        case float():
            return _number(value)
        case Mapping():
            return "{" + ",".join(f"{_text(name)}:{_text(value[name])}" for name in _in_order(value)) + "}"
        case list() | tuple():
            return "[" + ",".join(_text(each) for each in value) + "]"
    raise ValueError(f"{type(value).__name__} is no JSON.")


def _in_order(value: Mapping[object, object]) -> list[str]:
    """Names by their UTF-16 code units (RFC 8785, section 3.2.3)."""
    names = [name for name in value if isinstance(name, str)]
    if len(names) != len(value):
        raise ValueError("The names in a JSON object are texts.")
    return sorted(names, key=lambda name: name.encode("utf-16-be"))


def _number(value: float) -> str:
    """As ECMAScript writes it (RFC 8785, section 3.2.2.3): the shortest digits that give the same number again."""
    if not math.isfinite(value):
        raise ValueError("JSON has no NaN and no infinity.")
    if value == 0:
        return "0"
    parts = Decimal(repr(abs(value))).as_tuple()
    all_digits = "".join(map(str, parts.digits))
    digits = all_digits.rstrip("0")
    point = len(all_digits) + int(parts.exponent)
    return ("-" if value < 0 else "") + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    """Digits with the decimal point after `point` of them."""
    if len(digits) <= point <= _PLAIN_BELOW:
        return digits + "0" * (point - len(digits))
    if 0 < point <= _PLAIN_BELOW:
        return f"{digits[:point]}.{digits[point:]}"
    if _PLAIN_ABOVE < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"
