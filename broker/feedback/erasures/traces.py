"""Where an address stands in what was stored, in every form that mail systems write it in; and taking it out. Pure."""

import html
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import msgspec

from broker.feedback.keys import comparable
from broker.webhooks.render import bare

# An ARN of an address identity names the sender, on which both parties have agreed.
_KEPT = frozenset({"identity"})
_WORDS = re.compile(r"[a-z0-9]+")
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)  # RFC 8259, section 7
_DEEPEST = 8


class Needle(msgspec.Struct, frozen=True):
    """Two parts that stand in every text that holds an address, however encoded: what a database can look for."""

    local: str
    domain: str


class Traces:
    """Finds one address: as it is, behind escapes, and with `=` for `@` (VERP return paths).

    As a whole only: erasing `ann@example.org` leaves `joann@example.org` alone.
    """

    def __init__(self, address: str) -> None:
        self.address = comparable(address)
        local, _, domain = self.address.rpartition("@")
        self.needle = Needle(_longest_word(local), _longest_word(domain))
        # An atom may hold more (RFC 5322, section 3.2.3), but before an address those are quotes, slashes and braces of
        # the text around it far more often. `+` and `-` before a form with `=` are VERP's separators.
        forms = rf"(?:(?<![A-Z0-9._+-]){re.escape(local)}@|(?<![A-Z0-9._]){re.escape(local)}=){re.escape(domain)}"
        self._pattern = re.compile(rf"{forms}(?![\w-]|\.\w)", re.IGNORECASE)

    def in_text(self, text: str) -> bool:
        """Whether a text holds it, also behind escapes of links, of HTML and of JSON, however deep and wherever cut."""
        for _ in range(_DEEPEST):
            if self._pattern.search(text):
                return True
            before, text = text, _unescaped(text)
            if text == before:
                return False
        return self._pattern.search(text) is not None

    def in_value(self, value: Any) -> bool:
        """Whether it stands anywhere in decoded JSON: in a text, or in a name."""
        if isinstance(value, str):
            return self.in_text(value)
        if isinstance(value, Mapping):
            return any(self.in_value(part) for pair in value.items() for part in pair)
        return isinstance(value, list) and any(self.in_value(each) for each in value)

    def out_of(self, value: Any) -> Any:
        """Decoded JSON without it: null for a text that holds it; from lists and names it is taken away."""
        if isinstance(value, str):
            return None if self.in_text(value) else value
        if isinstance(value, Mapping):
            return {
                name: part if name in _KEPT else self.out_of(part)
                for name, part in value.items()
                if not self.in_text(str(name))
            }
        if isinstance(value, list):
            return [self.out_of(each) for each in value if not (isinstance(each, str) and self.in_text(each))]
        return value

    def blanked(self, data: Mapping[str, Any], *, is_recipient: bool) -> dict[str, Any] | None:
        """What is left of a mail event; None: all of it.

        All that may tell of its recipient goes; from the events of others only the address does.
        """
        if is_recipient or self._is(data.get("recipient")):
            return emptied(data)
        return self.out_of(data) if self.in_value({k: v for k, v in data.items() if k not in _KEPT}) else None

    def _is(self, recipient: object) -> bool:
        return isinstance(recipient, str) and comparable(recipient) == self.address


def emptied(data: Mapping[str, Any]) -> dict[str, Any]:
    """A mail event without its recipient: what the view `none` shows, what counts need, and that it was erased."""
    counted = {name: form(data.get(name)) for name, form in _COUNTED.items()}
    return {**bare(data), **counted, "event_id": data.get("event_id"), "erased": True}


def _written(pattern: str) -> Callable[[object], str | None]:
    form = re.compile(pattern)
    return lambda value: value if isinstance(value, str) and form.fullmatch(value) else None


# By what an event that is erased before it was reckoned still counts; only in the form that tells of nobody.
_COUNTED: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        "sent_at": _written(r"[\dT:.Z+-]{1,40}"),
        "complaint_sub_type": _written(r"[A-Za-z]{1,40}"),
        "recipients": lambda value: value if type(value) is int else None,
    }
)


def _unescaped(text: str) -> str:
    """One layer less of every kind of escape."""
    if "%" in text:
        text = unquote(text)
    if "&" in text:
        text = html.unescape(text)
    return _ESCAPED.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    code, one = escape.groups()
    if code:
        return chr(int(code, 16))
    return " " if one in "nrtbf" else one


def _longest_word(text: str) -> str:
    return max(_WORDS.findall(text), key=len, default="")
