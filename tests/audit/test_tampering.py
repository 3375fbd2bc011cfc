"""Whoever can do anything in the database cannot do it unseen: the check says which entry, and what happened to it."""

import io
import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.chain import hash_of, make_seal, said_by
from broker.audit.export import HeadLine, head
from broker.audit.models import AuditRow
from broker.audit.signing import Signer, encoded
from broker.audit.stored import record_of
from broker.audit.verify import Wrong
from broker.audit.verify_file import Verdict, verify_file
from broker.ids import new_id
from tests.audit.conftest import SIGNER, Trail

AT = "(SELECT entry_id FROM audit_seals WHERE tenant_id = :me AND position = {})"


def places(findings: Any) -> set[tuple[Wrong, int | None]]:
    """What is wrong at which place of the chain."""
    return {(each.wrong, each.position) for each in findings}


@pytest.fixture
async def sealed(trail: Trail) -> Trail:
    """Five entries, sealed."""
    await trail.write(4, limits={"bounce_rate": 0.05})
    await trail.seal_all()
    assert [] == await trail.findings()
    return trail


@pytest.mark.parametrize(
    "change",
    [
        """details = jsonb_set(details, '{limits,bounce_rate}', '0.5')""",
        "details = '{}'",
        "at = at - interval '1 microsecond'",
        "actor = 'system:sync'",
        "action = 'grant.revoke_requested'",
        "subject_id = tenant_id",
        "subject_kind = 'endpoint'",
        "counterpart_id = NULL",
        "key_id = NULL",
        "request_id = 'another'",
    ],
)
async def test_a_changed_entry_is_named(sealed: Trail, change: str) -> None:
    """Whichever column it is."""
    await sealed.tamper(f"UPDATE audit SET {change} WHERE id = {AT.format(3)}")

    [found] = await sealed.findings()
    assert (Wrong.CHANGED, 3, (await sealed.seals())[2].entry_id) == (found.wrong, found.position, found.entry_id)


async def test_an_entry_given_to_another_tenant_is_named(sealed: Trail) -> None:
    """It is in the chain of the one, and in the name of the other."""
    await sealed.tamper(f"UPDATE audit SET tenant_id = :other WHERE id = {AT.format(3)}", other=sealed.other.tenant)

    assert (Wrong.CHANGED, 3) in places(await sealed.findings())


async def test_swapped_times_are_named_at_both(sealed: Trail) -> None:
    """The chain has its own order, and each digest has its time."""
    await sealed.tamper(
        "UPDATE audit a SET at = b.at FROM audit b"
        f" WHERE (a.id = {AT.format(2)} AND b.id = {AT.format(4)}) OR (a.id = {AT.format(4)} AND b.id = {AT.format(2)})"
    )

    assert {(Wrong.CHANGED, 2), (Wrong.CHANGED, 4)} == places(await sealed.findings())


async def test_a_deleted_entry_is_named(sealed: Trail) -> None:
    """Its seal is still there."""
    entry = (await sealed.seals())[2].entry_id
    await sealed.tamper("DELETE FROM audit WHERE id = CAST(:id AS uuid)", id=entry)

    [found] = await sealed.findings()
    assert (Wrong.REMOVED, 3, entry) == (found.wrong, found.position, found.entry_id)


async def test_an_entry_deleted_with_its_seal_is_a_gap(sealed: Trail) -> None:
    """The places before and after it are known."""
    await sealed.tamper(
        f"DELETE FROM audit WHERE id = {AT.format(3)}",
        "DELETE FROM audit_seals WHERE tenant_id = :me AND position = 3",
    )

    assert {(Wrong.REMOVED, 3)} == places(await sealed.findings())


async def test_closing_the_gap_breaks_the_chain(sealed: Trail) -> None:
    """Places and hashes are part of what is hashed and signed."""
    await sealed.tamper(
        "DELETE FROM audit_seals WHERE tenant_id = :me AND position = 3",
        "UPDATE audit_seals SET position = 3 WHERE tenant_id = :me AND position = 4",
        "UPDATE audit_seals SET position = 4 WHERE tenant_id = :me AND position = 5",
    )

    assert {(Wrong.CHANGED, 3), (Wrong.CHANGED, 4), (Wrong.REORDERED, 3), (Wrong.CUT, 5)} <= places(
        await sealed.findings()
    )


async def test_swapped_seals_are_named(sealed: Trail) -> None:
    """Two entries in each other's place."""
    await sealed.tamper(
        "UPDATE audit_seals SET position = 99 WHERE tenant_id = :me AND position = 2",
        "UPDATE audit_seals SET position = 2 WHERE tenant_id = :me AND position = 4",
        "UPDATE audit_seals SET position = 4 WHERE tenant_id = :me AND position = 99",
    )

    assert {(Wrong.CHANGED, 2), (Wrong.CHANGED, 4)} <= places(await sealed.findings())


