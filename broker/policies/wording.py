"""Words for the things that sentences about policies are made of."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from broker.policies.arns import parse_principal
from broker.policies.terms import FeedbackKind, View

VIEWS = {View.full: "in full", View.hashed: "as hashes", View.none: "not at all"}

_SHOWN = 12  # entries of a list that a sentence names


def listed(items: Sequence[str], *, last: str = "and") -> str:
    """ "nothing", "a", "a and b", "a, b and c"; the tail of a very long list is only counted."""
    shown = list(items) or ["nothing"]
    if len(shown) > _SHOWN:
        shown = [*shown[:_SHOWN], f"{len(items) - _SHOWN} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def quoted(items: Iterable[str]) -> list[str]:
    """Each text in quotation marks."""
    return [f'"{item}"' for item in items]


def when(moment: datetime) -> str:
    """A time as people write it, in UTC, with seconds only where there are any."""
    utc = moment.astimezone(UTC)
    return f"{utc.day} {utc:%b} {utc.year} {utc:%H:%M}{f':{utc:%S}' if utc.second else ''} UTC"


def span(duration: timedelta) -> str:
    """A positive duration in its biggest units: "30 days", "1 day 2 hours", "45 minutes", "10 seconds"."""
    seconds = int(duration.total_seconds())
    parts = []
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(counted(count, unit))
    return " ".join(parts[:2]) or "less than a second"


def shift(old: datetime, new: datetime) -> str:
    """ "30 days later", "2 hours earlier"; of what is days apart, the seconds are left out."""
    apart = abs(new - old)
    if apart >= timedelta(days=1):
        apart = timedelta(minutes=round(apart / timedelta(minutes=1)))
    return f"{span(apart)} {'later' if new > old else 'earlier'}"


def counted(count: int, noun: str) -> str:
    """ "1 sender", "2 senders", "3 addresses"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def kinds(events: Sequence[FeedbackKind]) -> str:
    """ "bounce and rendering failure", or "nothing"."""
    return listed([kind.replace("_", " ") for kind in events]) if events else "nothing"


def principal(text: str) -> str:
    """ "account 222222222222" or "user marketing/ann of account 222222222222"."""
    read = parse_principal(text)
    if read.kind == "account":
        return f"account {read.account_id}"
    return f"{read.kind} {read.path[1:]}{read.name} of account {read.account_id}"


def call(action: str) -> str:
    """The name of the API call behind an IAM action."""
    return action.partition(":")[2]


def sentence(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
