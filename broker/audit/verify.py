"""What is wrong with a chain of seals: rules, the same for an exported file and for the database."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec

from broker.audit.chain import BEGINNING, Record, Seal, digest_of, hash_of, is_signed
from broker.audit.signing import PublicKeys


class Wrong(StrEnum):
    """What happened to an entry or to its seal."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    FORGED = "forged"
    CUT = "cut"
    UNREADABLE = "unreadable"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where: in whose chain, at which place, with which entry."""

    wrong: Wrong
    sentence: str
    tenant_id: str | None = None
    position: int | None = None
    entry_id: str | None = None


class Link(msgspec.Struct, frozen=True):
    """A seal and the entry that it seals, if there still is one."""

    seal: Seal
    record: Record | None


def check_link(link: Link, keys: PublicKeys) -> Iterator[Finding]:
    """One entry by itself: whether the service sealed exactly this."""
    seal = link.seal
    if link.record is None:
        yield _found(Wrong.REMOVED, seal, "is gone; its seal is still there")
    elif _digest(link.record) != seal.digest or (link.record.id, link.record.tenant_id) != (
        seal.entry_id,
        seal.tenant_id,
    ):
        yield _found(Wrong.CHANGED, seal, "was changed: it is not what was sealed")
    if hash_of(seal) != seal.hash:
        yield _found(Wrong.CHANGED, seal, "has a seal that was changed: its hash is another")
    elif seal.signature.key_id not in keys:
        yield _found(Wrong.FORGED, seal, f"was sealed with the key {seal.signature.key_id}, which is none of these")
    elif not is_signed(seal, keys):
        yield _found(Wrong.FORGED, seal, "has a seal that this service did not sign")


def check_order(links: Sequence[Link]) -> Iterator[Finding]:
    """Links in the order in which they were found: whether one was moved."""
    for before, link in pairwise(links):
        if link.seal.position < before.seal.position:
            yield _found(Wrong.REORDERED, link.seal, f"comes after the entry at {before.seal.position}")


def check_chain(links: Sequence[Link], *, head: tuple[int, str] | None) -> Iterator[Finding]:
    """A whole chain: whether each seal follows on the one before, from the first to the head, if one is known."""
    before_position, before_hash = 0, BEGINNING
    for link in sorted(links, key=lambda each: each.seal.position):
        seal = link.seal
        if seal.position == before_position:
            yield _found(Wrong.INSERTED, seal, "is there twice, or another one was put at its place")
            continue
        if seal.position > before_position + 1:
            yield _gap(seal, before_position + 1)
        elif seal.previous != before_hash:
            yield _found(Wrong.REORDERED, seal, "does not follow on the entry before it: one of them was put there")
        before_position, before_hash = seal.position, seal.hash
    if head is not None and links:
        yield from _check_head(links[0].seal.tenant_id, (before_position, before_hash), head)
    elif head is not None and head[0]:
        yield Finding(Wrong.CUT, f"All {head[0]} entries of the chain are gone.", position=1)


def check_head(links: Sequence[Link], head: tuple[int, str]) -> Iterator[Finding]:
    """Whether a chain still has the place that an earlier head names."""
    position, hash_ = head
    if position == 0:
        return
    there = [each.seal for each in links if each.seal.position == position]
    if not there:
        yield Finding(
            Wrong.CUT, f"The chain once went to {position}, and has no entry there any more.", position=position
        )
    elif all(seal.hash != hash_ for seal in there):
        yield _found(Wrong.FORGED, there[0], "is not what was there when the earlier head was signed: it was rewritten")


def unsealed(record: Record) -> Finding:
    """Of an entry that lies before the head of its chain, and is not in it."""
    return Finding(
        Wrong.INSERTED,
        f"Entry {record.id} ({record.action}) was put in afterwards: it is not in the chain, which has passed it.",
        record.tenant_id,
        None,
        record.id,
    )


def _check_head(tenant_id: str, last: tuple[int, str], head: tuple[int, str]) -> Iterator[Finding]:
    if last[0] < head[0]:
        sentence = f"The chain is cut: it has to go to {head[0]}, and ends at {last[0]}."
        yield Finding(Wrong.CUT, sentence, tenant_id, last[0] + 1)
    elif last[0] > head[0]:
        sentence = f"The chain has to end at {head[0]}, and goes to {last[0]}."
        yield Finding(Wrong.INSERTED, sentence, tenant_id, head[0] + 1)
    elif last[1] != head[1]:
        yield Finding(Wrong.CHANGED, f"The seal at {last[0]} is not the head of the chain.", tenant_id, last[0])


def _gap(seal: Seal, first: int) -> Finding:
    last = seal.position - 1
    which = f"The entry at {first} is" if first == last else f"The entries at {first} to {last} are"
    return Finding(Wrong.REMOVED, f"{which} gone, with the seal.", seal.tenant_id, first)


def _digest(record: Record) -> str | None:
    try:
        return digest_of(record)
    except ValueError:
        return None


def _found(wrong: Wrong, seal: Seal, what: str) -> Finding:
    sentence = f"The entry at {seal.position} ({seal.entry_id}) {what}."
    return Finding(wrong, sentence, seal.tenant_id, seal.position, seal.entry_id)
