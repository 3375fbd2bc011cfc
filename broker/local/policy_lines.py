"""Answers JSON lines that ask what policies decide, one by one as they come."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import msgspec

from broker.policies.context import Send
from broker.policies.document import MAX_READ, Document, DocumentError, no_repeats, read
from broker.policies.evaluate import Decision, evaluate
from broker.policies.operators import as_date

# A line is held in memory once. It may be far longer than any policy that is read, so that an oversized policy gets its
# own answer, under the id of its line.
MAX_LINE = 16 * 1024 * 1024
MAX_POLICIES = 100  # SES takes 20 on one identity
_NULL = msgspec.Raw(b"null")
_LONGEST_RAW = MAX_READ * 6 + 2  # bytes: each character of a text may be written as \uXXXX
_HEAD = re.compile(rb'\s*\{\s*"id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){0,1000}"|-?[0-9.eE+-]{1,100}|true|false|null)\s*,')


class _Line(msgspec.Struct, frozen=True):
    policies: list[msgspec.Raw]
    identity_arn: str
    send: Send
    id: msgspec.Raw = _NULL


class _AnyLine(msgspec.Struct, frozen=True):
    """A line whose send is not checked yet."""

    policies: list[msgspec.Raw]
    identity_arn: str
    send: dict[str, object]
    id: msgspec.Raw = _NULL


class _Id(msgspec.Struct, frozen=True):
    id: msgspec.Raw = _NULL


class _Answer(msgspec.Struct, frozen=True):
    id: msgspec.Raw
    decision: Decision
    statement: str | None
    reason: str


class _Failure(msgspec.Struct, frozen=True):
    id: msgspec.Raw
    error: str


_LINE = msgspec.json.Decoder(_Line)
_ANY_LINE = msgspec.json.Decoder(_AnyLine)
_ID = msgspec.json.Decoder(_Id)
_TEXT = msgspec.json.Decoder(str)


def answer_all(lines: BinaryIO, out: BinaryIO) -> None:
    """Answer every line of `lines` on `out`, each before the next is read; OSError where either end is gone."""
    for line in _lines(lines):
        out.write(answer(line) + b"\n")
        out.flush()


def answer(line: bytes) -> bytes:
    """The answer to one line: a decision, or the error that kept it from being made."""
    if len(line) > MAX_LINE:
        return _failure(_first_id(line), f"The line has more than {MAX_LINE} bytes.")
    try:
        asked = _asked(line)
        _check(asked)
        documents = [_document(raw) for raw in asked.policies]
        _refuse_repeats(line)
        verdict = evaluate(documents, asked.send, identity_arn=asked.identity_arn)
        return msgspec.json.encode(_Answer(_checked(asked.id), verdict.decision, verdict.statement, verdict.reason))
    except msgspec.MsgspecError as error:
        return _failure(_id_of(line), f"{error}.")
    except RecursionError:
        return _failure(_first_id(line), "The line is nested too deeply.")
    except UnicodeError:
        return _failure(_id_of(line), "The line is not UTF-8.")
    except ValueError as error:
        return _failure(_id_of(line), str(error))


@contextmanager
def hand_over(out: BinaryIO) -> Iterator[BinaryIO]:
    """Lets a reader of our answers that goes away, such as `head`, end the work without an error."""
    try:
        yield out
    except BrokenPipeError:
        # What is left in the buffer would raise once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines that hold anything; of one that is too long only its beginning, one byte more than is allowed."""
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(65_536)
        if line.strip(b" \t\r\n\xef\xbb\xbf"):
            yield line.removeprefix(b"\xef\xbb\xbf")


def _asked(line: bytes) -> _Line:
    try:
        return _LINE.decode(line)
    except msgspec.ValidationError:
        loose = _ANY_LINE.decode(line)
        given = loose.send.get("time")
        moment = as_date(str(given)) if isinstance(given, str | int | float) and not isinstance(given, bool) else None
        if moment is None:
            raise
        send = msgspec.convert({**loose.send, "time": moment}, Send)
        return _Line(loose.policies, loose.identity_arn, send, loose.id)


def _check(asked: _Line) -> None:
    if len(asked.policies) > MAX_POLICIES:
        raise ValueError(f"policies has {len(asked.policies)} entries; at most {MAX_POLICIES} are read, SES takes 20.")
    if asked.identity_arn.count(":") < 5:
        raise ValueError(
            f"identity_arn {asked.identity_arn[:200]!r} is not an ARN (arn:aws:ses:REGION:ACCOUNT:identity/NAME)."
        )


def _refuse_repeats(line: bytes) -> None:
    """Of two `send` or two `from`, which counts is for nobody to guess."""
    json.loads(line, object_pairs_hook=no_repeats, parse_int=str, parse_float=str)


def _document(raw: msgspec.Raw) -> Document:
    text = bytes(raw)
    if len(text) > _LONGEST_RAW:
        raise DocumentError(
            f"The document has {len(text)} bytes; at most {MAX_READ} characters are read, and SES takes 4096 bytes."
        )
    return read(_TEXT.decode(raw) if text.startswith(b'"') else text.decode())


def _checked(identifier: msgspec.Raw) -> msgspec.Raw:
    bytes(identifier).decode()
    return identifier


def _id_of(line: bytes) -> msgspec.Raw:
    try:
        return _checked(_ID.decode(line).id)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return _first_id(line)


def _first_id(line: bytes) -> msgspec.Raw:
    """The id of a line that is no JSON, if it is what the line begins with."""
    found = _HEAD.match(line[:2_000])
    try:
        return _checked(msgspec.Raw(found[1])) if found else _NULL
    except UnicodeError:
        return _NULL


def _failure(identifier: msgspec.Raw, sentence: str) -> bytes:
    return msgspec.json.encode(_Failure(identifier, sentence))
