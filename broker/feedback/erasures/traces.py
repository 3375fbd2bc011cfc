"""Where an address stands in what was stored, in every form that mail systems write it in; and taking it out. Pure."""

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


class Needle(msgspec.Struct, frozen=True):
    """Two parts that stand in every text that holds an address, however encoded: what a database can look for."""

    local: str
    domain: str


class Traces:
    """Finds one address: as it is, in percent-encoding (links), and with `=` for `@` (VERP return paths).

    As a whole only: erasing `ann@example.org` leaves `joann@example.org` alone.
    """

    def __init__(self, address: str) -> None:
        self.address = comparable(address)
        local, _, domain = self.address.rpartition("@")
        self.needle = Needle(_longest_word(local), _longest_word(domain))
        # RFC 5322, section 3.2.3: what an atom may hold. `+` and `-` before it are taken for VERP's separators.
        forms = rf"{re.escape(local)}(?:@|=){re.escape(domain)}"
        self._pattern = re.compile(rf"(?<![\w.!#$%&'*/?^`{{|}}~]){forms}(?![\w-]|\.\w)", re.IGNORECASE)

    def in_text(self, text: str) -> bool:
        """Whether a text holds it."""
        if self._pattern.search(text):
            return True
        return "%" in text and self._pattern.search(unquote(text)) is not None

    def in_value(self, value: Any) -> bool:
        """Whether it stands anywhere in decoded JSON: in a text, or in a name."""
        if isinstance(value, str):
            return self.in_text(value)
        if isinstance(value, Mapping):
            return any(self.in_value(part) for pair in value.items() for part in pair)
        return isinstance(value, list) and any(self.in_value(each) for each in value)

    def in_json(self, text: str) -> bool:
        """Whether a text that may be JSON holds it, also behind JSON's escapes."""
        if self.in_text(text):
            return True
        try:
            return "\\" in text and self.in_value(msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError):
            return False

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


def _longest_word(text: str) -> str:
    return max(_WORDS.findall(text), key=len, default="")