async def test_an_entry_put_in_before_the_head_is_named(sealed: Trail) -> None:
    """The sealer has passed it."""
    forged = new_id()
    await sealed.tamper(
        "INSERT INTO audit (id, tenant_id, actor, request_id, action, subject_kind, subject_id, details, xact)"
        " SELECT :id, :me, 'key', '', 'grant.approved', 'grant', :id, '{}', xact - 1 FROM audit"
        f" WHERE id = {AT.format(3)}",
        id=forged,
    )
    await sealed.write()
    await sealed.seal_all(leaving=1)

    [found] = await sealed.findings()
    assert (Wrong.INSERTED, str(forged)) == (found.wrong, found.entry_id)


async def test_a_cut_end_is_named(sealed: Trail) -> None:
    """The chain says how long it has to be."""
    await sealed.tamper(
        f"DELETE FROM audit WHERE id IN ({AT.format(4)}, {AT.format(5)})",
        "DELETE FROM audit_seals WHERE tenant_id = :me AND position > 3",
    )

    assert {(Wrong.CUT, 4)} == places(await sealed.findings())


async def test_a_cut_that_tidies_up_is_proven_by_a_head_kept_elsewhere(sealed: Trail) -> None:
    """Nothing in the database can tell any more; the head that the tenant keeps can."""
    kept = (await head(sealed.db, sealed.tenant, SIGNER)).head
    seals = await sealed.seals()
    await sealed.tamper(
        f"DELETE FROM audit WHERE id IN ({AT.format(4)}, {AT.format(5)})",
        "DELETE FROM audit_seals WHERE tenant_id = :me AND position > 3",
        "UPDATE audit_chains SET position = 3, hash = :hash WHERE id = :me",
        hash=seals[2].hash,
    )
    assert [] == await sealed.findings()
    await sealed.write(3)
    await sealed.seal_all()

    [found] = await sealed.findings(earlier=(kept.tenant_id, kept.position, kept.hash))

    assert (Wrong.FORGED, 5) == (found.wrong, found.position)
    assert "rewritten" in found.sentence


async def test_a_chain_rewritten_without_the_key_is_not_signed(sealed: Trail) -> None:
    """All hashes fit, and the signatures do not: the key is not in the database."""
    thief = Signer([b"x" * 32])
    await sealed.tamper(f"UPDATE audit SET details = '{{}}' WHERE id = {AT.format(5)}")
    last = (await sealed.seals())[4]
    async with AsyncSession(sealed.owner) as session:
        row = (await session.scalars(select(AuditRow).where(AuditRow.id == last.entry_id))).one()
    for signer, told in ((thief, "none of these"), (SIGNER, "")):
        forged = make_seal(record_of(row), position=5, previous=last.previous, sealed_at=row.at, signer=signer)
        key_id = forged.signature.key_id
        value = forged.signature.value if signer is thief else encoded(b"x" * 64)
        await sealed.tamper(
            "UPDATE audit_seals SET digest = :digest, hash = :hash, sealed_at = :at, key_id = :key, signature = :value"
            " WHERE tenant_id = :me AND position = 5",
            "UPDATE audit_chains SET hash = :hash WHERE id = :me",
            digest=forged.digest,
            hash=hash_of(forged),
            at=row.at,
            key=key_id,
            value=value,
        )

        [found] = await sealed.findings()
        assert (Wrong.FORGED, 5) == (found.wrong, found.position)
        assert told in found.sentence


async def test_a_chain_that_is_gone_is_missed(sealed: Trail) -> None:
    """Also with the row that says how long it is: its entries are older than all that is waiting."""
    await sealed.tamper("DELETE FROM audit_seals WHERE tenant_id = :me")
    assert {(Wrong.CUT, 1)} <= places(await sealed.findings())

    await sealed.tamper("DELETE FROM audit_chains WHERE id = :me")
    assert [Wrong.INSERTED] * 5 == [each.wrong for each in await sealed.findings()]


async def verdict(lines: list[bytes], *, earlier: HeadLine | None = None) -> Verdict:
    """Of an exported file."""
    return verify_file(io.BytesIO(b"".join(lines)), SIGNER.public, earlier=earlier)


