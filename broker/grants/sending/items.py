"""One line of a checklist: what may stop a send, or let it arrive as spam."""

from enum import StrEnum

import msgspec


class Status(StrEnum):
    ok = "ok"
    problem = "problem"
    unknown = "unknown"


class Item(msgspec.Struct, frozen=True):
    """`stops`: a problem of this kind makes SES refuse the send; others only hurt what becomes of the mail.

    `fix` says what to change, or how to find out what is unknown here; None where nothing is to be done.
    """

    code: str
    status: Status
    sentence: str
    fix: str | None = None
    stops: bool = True


def ok(code: str, sentence: str) -> Item:
    """Nothing to do."""
    return Item(code, Status.ok, sentence)


def aside(item: Item) -> Item:
    """The item as one that never makes SES refuse."""
    return msgspec.structs.replace(item, stops=False)


def problem(code: str, sentence: str, fix: str) -> Item:
    """SES refuses the send."""
    return Item(code, Status.problem, sentence, fix)


def warning(code: str, sentence: str, fix: str) -> Item:
    """SES takes the send, and it may be lost later."""
    return Item(code, Status.problem, sentence, fix, stops=False)


def unknown(code: str, sentence: str, how: str) -> Item:
    """Nobody here can know; `how` to find out."""
    return Item(code, Status.unknown, sentence, how)
