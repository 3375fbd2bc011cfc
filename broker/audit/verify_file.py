"""Checks an exported trail without the broker, by the service's public keys alone."""

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec

from broker.audit.chain import withheld
from broker.audit.export import EntryLine, Head, HeadLine
from broker.audit.signing import PublicKeys
from broker.audit.verify import Finding, Link, Wrong, check_chain, check_head, check_link, check_order

_ENCODED = msgspec.json.Decoder(HeadLine | EntryLine)


class Verdict(msgspec.Struct, frozen=True):
    """What was found; `head` is the end of the own chain, `own` and `others` how many entries were looked at."""

    findings: Sequence[Finding]
    head: Head | None
    own: int
    others: int


def verify_file(file: BinaryIO, keys: PublicKeys, *, earlier: HeadLine | None = None) -> Verdict:
    """Checks an export, whose first line is its head; `earlier` is a head of the same chain that was kept elsewhere."""
    findings: list[Finding] = []
    head: HeadLine | None = None
    entries: list[EntryLine] = []
    for number, line in enumerate(_decoded(file), 1):
        if isinstance(line, Finding):
            findings.append(line)
        elif isinstance(line, EntryLine):
            entries.append(line)
        elif number == 1:
            head = line
        else:
            findings.append(Finding(Wrong.INSERTED, f"Line {number} is a second head."))
    if head is None:
        findings.append(Finding(Wrong.CUT, "The first line is not the head: what was before the rest was cut off."))
    tenant = head.head.tenant_id if head else None
    own = [each for each in entries if each.seal.tenant_id == tenant]
    others = [each for each in entries if each.seal.tenant_id != tenant]
    findings += _check(own, others, head, earlier, keys)
    return Verdict(findings, head.head if head else None, len(own), len(others))


def _decoded(file: BinaryIO) -> Iterator[HeadLine | EntryLine | Finding]:
    for number, text in enumerate(file, 1):
        try:
            line = _ENCODED.decode(text)
            told = json.loads(text, object_pairs_hook=_no_repeats)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            yield Finding(Wrong.UNREADABLE, f"Line {number} is not of an export: {error}.")
            continue
        # No seal covers what the decoder passes over, and whoever reads the file would take it for sealed.
        if strange := _added(told, msgspec.to_builtins(line)):
            yield Finding(Wrong.INSERTED, f"Line {number} was changed: nobody sealed its {strange}.")
        yield line


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """`ValueError` for a name that is given twice: readers differ in which of the two they take (RFC 8259, 4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _added(told: object, read: object) -> str | None:
    """The first name in `told` that was not read."""
    if not isinstance(told, dict) or not isinstance(read, dict):
        return None
    for name, value in told.items():
        if name not in read:
            return str(name)[:80]
        if strange := _added(value, read[name]):
            return f"{name}.{strange}"
    return None


def _check(
    own: Sequence[EntryLine],
    others: Sequence[EntryLine],
    head: HeadLine | None,
    earlier: HeadLine | None,
    keys: PublicKeys,
) -> Iterator[Finding]:
    for line in (*own, *others):
        yield from check_link(_link(line), keys)
        yield from _check_withheld(line)
    yield from filter(None, map(_check_maker, own))
    chain = [_link(line) for line in own]
    yield from check_order(chain)
    if head is not None:
        yield from check_signed(head, keys)
        yield from check_chain(chain, head=(head.head.position, head.head.hash))
    if earlier is not None:
        yield from check_signed(earlier, keys)
        if head is not None and earlier.head.tenant_id != head.head.tenant_id:
            yield Finding(Wrong.UNREADABLE, "The earlier head is that of another tenant's chain.")
        else:
            yield from check_head(chain, (earlier.head.position, earlier.head.hash))
    seen: set[tuple[str, int]] = set()
    for line in others:
        place = (line.seal.tenant_id, line.seal.position)
        if place in seen:
            yield Finding(Wrong.INSERTED, f"The entry {line.seal.entry_id} is there twice.", *place, line.seal.entry_id)
        seen.add(place)


def check_signed(line: HeadLine, keys: PublicKeys) -> Iterator[Finding]:
    """Whether the service signed this head."""
    if not keys.has_signed(line.signature, msgspec.to_builtins(line.head)):
        yield Finding(Wrong.FORGED, "The head of the chain is not signed by this service.", line.head.tenant_id)


def _link(line: EntryLine) -> Link:
    return Link(line.seal, line.record)


def _check_withheld(line: EntryLine) -> Iterator[Finding]:
    """The key and the request, where they are told."""
    if line.request_id is not None and withheld(line.key_id, line.request_id) != line.record.withheld:
        sentence = f"The entry at {line.seal.position} ({line.record.id}) was changed: another key or request made it."
        yield Finding(Wrong.CHANGED, sentence, line.seal.tenant_id, line.seal.position, line.record.id)


def _check_maker(line: EntryLine) -> Finding | None:
    """An export tells its own tenant who made each entry."""
    if line.request_id is not None:
        return None
    sentence = f"The entry at {line.seal.position} ({line.record.id}) was changed: its key and request are gone."
    return Finding(Wrong.CHANGED, sentence, line.seal.tenant_id, line.seal.position, line.record.id)
