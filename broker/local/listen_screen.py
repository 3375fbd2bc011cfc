"""What `broker listen` prints: a table for people, or one JSON object per event for programs."""

import time

import click
import msgspec

from broker.local.forwarded import About, Forwarded

WIDEST = 40


class Table:
    """A line per event on stdout."""

    def __init__(self) -> None:
        """Begin without a heading, which comes before the first line."""
        self._begun = False

    def say(self, sentence: str) -> None:
        """Between the lines."""
        click.echo(sentence, err=True)

    def show(self, forwarded: Forwarded) -> None:
        """Time, type, whom it is about, the answer, and how long that took."""
        if not self._begun:
            click.secho(_line("time", "type", "about", "answer", "ms"), dim=True)
        self._begun = True
        answer = str(forwarded.status or "none")
        line = _line(time.strftime("%H:%M:%S"), forwarded.type, _about(forwarded.about), answer, str(forwarded.ms))
        why = f"  {forwarded.error}" if forwarded.error else ""
        click.secho(line + why, fg=None if forwarded.accepted else "red")


class Lines:
    """A JSON object per event on stdout, everything else on stderr."""

    def say(self, sentence: str) -> None:
        """For people."""
        click.echo(sentence, err=True)

    def show(self, forwarded: Forwarded) -> None:
        """One object."""
        told = msgspec.to_builtins(forwarded)
        click.echo(msgspec.json.encode(told | told.pop("about")))


def _line(at: str, kind: str, about: str, answer: str, ms: str) -> str:
    return f"{at:<8}  {kind:<26} {about:<{WIDEST}} {answer:>6} {ms:>6}"


def _about(about: About) -> str:
    if about.recipient:
        return _fitting(about.recipient)
    if about.recipient_hash:
        return f"hash {about.recipient_hash[:16]}…"
    return f"grant {about.grant_id}"[:WIDEST] if about.grant_id else ""


def _fitting(text: str) -> str:
    """Short enough for its column, and nothing that a terminal would obey: addresses are written by strangers."""
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return plain if len(plain) <= WIDEST else f"{plain[: WIDEST - 1]}…"