async def test_an_export_proves_itself_to_both_parties(sealed: Trail) -> None:
    """The own chain as a whole, the other's entries one by one; the key that acted is the actor's own business."""
    mine, theirs = await sealed.export(), await sealed.export(sealed.other)

    assert ([], 5, 0) == ((one := await verdict(mine)).findings, one.own, one.others)
    assert str(sealed.tenant.key_id).encode() in b"".join(mine)
    assert str(sealed.tenant.key_id).encode() not in b"".join(theirs)
    assert 4 == (await verdict(theirs)).others
    assert [] == (await verdict(theirs)).findings


def edited(line: bytes, change: Any) -> bytes:
    """A line with something else in it."""
    told = json.loads(line)
    change(told)
    return json.dumps(told).encode() + b"\n"


async def test_what_was_done_to_a_file_is_named(sealed: Trail) -> None:
    """Changed, removed, moved, doubled, cut, with another head; and what is no export at all."""
    first, *rest = await sealed.export()
    changed = edited(rest[2], lambda told: told["record"]["details"].update(number=7))
    key = edited(rest[2], lambda told: told.update(key_id=str(new_id())))
    shorter = edited(first, lambda told: told["head"].update(position=4))
    files = {
        (Wrong.CHANGED, 3): [[first, *rest[:2], changed, *rest[3:]], [first, *rest[:2], key, *rest[3:]]],
        (Wrong.REMOVED, 3): [[first, *rest[:2], *rest[3:]]],
        (Wrong.REMOVED, 1): [[first, *rest[1:]]],
        (Wrong.REORDERED, 3): [[first, *rest[:2], rest[3], rest[2], rest[4]]],
        (Wrong.INSERTED, 3): [[first, *rest[:3], *rest[2:]]],
        (Wrong.CUT, 5): [[first, *rest[:4]]],
        (Wrong.CUT, 1): [[first]],
        (Wrong.CUT, None): [rest, []],
        (Wrong.FORGED, None): [[shorter, *rest[:4]]],
        (Wrong.UNREADABLE, None): [[first, *rest, b"{}\n"], [first, *rest, b"\xff\n"], [first, *rest, b"[" * 5000]],
    }

    for expected, each in files.items():
        for lines in each:
            assert expected in places((await verdict(lines)).findings), (expected, lines)
    assert [] == (await verdict([first, *rest])).findings


async def test_an_older_export_in_the_place_of_a_newer_one_is_found_by_a_later_head(sealed: Trail) -> None:
    """An old file is a good one; the head that was kept since says what it lacks."""
    old = await sealed.export()
    await sealed.write()
    await sealed.seal_all()
    kept = await head(sealed.db, sealed.tenant, SIGNER)

    assert [] == (await verdict(old)).findings
    assert {(Wrong.CUT, 6)} == places((await verdict(old, earlier=kept)).findings)
    assert [] == (await verdict(await sealed.export(), earlier=kept)).findings


async def test_a_seal_of_one_chain_is_no_seal_of_another(sealed: Trail) -> None:
    """Whose chain it is, is part of what is signed."""
    one = (await sealed.seals())[0]
    other = msgspec.structs.replace(one, tenant_id=str(sealed.other.tenant))

    assert said_by(one) != said_by(other)
    assert hash_of(other) != one.hash


@pytest.mark.parametrize(
    ("place", "name"), [("record", "note"), ("seal", "approved_by"), ("", "comment"), ("signature", "note")]
)
async def test_words_added_to_an_export_are_named(sealed: Trail, place: str, name: str) -> None:
    """No seal covers them, and whoever reads the file would take them for sealed."""
    lines = await sealed.export()
    told = json.loads(lines[2])
    inner = told["seal"]["signature"] if place == "signature" else told[place] if place else told
    inner[name] = "the owner agreed"
    found = (await verdict([*lines[:2], json.dumps(told).encode() + b"\n", *lines[3:]])).findings

    assert [Wrong.INSERTED] == [each.wrong for each in found]
    assert name in found[0].sentence


async def test_an_entry_that_says_one_thing_twice_is_not_of_an_export(sealed: Trail) -> None:
    """Readers differ in which of the two they take (RFC 8259, section 4)."""
    lines = await sealed.export()
    forged = lines[2].replace(b'"action":', b'"action":"grant.declined","action":', 1)
    found = (await verdict([*lines[:2], forged, *lines[3:]])).findings

    assert Wrong.UNREADABLE in [each.wrong for each in found]


async def test_an_export_that_hides_who_made_an_entry_is_named(sealed: Trail) -> None:
    """The own chain tells the key and the request of each."""
    lines = await sealed.export()
    told = json.loads(lines[3])
    told["key_id"] = told["request_id"] = None
    found = (await verdict([*lines[:3], json.dumps(told).encode() + b"\n", *lines[4:]])).findings

    assert [(Wrong.CHANGED, 3)] == [(each.wrong, each.position) for each in found]
